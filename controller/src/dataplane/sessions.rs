//! Members of sets that rules refer to, small new sets, and the end of sets: by libipset, without a
//! process.
//!
//! One thread owns every session, since libipset keeps state for the whole process. It lives in the
//! network namespace of whoever asks first. Only creating, adding, deleting and destroying are asked of
//! the crate: its restore ends the process on a bad line, and its list cannot read what it prints. An
//! address that is already as wanted is no failure; a set that the kernel still refers to is
//! reported as in use, and the caller tries again later.
//!
//! Nobody waits for ever. A call that the kernel does not answer in time is given up, and until it is
//! answered after all every other is refused at once: it would only stand in line behind. A thread that
//! has ended is replaced by the next call.

mod libipset;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::MemberSet;

pub use self::libipset::Libipset;

/// How long the kernel may take for one set: it takes 5 µs for a member.
pub const LIMIT: Duration = Duration::from_secs(10);
/// And for each member besides.
const PER_MEMBER: Duration = Duration::from_micros(100);

/// Why a set could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such set.
    #[error("set `{set}` does not exist")]
    Missing {
        /// Its name.
        set: String,
    },
    /// Rules refer to it, or did a moment ago.
    #[error("set `{set}` is in use")]
    InUse {
        /// Its name.
        set: String,
    },
    /// It holds as many members as it may.
    #[error("set `{set}` is full")]
    Full {
        /// Its name.
        set: String,
    },
    /// Anything else that libipset reports.
    #[error("cannot {operation} set `{set}`: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Its name.
        set: String,
        /// What libipset said.
        message: String,
    },
    /// The kernel has not answered in time, for this set or for one before it.
    #[error("cannot {operation} set `{set}`: the kernel does not answer")]
    Late {
        /// What was asked.
        operation: &'static str,
        /// Its name.
        set: String,
    },
    /// The thread that owns the sessions could not be started or has ended.
    #[error("the thread that writes sets is gone")]
    Gone,
}

impl SetError {
    fn new(operation: &'static str, set: &str, message: &str) -> Self {
        let (set, message) = (set.to_owned(), message.trim().to_owned());
        if message.contains("does not exist") {
            SetError::Missing { set }
        } else if message.contains("in use") {
            SetError::InUse { set }
        } else if message.contains("is full") {
            SetError::Full { set }
        } else {
            SetError::Refused { operation, set, message }
        }
    }
}

/// A set that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSet {
    /// Its name.
    pub name: String,
    /// Of which family's addresses.
    pub family: Family,
    /// Whether it is a `hash:net`, and not a `hash:ip`.
    pub networks: bool,
    /// With how many hash buckets.
    pub buckets: u32,
    /// How many members it may come to hold.
    pub capacity: u32,
    /// What it is filled with.
    pub members: MemberSet,
}

/// What is asked of libipset, one member or one set at a time. A failure is what it says in words.
pub trait SetCalls {
    /// Makes a set that is not there, and fills it.
    ///
    /// # Errors
    /// Where libipset reports one; the set may be there then, with some of its members.
    fn create(&mut self, set: &NewSet) -> Result<(), String>;

    /// Adds a member to a `hash:ip` set; whether it was not there before.
    ///
    /// # Errors
    /// Where libipset reports one.
    fn add(&mut self, set: &str, member: IpAddr) -> Result<bool, String>;

    /// Removes a member from a `hash:ip` set; whether it was there before.
    ///
    /// # Errors
    /// Where libipset reports one.
    fn remove(&mut self, set: &str, member: IpAddr) -> Result<bool, String>;

    /// Destroys a set of any type; whether it is gone, and not in use.
    ///
    /// # Errors
    /// Where libipset reports one.
    fn destroy(&mut self, set: &str) -> Result<bool, String>;
}

/// Makes what is asked, on the thread that will ask it.
pub type Opener = Arc<dyn Fn() -> Box<dyn SetCalls> + Send + Sync>;

/// What is asked of the thread.
enum Request {
    Create { sets: Vec<NewSet>, reply: mpsc::Sender<Result<(), SetError>> },
    Add { set: String, members: Vec<IpAddr>, reply: mpsc::Sender<Result<usize, SetError>> },
    Remove { set: String, members: Vec<IpAddr>, reply: mpsc::Sender<Result<usize, SetError>> },
    Destroy { set: String, reply: mpsc::Sender<Result<(), SetError>> },
}

