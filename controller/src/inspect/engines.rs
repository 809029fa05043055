//! Another engine's policies beside ours, in the iptables that we write to or in the other one.
//!
//! Ours are known from the dataplane's readings. The other one's are read now and then on a thread
//! of their own: it may be large, and its program may hang.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;

use super::{Concern, ConcernKind, Sight};
use crate::dataplane::backend::Backend;
use crate::dataplane::command::{CommandError, Runner};
use crate::dataplane::engines::PolicyEngine;
use crate::dataplane::{error_chain, iptables, is_closed_to_us};

/// How often the other backend is read.
const EVERY: Duration = Duration::from_mins(1);
/// How long its program may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The engines found in a backend, or why it cannot be read.
type Found = Result<BTreeSet<(PolicyEngine, Family)>, String>;

/// What the other backend holds, as last read.
#[derive(Debug)]
pub(super) struct OtherBackend {
    /// Which of the two is ours.
    ours: Option<Backend>,
    found: Found,
    reading: Option<Receiver<Found>>,
    next: Option<Instant>,
}

impl Default for OtherBackend {
    fn default() -> Self {
        Self { ours: None, found: Ok(BTreeSet::new()), reading: None, next: None }
    }
}

impl OtherBackend {
    /// Takes what a reading found, and begins another where it is time. `backend` is ours.
    pub(super) fn look(&mut self, backend: Backend, now: Instant) {
        if self.ours != Some(backend) {
            *self = Self { ours: Some(backend), ..Self::default() };
        }
        if let Some(reading) = &self.reading {
            match reading.try_recv() {
                Ok(found) => self.found = found,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {}
            }
            self.reading = None;
        }
        if self.next.is_some_and(|at| now < at) {
            return;
        }
        self.next = Some(now + EVERY);
        let (to, reading) = mpsc::channel();
        let other = backend.other();
        // In the network namespace of the caller, as every thread that it starts.
        let thread = thread::Builder::new().name("other-backend".to_owned()).spawn(move || {
            // Nobody listens where policyd ends.
            let _ = to.send(read(other));
        });
        match thread {
            Ok(_) => self.reading = Some(reading),
            Err(error) => self.found = Err(error.to_string()),
        }
    }
}

fn read(backend: Backend) -> Found {
    let runner = Runner::new(LIMIT);
    let mut engines = BTreeSet::new();
    for family in Family::ALL {
        match iptables::read_if_used(&runner, backend, family) {
            Ok(table) => engines.extend(table.engines.into_iter().map(|engine| (engine, family))),
            // What is not installed has written nothing; what is never shown to us never will be.
            Err(CommandError::Missing { .. }) => {}
            Err(error) if is_closed_to_us(&error) => {}
            Err(error) => return Err(error_chain(&error)),
        }
    }
    Ok(engines)
}

/// Judges what else enforces policies here, one line for each engine and backend.
pub(super) fn judge(sight: &Sight<'_>, other: &OtherBackend, concerns: &mut BTreeSet<Concern>) {
    let mut found: BTreeMap<(PolicyEngine, Backend), BTreeSet<Family>> = BTreeMap::new();
    for (family, seen) in sight.tables {
        for engine in &seen.engines {
            found.entry((*engine, sight.backend)).or_default().insert(family);
        }
    }
    let backend = sight.backend.other();
    match &other.found {
        Ok(engines) => {
            for (engine, family) in engines {
                found.entry((*engine, backend)).or_default().insert(*family);
            }
        }
        Err(error) => {
            let detail = format!("cannot read table filter of iptables-{backend}: {error}");
            concerns.insert(Concern::new(ConcernKind::Unreadable, detail));
        }
    }
    for ((engine, backend), families) in found {
        let families = families.iter().map(Family::to_string).collect::<Vec<_>>().join(" and ");
        concerns.insert(Concern::new(
            ConcernKind::OtherEngine,
            format!(
                "{engine} enforces policies here too (chains {} in iptables-{backend}, {families}), \
                 and each denies what it does not allow: turn one of the two off, and remove what \
                 it leaves",
                engine.chains()
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Seen;

    #[test]
    fn each_engine_and_backend_is_told_once() {
        let seen = |engines: &[PolicyEngine]| Seen {
            engines: engines.iter().copied().collect(),
            ..Seen::default()
        };
        let (v4, v6) =
            (seen(&[PolicyEngine::KubeRouter, PolicyEngine::Weave]), seen(&[PolicyEngine::Weave]));
        let tables = [(Family::V4, &v4), (Family::V6, &v6)];
        let sight = Sight { pods: &[], backend: Backend::Nft, tables };
        let mut other = OtherBackend {
            found: Ok([(PolicyEngine::Calico, Family::V4)].into()),
            ..OtherBackend::default()
        };
        let told = |other: &OtherBackend| -> Vec<(ConcernKind, String)> {
            let mut concerns = BTreeSet::new();
            judge(&sight, other, &mut concerns);
            let brief = |c: Concern| (c.kind, c.detail.split(", and").next().unwrap().to_owned());
            concerns.into_iter().map(brief).collect()
        };
        let engine = |text: &str| (ConcernKind::OtherEngine, text.to_owned());
        let ours = [
            engine(
                "Weave Net enforces policies here too (chains WEAVE-NPC* in iptables-nft, IPv4 and IPv6)",
            ),
            engine(
                "kube-router enforces policies here too (chains KUBE-NWPLCY-* in iptables-nft, IPv4)",
            ),
        ];
        let calico = engine(
            "Calico enforces policies here too (chains cali-pi-*, cali-po-* in iptables-legacy, IPv4)",
        );
        assert_eq!(told(&other), [&[calico], &ours[..]].concat());

        other.found = Err("it hangs".to_owned());
        let unread = "cannot read table filter of iptables-legacy: it hangs".to_owned();
        assert_eq!(told(&other), [&ours[..], &[(ConcernKind::Unreadable, unread)]].concat());
    }
}
