//! How many may be connected at a time.
//!
//! Whoever can reach the port can hold connections open. Invariants: together they take a bounded part
//! of the process's file descriptors; no address takes more than a few; and none of them takes those
//! that are kept for the node itself, whose probes decide whether policyd lives.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// For the node itself, such as kubelet's probes.
const OWN: usize = 16;
/// For everybody else together, and for one address of them.
const OTHERS: usize = 48;
const EACH: usize = 8;

/// The seats that are taken, by the peer's address; the node itself under `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<BTreeMap<Option<IpAddr>, usize>>>);

/// A seat, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    whose: Option<IpAddr>,
}

impl Seats {
    /// A seat for `peer`, who has connected to the address `own`, while there is one. Only the node
    /// itself can send from that very address, or over loopback.
    pub(super) fn take(&self, peer: IpAddr, own: IpAddr) -> Option<Seat> {
        let (peer, own) = (peer.to_canonical(), own.to_canonical());
        let whose = (!peer.is_loopback() && peer != own).then_some(peer);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_others: usize =
            taken.iter().filter(|(whose, _)| whose.is_some()).map(|(_, count)| count).sum();
        let count = taken.entry(whose).or_default();
        let is_free = match whose {
            None => *count < OWN,
            Some(_) => *count < EACH && by_others < OTHERS,
        };
        if is_free {
            *count += 1;
        } else if *count == 0 {
            taken.remove(&whose);
        }
        is_free.then(|| Seat { seats: self.clone(), whose })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_seats_of_others_or_of_the_node() {
        let seats = Seats::default();
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        let other = |n: u8| IpAddr::from([10, 0, 1, n]);
        let greedy: Vec<Seat> = (0..99).map_while(|_| seats.take(other(1), own)).collect();
        assert_eq!(greedy.len(), EACH);
        let crowd: Vec<Seat> = (2..99).map_while(|n| seats.take(other(n), own)).collect();
        assert_eq!(crowd.len(), OTHERS - EACH);
        let probes = [own, "127.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap()];
        let probes: Vec<Seat> = probes.into_iter().filter_map(|p| seats.take(p, own)).collect();
        assert_eq!(probes.len(), 3, "the node still has its own");
        drop(greedy);
        assert!(seats.take(other(99), own).is_some(), "a seat that is left is free");
        drop((crowd, probes));
        assert!(seats.0.lock().unwrap().is_empty(), "nothing is kept about who has left");
    }
}
