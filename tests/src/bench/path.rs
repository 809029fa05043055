//! The way that packets took, by the counters of the rules that they met.
//!
//! A packet that is dropped by mistake looks fast, and so does one that meets no rule. So what is
//! measured is counted: each layout names the rules by which its way shows ([`Tally`]), and after a
//! measurement their counters must have grown by as many packets as were sent, no more and no fewer.

use std::collections::BTreeMap;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passage {
    /// It begins a flow that is allowed.
    Allowed,
    /// It is denied.
    Denied,
    /// It belongs to a flow that is known, and is forwarded.
    Established,
    /// The node itself sends it, in a flow that is known.
    Sent,
}

/// How many packets were sent, of each passage: at least and at most, for TCP decides by itself how
/// many segments carry an acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packets(BTreeMap<Passage, (u64, u64)>);

impl Packets {
    /// Adds packets of one passage.
    pub fn add(&mut self, passage: Passage, least: u64, most: u64) {
        let (low, high) = self.0.entry(passage).or_default();
        *low += least;
        *high += most;
    }

    /// Adds those of another account.
    pub fn extend(&mut self, other: &Packets) {
        for (passage, (least, most)) in &other.0 {
            self.add(*passage, *least, *most);
        }
    }

    fn tallied(&self, tally: &Tally) -> (u64, u64) {
        self.0.iter().fold((0, 0), |(low, high), (passage, (least, most))| {
            let each = tally.each(*passage);
            (low + each * least, high + each * most)
        })
    }
}

/// Rules whose packets are added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What it counts.
    pub what: String,
    chains: Vec<String>,
    target: String,
    counted: Vec<Passage>,
}

impl Tally {
    /// The rules that end in `target`, of the chains whose names begin so. A packet adds one for each time
    /// that its passage is among `counted`.
    #[must_use]
    pub fn new(what: &str, chains: &[&str], target: &str, counted: &[Passage]) -> Self {
        Self {
            what: what.to_owned(),
            chains: chains.iter().map(|&chain| chain.to_owned()).collect(),
            target: target.to_owned(),
            counted: counted.to_vec(),
        }
    }

    /// How much a packet adds.
    #[must_use]
    pub fn each(&self, passage: Passage) -> u64 {
        self.counted.iter().map(|counted| u64::from(*counted == passage)).sum()
    }

    /// The rules, for a reader.
    #[must_use]
    pub fn rules(&self) -> String {
        format!("{} ({}*: {})", self.what, self.chains.join("*, "), self.target)
    }
}

/// The counters of all rules of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets by chain and words of a rule; rules that are alike are added up.
    packets: BTreeMap<(String, String), u64>,
}

impl Counters {
    /// Reads what `iptables-save -c` printed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut packets: BTreeMap<_, u64> = BTreeMap::new();
        for line in text.lines() {
            let rule = line.strip_prefix('[').and_then(|line| {
                let (counters, rule) = line.split_once("] -A ")?;
                let (count, _) = counters.split_once(':')?;
                let (chain, words) = rule.split_once(' ')?;
                Some((chain, words, count.parse::<u64>().ok()?))
            });
            if let Some((chain, words, count)) = rule {
                *packets.entry((chain.to_owned(), words.to_owned())).or_default() += count;
            }
        }
        Self { packets }
    }

    /// How many packets the rules of a tally have met.
    #[must_use]
    pub fn of(&self, tally: &Tally) -> u64 {
        let meant = |(chain, words): &(String, String)| {
            tally.chains.iter().any(|prefix| chain.starts_with(prefix.as_str()))
                && (tally.target.is_empty()
                    || format!("{words} ").contains(&format!("{} ", tally.target)))
        };
        self.packets.iter().filter(|(rule, _)| meant(rule)).map(|(_, count)| count).sum()
    }
}

/// What was sent while some layout was in force.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    /// The rules by which its way shows.
    pub tallies: &'a [Tally],
    /// What was sent.
    pub packets: Packets,
}

/// Checks that what was sent has gone by the rules that it was meant for, and by no others: for each tally
/// that any of the layouts has, `after` must exceed `before` by what all of them sent through it.
///
/// # Errors
/// The first tally that differs: what it counts, by how many it has grown, and what it should have.
pub fn check(
    sent: &[Sent<'_>],
    before: &Counters,
    after: &Counters,
) -> Result<(), (String, u64, String)> {
    for tally in sent.iter().flat_map(|one| one.tallies) {
        let found = after.of(tally).saturating_sub(before.of(tally));
        let (mut low, mut high) = (0, 0);
        for one in sent {
            let same =
                |other: &&Tally| other.chains == tally.chains && other.target == tally.target;
            if let Some(own) = one.tallies.iter().find(same) {
                let (least, most) = one.packets.tallied(own);
                (low, high) = (low + least, high + most);
            }
        }
        if !(low..=high).contains(&found) {
            let expected = if low == high { low.to_string() } else { format!("{low} to {high}") };
            return Err((tally.rules(), found, expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
# Generated by iptables-save v1.8.9
*filter
:FORWARD ACCEPT [7:700]
[5:500] -A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD
[3:300] -A NPC-I-a -p udp -m udp --dport 80 -j RETURN
[4:400] -A NPC-IB-b -p udp -m udp --dport 80 -j RETURN
[2:200] -A NPC-I-a -m comment --comment \"shop/web -j RETURN-less\" -g NPC-DENY-I
[9:900] -A NPC-DENY-I -j DROP
[1:100] -A NPC-DENY-I -j DROPPED
COMMIT
";

    #[test]
    fn a_tally_adds_up_the_rules_of_its_chains_that_end_in_its_target() {
        let counters = Counters::parse(SAVED);
        let allowed = Tally::new("allowed", &["NPC-I-", "NPC-IB-"], "-j RETURN", &[]);
        assert_eq!(counters.of(&allowed), 7);
        assert_eq!(counters.of(&Tally::new("denied", &["NPC-DENY-"], "-j DROP", &[])), 9);
        assert_eq!(counters.of(&Tally::new("all", &["NPC-"], "", &[])), 19);
        assert_eq!(counters.of(&Tally::new("none", &["LIN-"], "", &[])), 0);
    }

    #[test]
    fn a_packet_counts_as_often_as_its_passage_is_named() {
        let tally =
            Tally::new("marked", &["LIN-N-"], "-j MARK", &[Passage::Allowed, Passage::Allowed]);
        assert_eq!(tally.each(Passage::Allowed), 2);
        assert_eq!(tally.each(Passage::Denied), 0);
    }
}
