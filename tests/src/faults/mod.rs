//! Faults between policyd and what it needs of the node: its programs, and libipset.
//!
//! ```text
//!  test ──plan──> folder <──reads── shim      under the names of iptables' and ipset's programs
//!    └──── reads what happened ──────┘ └────< enforcer: policyd's loop, over a libipset that fails
//! ```
//!
//! A test makes a [`Faults`] folder and gives orders: which call is to fail, how, and how many times.
//! An [`enforcer`] is policyd's own loop as a process, with limits that a test can wait for, which finds
//! the [`shim`] in the place of every program. Whoever meets an order carries it out and says so; a call
//! that no order is about goes through as it is. One lock guards the folder, so that each order is
//! carried out as often as it says and no more.

pub mod enforcer;
mod fault;
pub mod shim;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

pub use self::fault::{Fault, Order};
use crate::error::LabError;

/// The variable that names the folder to the shim and to the enforcer.
pub const FOLDER: &str = "POLICY_FAULTS";
/// The variable that has the search path of the real programs.
pub const REAL_PATH: &str = "POLICY_FAULTS_PATH";

/// The programs that the shim stands for.
pub const PROGRAMS: [&str; 13] = [
    "iptables-nft",
    "iptables-nft-restore",
    "iptables-nft-save",
    "ip6tables-nft",
    "ip6tables-nft-restore",
    "ip6tables-nft-save",
    "iptables-legacy",
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "ip6tables-legacy",
    "ip6tables-legacy-restore",
    "ip6tables-legacy-save",
    "ipset",
];

/// How a program can be kept from starting at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// There is none of that name.
    Missing,
    /// There is a file of that name, which nobody may execute.
    NotExecutable,
}

/// A folder with orders, what came of them, and the programs that follow them.
#[derive(Clone, Debug)]
pub struct Faults {
    folder: PathBuf,
    shim: PathBuf,
}

/// Whether an enforcer says that it is ready, and why it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness(pub Vec<String>);

