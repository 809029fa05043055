//! What has come about in a membership since it was last taken.

use std::net::IpAddr;

use crate::cidr::Family;

/// How many entries there are at least before those that cancel out are forgotten.
const FEW: usize = if cfg!(test) { 2 } else { 64 };

/// Which addresses joined and left since that was last taken. What joins and leaves in turns has done neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    /// What happened, in its order: an address, and whether it joined.
    log: Vec<(IpAddr, bool)>,
    /// How many entries there may be before those that cancel out are forgotten.
    bound: usize,
}

impl Delta {
    pub(super) fn join(&mut self, address: IpAddr) {
        self.note(&[address], true);
    }

    pub(super) fn leave(&mut self, address: IpAddr) {
        self.note(&[address], false);
    }

    /// These addresses have joined, or left.
    pub(super) fn note(&mut self, addresses: &[IpAddr], joined: bool) {
        self.log.extend(addresses.iter().map(|address| (*address, joined)));
        if self.log.len() > self.bound.max(FEW) {
            self.log = net(std::mem::take(&mut self.log));
            self.bound = 2 * self.log.len();
        }
    }

    /// What has come about of some addresses, which are sorted, was taken.
    pub(super) fn settle(&mut self, addresses: &[IpAddr]) {
        self.log.retain(|(address, _)| addresses.binary_search(address).is_err());
    }

    /// Whether nothing has happened.
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// Addresses of a family that are members now and were not, and those that were members and are not
    /// now, both in their order.
    pub(crate) fn of(&self, family: Family) -> (Vec<IpAddr>, Vec<IpAddr>) {
        // So it mostly is: one pod elsewhere.
        if let [(address, joined)] = *self.log {
            let here = if Family::of(address) == family { vec![address] } else { Vec::new() };
            return if joined { (here, Vec::new()) } else { (Vec::new(), here) };
        }
        let log = self.log.iter().filter(|(address, _)| Family::of(*address) == family);
        let (joined, left): (Vec<_>, Vec<_>) =
            net(log.copied().collect()).into_iter().partition(|(_, joined)| *joined);
        let addresses = |entries: Vec<(IpAddr, bool)>| -> Vec<IpAddr> {
            entries.into_iter().map(|(address, _)| address).collect()
        };
        (addresses(joined), addresses(left))
    }
}

/// What all of it comes to, in the order of the addresses, each once.
fn net(mut log: Vec<(IpAddr, bool)>) -> Vec<(IpAddr, bool)> {
    if let [_] = *log {
        return log;
    }
    // Most of it came in this order.
    log.sort_by_key(|(address, _)| *address);
    let happened = log.chunk_by(|(one, _), (other, _)| one == other);
    let net = happened.filter_map(|happened| {
        let joined = happened.iter().filter(|(_, joined)| *joined).count();
        let left = happened.len() - joined;
        (joined != left).then_some((happened.first()?.0, joined > left))
    });
    net.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn what_joins_and_leaves_in_turns_has_done_neither_and_what_was_taken_is_forgotten() {
        let [a, b, c, d] = [1, 2, 3, 4].map(address);
        let six = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]);
        let mut delta = Delta::default();
        assert!(delta.is_empty());
        delta.note(&[d, a, c], true);
        delta.note(&[b, six], false);
        delta.leave(c);
        assert_eq!(delta.of(Family::V4), (vec![a, d], vec![b]));
        assert_eq!(delta.of(Family::V6), (vec![], vec![six]));
        for _ in 0..5 {
            delta.join(b);
            delta.leave(b);
        }
        assert!(delta.log.len() < 10, "what cancels out is forgotten");
        assert_eq!(delta.of(Family::V4), (vec![a, d], vec![b]));
        delta.settle(&[b, d]);
        assert_eq!(delta.of(Family::V4), (vec![a], vec![]));
    }
}