/// The sessions, as their owner's thread is spoken to. The thread ends with it.
pub struct Sessions {
    opener: Opener,
    limit: Duration,
    line: Mutex<Option<Line>>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The way to a thread that runs, and how far it has come.
struct Line {
    requests: mpsc::Sender<Request>,
    asked: u64,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Line {
    fn open(opener: &Opener) -> Result<Self, SetError> {
        let (requests, inbox) = mpsc::channel();
        let answered = Arc::new(AtomicU64::new(0));
        let (opener, count) = (Arc::clone(opener), Arc::clone(&answered));
        let thread = thread::Builder::new()
            .name("ipset".to_owned())
            .spawn(move || serve(&mut *opener(), &inbox, &count))
            .map_err(|_| SetError::Gone)?;
        Ok(Self { requests, asked: 0, answered, thread })
    }

    fn is_waited_for(&self) -> bool {
        self.answered.load(Ordering::Acquire) < self.asked
    }
}

impl Sessions {
    /// Starts the thread, in the network namespace of the caller.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn open() -> Result<Self, SetError> {
        Self::open_on(Arc::new(|| Box::new(Libipset::default())), LIMIT)
    }

    /// The same over something else than libipset, which is given `limit` to answer.
    ///
    /// # Errors
    /// As [`Sessions::open`].
    pub fn open_on(opener: Opener, limit: Duration) -> Result<Self, SetError> {
        let line = Line::open(&opener)?;
        Ok(Self { opener, limit, line: Mutex::new(Some(line)) })
    }

    /// Makes sets that are not there, and fills them.
    ///
    /// # Errors
    /// Where one is there already or the kernel refuses; those before it are made, and it may be.
    pub fn create(&self, sets: Vec<NewSet>) -> Result<(), SetError> {
        let Some(first) = sets.first().map(|set| set.name.clone()) else { return Ok(()) };
        let members = sets.iter().map(|set| set.members.len()).sum();
        self.ask(("create", &first), members, |reply| Request::Create { sets, reply })
    }

    /// Adds members to a `hash:ip` set, and says how many were not there before.
    ///
    /// # Errors
    /// Where the set is missing or the kernel refuses; members before the refused one are added.
    pub fn add(&self, set: &str, members: &BTreeSet<IpAddr>) -> Result<usize, SetError> {
        let all = members.iter().copied().collect();
        self.ask(("add to", set), members.len(), |reply| Request::Add {
            set: set.to_owned(),
            members: all,
            reply,
        })
    }

    /// Removes members from a `hash:ip` set, and says how many were there before.
    ///
    /// # Errors
    /// Where the set is missing or the kernel refuses; members before the refused one are removed.
    pub fn remove(&self, set: &str, members: &BTreeSet<IpAddr>) -> Result<usize, SetError> {
        let all = members.iter().copied().collect();
        self.ask(("remove from", set), members.len(), |reply| Request::Remove {
            set: set.to_owned(),
            members: all,
            reply,
        })
    }

    /// Destroys a set of any type.
    ///
    /// # Errors
    /// Where it is in use or missing, or the kernel refuses.
    pub fn destroy(&self, set: &str) -> Result<(), SetError> {
        self.ask(("destroy", set), 1, |reply| Request::Destroy { set: set.to_owned(), reply })
    }

    fn ask<T>(
        &self,
        (operation, set): (&'static str, &str),
        members: usize,
        request: impl FnOnce(mpsc::Sender<Result<T, SetError>>) -> Request,
    ) -> Result<T, SetError> {
        let late = || SetError::Late { operation, set: set.to_owned() };
        let mut place = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match place.take().filter(|line| !line.thread.is_finished()) {
            Some(line) => line,
            None => Line::open(&self.opener)?,
        };
        let line = place.insert(line);
        if line.is_waited_for() {
            return Err(late());
        }
        let (reply, answer) = mpsc::channel();
        line.requests.send(request(reply)).map_err(|_| SetError::Gone)?;
        line.asked += 1;
        let more = PER_MEMBER.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX));
        match answer.recv_timeout(self.limit.saturating_add(more)) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(late()),
            Err(RecvTimeoutError::Disconnected) => {
                // It is about to end, and must not be asked again.
                *place = None;
                Err(SetError::Gone)
            }
        }
    }
}

fn serve(calls: &mut dyn SetCalls, inbox: &mpsc::Receiver<Request>, answered: &AtomicU64) {
    while let Ok(request) = inbox.recv() {
        // It counts as answered before the answer can be heard, so that whoever hears it may ask again.
        // Whoever asked and left without waiting has no use for it.
        match request {
            Request::Create { sets, reply } => {
                let result = sets.iter().try_for_each(|set| {
                    let failed = |message: String| SetError::new("create", &set.name, &message);
                    calls.create(set).map_err(failed)
                });
                answered.fetch_add(1, Ordering::Release);
                let _ = reply.send(result);
            }
            Request::Add { set, members, reply } => {
                let result = edit("add to", &set, &members, |ip| calls.add(&set, ip));
                answered.fetch_add(1, Ordering::Release);
                let _ = reply.send(result);
            }
            Request::Remove { set, members, reply } => {
                let result = edit("remove from", &set, &members, |ip| calls.remove(&set, ip));
                answered.fetch_add(1, Ordering::Release);
                let _ = reply.send(result);
            }
            Request::Destroy { set, reply } => {
                let result = match calls.destroy(&set) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(SetError::InUse { set }),
                    Err(message) => Err(SetError::new("destroy", &set, &message)),
                };
                answered.fetch_add(1, Ordering::Release);
                let _ = reply.send(result);
            }
        }
    }
}