impl Faults {
    /// Makes the folder's content; `shim` is the program that stands for all others.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn create(folder: &Path, shim: &Path) -> Result<Self, LabError> {
        let faults = Self { folder: folder.to_owned(), shim: shim.to_owned() };
        faults.write("plan", "")?;
        faults.write("happened", "")?;
        let bin = faults.bin();
        fs::create_dir_all(&bin).map_err(|source| access(&bin, source))?;
        for program in PROGRAMS {
            faults.mend(program)?;
        }
        Ok(faults)
    }

    /// The folder of whoever was started with [`FOLDER`].
    ///
    /// # Errors
    /// Where that is not set.
    pub fn inherited() -> io::Result<Self> {
        let folder = std::env::var_os(FOLDER);
        let folder = folder.ok_or_else(|| io::Error::other(format!("{FOLDER} is not set")))?;
        Ok(Self { folder: folder.into(), shim: std::env::current_exe()? })
    }

    fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// What a process is to be started with in order to meet the faults.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        vec![
            (FOLDER, self.folder.clone().into()),
            (REAL_PATH, path),
            // Nothing else is in it, so that a program can be missing.
            ("PATH", self.bin().into()),
        ]
    }

    /// Keeps a program from starting.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn take_away(&self, program: &str, absence: Absence) -> Result<(), LabError> {
        let path = self.bin().join(program);
        fs::remove_file(&path).map_err(|source| access(&path, source))?;
        if absence == Absence::NotExecutable {
            fs::write(&path, "").map_err(|source| access(&path, source))?;
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(&path, mode).map_err(|source| access(&path, source))?;
        }
        Ok(())
    }

    /// Lets it start again.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn mend(&self, program: &str) -> Result<(), LabError> {
        let (path, beside) = (self.bin().join(program), self.bin().join(".next"));
        symlink(&self.shim, &beside).map_err(|source| access(&beside, source))?;
        fs::rename(&beside, &path).map_err(|source| access(&path, source))
    }

    /// Gives orders in the place of all earlier ones, and forgets what happened.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn order(&self, orders: &[Order]) -> Result<(), LabError> {
        let _lock = self.lock().map_err(|source| access(&self.folder, source))?;
        self.write("happened", "")?;
        self.write("plan", &lines(orders))
    }

    /// No more faults.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn cease(&self) -> Result<(), LabError> {
        let _lock = self.lock().map_err(|source| access(&self.folder, source))?;
        self.write("plan", "")
    }

    /// The faults that were met since the last orders, each with its call.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn happened(&self) -> Result<Vec<String>, LabError> {
        let path = self.folder.join("happened");
        let text = fs::read_to_string(&path).map_err(|source| access(&path, source))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Waits until so many faults were met.
    ///
    /// # Errors
    /// Where they are not in time.
    pub fn await_happened(&self, count: usize, patience: Duration) -> Result<(), LabError> {
        await_that(patience, || {
            let happened = self.happened()?;
            let what = || format!("{count} faults; {happened:?}");
            Ok(if happened.len() >= count { Ok(()) } else { Err(what()) })
        })
    }

    /// What the enforcer last said of itself; nothing before it has said anything.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn readiness(&self) -> Result<Option<Readiness>, LabError> {
        let path = self.folder.join("readiness");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Readiness(text.lines().map(str::to_owned).collect()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(access(&path, source)),
        }
    }

    /// Waits until the enforcer is ready.
    ///
    /// # Errors
    /// Where it is not in time.
    pub fn await_ready(&self, patience: Duration) -> Result<(), LabError> {
        await_that(patience, || {
            let readiness = self.readiness()?;
            let is_ready = readiness.as_ref().is_some_and(|r| r.0.is_empty());
            Ok(if is_ready { Ok(()) } else { Err(format!("readiness, but {readiness:?},")) })
        })
    }

    /// Waits until the enforcer is not ready for a reason with all of `words`, and says it.
    ///
    /// # Errors
    /// Where it has none in time.
    pub fn await_reason(&self, words: &[&str], patience: Duration) -> Result<String, LabError> {
        await_that(patience, || {
            let readiness = self.readiness()?;
            let reasons = readiness.map(|r| r.0).unwrap_or_default();
            let fits = |reason: &&String| words.iter().all(|word| reason.contains(word));
            let what = || format!("a reason with {words:?}; {reasons:?}");
            Ok(reasons.iter().find(fits).cloned().ok_or_else(what))
        })
    }

    /// Forgets what an enforcer said that is no more.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn forget_readiness(&self) -> Result<(), LabError> {
        let path = self.folder.join("readiness");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(access(&path, error)),
            _ => Ok(()),
        }
    }

    /// Says of the enforcer whether it is ready.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn tell(&self, readiness: &Readiness) -> Result<(), LabError> {
        self.write("readiness", &readiness.0.join("\n"))
    }

    /// The fault that a call is to meet now, which is then used up.
    ///
    /// # Errors
    /// Where the folder cannot be read or written.
    pub fn meet(&self, call: &str) -> io::Result<Option<Fault>> {
        let _lock = self.lock()?;
        let plan = fs::read_to_string(self.folder.join("plan"))?;
        let mut orders: Vec<Order> = plan.lines().filter_map(|line| line.parse().ok()).collect();
        let fault = orders.iter_mut().find_map(|order| order.meet(call));
        // A call that is spared counts too.
        let left = lines(&orders);
        if left != plan {
            self.write("plan", &left).map_err(io::Error::other)?;
        }
        let Some(fault) = fault else { return Ok(None) };
        let mut happened = OpenOptions::new().append(true).open(self.folder.join("happened"))?;
        writeln!(happened, "{call} {fault}")?;
        Ok(Some(fault))
    }

    fn lock(&self) -> io::Result<Flock<File>> {
        let file = File::create(self.folder.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    }

    /// Whoever reads sees the old text or the new.
    fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let (path, beside) = (self.folder.join(name), self.folder.join(format!(".{name}")));
        fs::write(&beside, text).map_err(|source| access(&beside, source))?;
        fs::rename(&beside, &path).map_err(|source| access(&path, source))
    }
}

fn lines(orders: &[Order]) -> String {
    orders.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn access(path: &Path, source: io::Error) -> LabError {
    LabError::File { path: path.display().to_string(), source }
}

/// Looks again and again, until what is waited for is there; else it was what the look says.
fn await_that<T>(
    patience: Duration,
    look: impl Fn() -> Result<Result<T, String>, LabError>,
) -> Result<T, LabError> {
    let begun = Instant::now();
    loop {
        match look()? {
            Ok(found) => return Ok(found),
            Err(what) if begun.elapsed() > patience => {
                return Err(LabError::TimeOut { what, seconds: patience.as_secs() });
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_carried_out_as_often_as_it_says_and_told_of() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let faults =
            Faults::create(folder.path(), Path::new("/no/shim")).unwrap_or_else(|e| panic!("{e}"));
        let order = Order::of("ip6tables-*-restore*", Fault::Fail).after(1).times(2);
        faults
            .order(&[order, Order::of("ipset:make", Fault::Hang)])
            .unwrap_or_else(|e| panic!("{e}"));
        let meet = |call: &str| faults.meet(call).unwrap_or_else(|error| panic!("{error}"));
        let calls =
            ["ip6tables-nft-restore", "ip6tables-nft-restore:commit", "iptables-nft-restore"];
        assert_eq!(calls.map(meet), [None, Some(Fault::Fail), None]);
        assert_eq!(calls.map(meet), [Some(Fault::Fail), None, None]);
        assert_eq!(["ipset:list", "ipset:make"].map(meet), [None, Some(Fault::Hang)]);
        let happened = faults.happened().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            happened,
            ["ip6tables-nft-restore:commit fail", "ip6tables-nft-restore fail", "ipset:make hang"]
        );
    }
}
