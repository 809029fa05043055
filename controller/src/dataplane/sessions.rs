//! Members of sets that rules refer to, and the end of sets: by libipset, without a process.
//!
//! One thread owns every session, since libipset keeps state for the whole process. It lives in the
//! network namespace of whoever opened it. Only adding, deleting and destroying are asked of the
//! crate: its restore ends the process on a bad line, and its list cannot read what it prints. An
//! address that is already as wanted is no failure; a set that the kernel still refers to is
//! reported as in use, and the caller tries again later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;

use ipset::Session;
use ipset::types::{Error as LibError, HashIp};

/// How many sets keep a session, and with it a socket, from one edit to the next.
const KEPT: usize = 64;

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
    /// The thread that owns the sessions could not be started or has ended.
    #[error("the thread that writes sets is gone")]
    Gone,
}

impl SetError {
    fn new(operation: &'static str, set: &str, error: &LibError) -> Self {
        let set = set.to_owned();
        let message = match error {
            LibError::DataSet(text, _) | LibError::Cmd(text, _) | LibError::TypeGet(text, _) => {
                text.trim().to_owned()
            }
            other => other.to_string(),
        };
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

/// What is asked of the thread.
enum Request {
    Add { set: String, members: Vec<IpAddr>, reply: mpsc::Sender<Result<usize, SetError>> },
    Remove { set: String, members: Vec<IpAddr>, reply: mpsc::Sender<Result<usize, SetError>> },
    Destroy { set: String, reply: mpsc::Sender<Result<(), SetError>> },
}

/// The sessions, as their owner's thread is spoken to. The thread ends with it.
#[derive(Debug)]
pub struct Sessions {
    requests: mpsc::Sender<Request>,
}

impl Sessions {
    /// Starts the thread, in the network namespace of the caller.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn open() -> Result<Self, SetError> {
        let (requests, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("ipset".to_owned())
            .spawn(move || serve(&inbox))
            .map_err(|_| SetError::Gone)?;
        Ok(Self { requests })
    }

    /// Adds members to a `hash:ip` set, and says how many were not there before.
    ///
    /// # Errors
    /// Where the set is missing or the kernel refuses; members before the refused one are added.
    pub fn add(&self, set: &str, members: &BTreeSet<IpAddr>) -> Result<usize, SetError> {
        let members = members.iter().copied().collect();
        self.ask(|reply| Request::Add { set: set.to_owned(), members, reply })
    }

    /// Removes members from a `hash:ip` set, and says how many were there before.
    ///
    /// # Errors
    /// Where the set is missing or the kernel refuses; members before the refused one are removed.
    pub fn remove(&self, set: &str, members: &BTreeSet<IpAddr>) -> Result<usize, SetError> {
        let members = members.iter().copied().collect();
        self.ask(|reply| Request::Remove { set: set.to_owned(), members, reply })
    }

    /// Destroys a set of any type.
    ///
    /// # Errors
    /// Where it is in use or missing, or the kernel refuses.
    pub fn destroy(&self, set: &str) -> Result<(), SetError> {
        self.ask(|reply| Request::Destroy { set: set.to_owned(), reply })
    }

    fn ask<T>(
        &self,
        request: impl FnOnce(mpsc::Sender<Result<T, SetError>>) -> Request,
    ) -> Result<T, SetError> {
        let (reply, answer) = mpsc::channel();
        self.requests.send(request(reply)).map_err(|_| SetError::Gone)?;
        answer.recv().map_err(|_| SetError::Gone)?
    }
}

/// Sessions by set. libipset's own list of set types is shared between them.
#[derive(Default)]
struct Kept(BTreeMap<String, Session<HashIp>>);

impl Kept {
    fn of(&mut self, set: &str) -> &mut Session<HashIp> {
        if self.0.len() >= KEPT && !self.0.contains_key(set) {
            self.0.clear();
        }
        self.0.entry(set.to_owned()).or_insert_with(|| Session::new(set.to_owned()))
    }

    fn edit(
        &mut self,
        operation: &'static str,
        set: &str,
        members: &[IpAddr],
        edit: impl Fn(&mut Session<HashIp>, IpAddr) -> Result<bool, LibError>,
    ) -> Result<usize, SetError> {
        let session = self.of(set);
        let mut changed = 0;
        for member in members {
            match edit(session, *member) {
                Ok(done) => changed += usize::from(done),
                Err(error) => return Err(SetError::new(operation, set, &error)),
            }
        }
        Ok(changed)
    }

    fn destroy(&mut self, set: &str) -> Result<(), SetError> {
        // A session of its own: libipset keeps what a session last said about its set.
        self.0.remove(set);
        let mut session: Session<HashIp> = Session::new(set.to_owned());
        match session.destroy() {
            Ok(true) => Ok(()),
            Ok(false) => Err(SetError::InUse { set: set.to_owned() }),
            Err(error) => Err(SetError::new("destroy", set, &error)),
        }
    }
}

fn serve(inbox: &mpsc::Receiver<Request>) {
    let mut kept = Kept::default();
    // Whoever asked and left without waiting has no use for the answer.
    while let Ok(request) = inbox.recv() {
        match request {
            Request::Add { set, members, reply } => {
                let _ = reply.send(kept.edit("add to", &set, &members, |s, ip| s.add(ip, &[])));
            }
            Request::Remove { set, members, reply } => {
                let _ = reply.send(kept.edit("remove from", &set, &members, Session::del));
            }
            Request::Destroy { set, reply } => {
                let _ = reply.send(kept.destroy(&set));
            }
        }
    }
}