fn edit(
    operation: &'static str,
    set: &str,
    members: &[IpAddr],
    mut edit: impl FnMut(IpAddr) -> Result<bool, String>,
) -> Result<usize, SetError> {
    let mut changed = 0;
    for member in members {
        match edit(*member) {
            Ok(done) => changed += usize::from(done),
            Err(message) => return Err(SetError::new(operation, set, &message)),
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Sets that do as their names say.
    struct Scripted(Arc<Mutex<mpsc::Receiver<()>>>);

    impl Scripted {
        fn answer(&mut self, set: &str) -> Result<bool, String> {
            match set {
                "hangs" => {
                    let _ = self.0.lock().unwrap().recv();
                    Ok(true)
                }
                "kills" => panic!("the thread ends here"),
                "known" => Ok(false),
                "fine" => Ok(true),
                message => Err(message.to_owned()),
            }
        }
    }

    impl SetCalls for Scripted {
        fn create(&mut self, set: &NewSet) -> Result<(), String> {
            self.answer(&set.name).map(drop)
        }

        fn add(&mut self, set: &str, _: IpAddr) -> Result<bool, String> {
            self.answer(set)
        }

        fn remove(&mut self, set: &str, _: IpAddr) -> Result<bool, String> {
            self.answer(set)
        }

        fn destroy(&mut self, set: &str) -> Result<bool, String> {
            self.answer(set)
        }
    }

    /// Sessions that wait for so long, and what lets a hanging call go on.
    fn scripted(limit: Duration) -> (Sessions, mpsc::Sender<()>) {
        let (release, held) = mpsc::channel();
        let held = Arc::new(Mutex::new(held));
        let opener: Opener = Arc::new(move || Box::new(Scripted(Arc::clone(&held))));
        (Sessions::open_on(opener, limit).unwrap(), release)
    }

    fn two() -> BTreeSet<IpAddr> {
        ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).into()
    }

    #[test]
    fn what_libipset_says_is_told_apart() {
        let (sessions, _release) = scripted(LIMIT);
        assert_eq!(sessions.add("fine", &two()), Ok(2));
        assert_eq!(sessions.remove("known", &two()), Ok(0));
        assert_eq!(sessions.destroy("fine"), Ok(()));
        assert_eq!(sessions.destroy("known"), Err(SetError::InUse { set: "known".to_owned() }));
        let missing = "The set with the given name does not exist";
        let full = "Hash is full, cannot add more elements";
        let used = "Set cannot be destroyed: it is in use by a kernel component";
        let memory = "Kernel error received: Cannot allocate memory";
        let refused = |operation| SetError::Refused {
            operation,
            set: memory.to_owned(),
            message: memory.to_owned(),
        };
        for (set, expected) in [
            (missing, SetError::Missing { set: missing.to_owned() }),
            (full, SetError::Full { set: full.to_owned() }),
            (used, SetError::InUse { set: used.to_owned() }),
        ] {
            assert_eq!(sessions.add(set, &two()), Err(expected.clone()));
            assert_eq!(sessions.destroy(set), Err(expected));
        }
        assert_eq!(sessions.add(memory, &two()), Err(refused("add to")));
        assert_eq!(sessions.remove(memory, &two()), Err(refused("remove from")));
    }

    #[test]
    fn nobody_waits_longer_than_the_limit_nor_behind_a_call_that_hangs() {
        let (sessions, release) = scripted(Duration::from_millis(50));
        let late = |set: &str| SetError::Late { operation: "add to", set: set.to_owned() };
        assert_eq!(sessions.add("hangs", &two()), Err(late("hangs")));
        let begun = Instant::now();
        for _ in 0..1000 {
            assert_eq!(sessions.add("fine", &two()), Err(late("fine")));
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "none of them has waited");
        drop(release);
        let begun = Instant::now();
        while sessions.add("fine", &two()) != Ok(2) {
            assert!(begun.elapsed() < Duration::from_secs(20), "answered after all");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_that_has_ended_is_replaced() {
        let (sessions, _release) = scripted(LIMIT);
        assert_eq!(sessions.destroy("kills"), Err(SetError::Gone));
        assert_eq!(sessions.add("fine", &two()), Ok(2));
    }
}
