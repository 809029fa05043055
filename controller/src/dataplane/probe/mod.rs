//! Finding out cheaply that somebody else may have changed what policyd wrote.
//!
//! A probe starts no process and waits for nothing. It never says what has changed, only that something
//! may have: then the rules are read and compared.
//!
//! | what | where it shows |
//! | --- | --- |
//! | rules and chains, nft | the generation of `nf_tables`, less our own transactions |
//! | rules and chains, legacy | closings of the lock file, less our own |
//! | sets | their headers, compared with what was made |
//!
//! Invariants: in doubt something has changed; what cannot be asked is said once, is left to the readings
//! that come by time alone, and is asked again every minute.

mod generation;
pub(super) mod headers;
mod ledger;
mod lock_watch;
mod netfilter;
pub(crate) mod own;

use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use tracing::{info, warn};

use self::headers::Headers;
use self::ledger::Ledger;
use self::lock_watch::LockWatch;
use self::netfilter::{Netfilter, ProbeError};
use super::backend::Backend;
use super::error_chain;

/// How long what cannot be asked is left alone: the kernel looks for a module each time.
const BLIND: Duration = Duration::from_mins(1);

/// What one look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether somebody else may have changed rules, of whichever family.
    pub(super) tables: bool,
    /// The sets of each family, IPv4 first; nothing where nobody can tell.
    pub(super) sets: Sets,
}

/// What is known of the sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sets {
    /// Their headers.
    Found([Headers; 2]),
    /// They could not be read this time.
    Doubtful,
    /// They cannot be asked for.
    Unknown,
}

impl Look {
    /// The headers of a family's sets.
    pub(super) fn headers(&self, family: Family) -> Option<&Headers> {
        match (&self.sets, family) {
            (Sets::Found([v4, _]), Family::V4) => Some(v4),
            (Sets::Found([_, v6]), Family::V6) => Some(v6),
            (Sets::Doubtful | Sets::Unknown, _) => None,
        }
    }
}

/// All probes of a network namespace.
#[derive(Debug)]
pub(super) struct Probes {
    backend: Backend,
    netfilter: Netfilter,
    watch: Option<LockWatch>,
    ledger: Ledger,
    tables: Sight,
    sets: Sight,
}

impl Probes {
    /// Probes of what is written through `backend`, from now on.
    pub(super) fn new(backend: Backend) -> Self {
        let mut probes = Self {
            backend,
            netfilter: Netfilter::default(),
            watch: None,
            ledger: Ledger::default(),
            tables: Sight::new("rules"),
            sets: Sight::new("sets"),
        };
        // The first look begins the count.
        probes.look_at_tables();
        probes
    }

    /// Looks at what is written through `backend`, which may be another than before.
    pub(super) fn look(&mut self, backend: Backend) -> Look {
        if backend != self.backend {
            *self = Self::new(backend);
        }
        Look { tables: self.look_at_tables(), sets: self.look_at_sets() }
    }

    fn look_at_tables(&mut self) -> bool {
        if !self.tables.is_open() {
            return false;
        }
        // Ours are read first: one that is begun in between must not look like somebody else's.
        let own = own::count(self.backend);
        let seen = match self.backend {
            Backend::Nft => generation::read(&mut self.netfilter),
            Backend::Legacy => self.closings(),
        };
        match self.tables.take(seen) {
            Ok(seen) => self.ledger.take(seen, own),
            Err(Dim::Doubtful) => true,
            Err(Dim::Blind) => {
                self.ledger = Ledger::default();
                false
            }
        }
    }

    fn closings(&mut self) -> Result<u32, ProbeError> {
        let watch = if let Some(watch) = self.watch.take() {
            watch
        } else {
            self.ledger = Ledger::default();
            LockWatch::start().map_err(ProbeError::Refused)?
        };
        let closings = watch.closings();
        let closings = closings.ok_or_else(|| ProbeError::Answer("nobody watches".to_owned()))?;
        self.watch = Some(watch);
        Ok(closings)
    }

    fn look_at_sets(&mut self) -> Sets {
        if !self.sets.is_open() {
            return Sets::Unknown;
        }
        let read = headers::read(&mut self.netfilter);
        match self.sets.take(read) {
            Ok(headers) => Sets::Found(headers),
            Err(Dim::Doubtful) => Sets::Doubtful,
            Err(Dim::Blind) => Sets::Unknown,
        }
    }
}

/// Why nothing was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dim {
    /// Only this time.
    Doubtful,
    /// There is nothing to be seen here.
    Blind,
}

/// Whether something can be seen at all.
#[derive(Debug)]
struct Sight {
    what: &'static str,
    blind_until: Option<Instant>,
}

impl Sight {
    fn new(what: &'static str) -> Self {
        Self { what, blind_until: None }
    }

    fn is_open(&self) -> bool {
        self.blind_until.is_none_or(|until| until <= Instant::now())
    }

    fn take<T>(&mut self, seen: Result<T, ProbeError>) -> Result<T, Dim> {
        match seen {
            Ok(seen) => {
                if self.blind_until.take().is_some() {
                    info!(what = self.what, "others' changes are noticed again");
                }
                Ok(seen)
            }
            Err(ProbeError::Refused(error)) => {
                if self.blind_until.is_none() {
                    warn!(
                        what = self.what, error = %error_chain(&ProbeError::Refused(error)),
                        "others' changes cannot be noticed, and are found by --verify-interval alone"
                    );
                }
                self.blind_until = Some(Instant::now() + BLIND);
                Err(Dim::Blind)
            }
            Err(_) => Err(Dim::Doubtful),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_fails_once_is_doubtful_and_what_is_refused_is_left_alone() {
        let mut sight = Sight::new("rules");
        let refused = || ProbeError::Refused(io::Error::from_raw_os_error(22));
        let full = || ProbeError::Socket(io::Error::from_raw_os_error(105));
        assert_eq!(sight.take::<u32>(Err(full())), Err(Dim::Doubtful));
        assert!(sight.is_open());
        assert_eq!(sight.take::<u32>(Err(refused())), Err(Dim::Blind));
        assert!(!sight.is_open());
        assert_eq!(sight.take(Ok(7)), Ok(7));
        assert!(sight.is_open());
    }
}
