//! Changes between classes of ends as few lines: what the same change holds for is told once.
//!
//! A line holds for every end of its left with every other end of its right. A pod alone in its class has
//! nothing to say to itself, so it may stand on both sides where that makes one line of many.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;

use super::compare::{Change, Row};

/// A change between sets of classes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) from: BTreeSet<usize>,
    pub(super) to: BTreeSet<usize>,
    pub(super) families: BTreeSet<Family>,
    /// As in [`Row`].
    pub(super) partial: bool,
    pub(super) change: Change,
}

/// What of a change has to be the same for two to be one: the families count where it is in one of two.
type Told<'r> = (Option<&'r BTreeSet<Family>>, &'r Change);

/// `rows` folded; `alone` are the classes of one pod.
pub(super) fn fold(rows: &[Row], alone: &BTreeSet<usize>) -> Vec<Line> {
    // By destination, the sources that fare alike with it.
    let mut by_to: BTreeMap<(Told<'_>, usize), (BTreeSet<usize>, BTreeSet<Family>)> =
        BTreeMap::new();
    for row in rows {
        let told = row.partial.then_some(&row.families);
        let entry = by_to.entry(((told, &row.change), row.to)).or_default();
        entry.0.insert(row.from);
        entry.1.extend(&row.families);
    }
    // With a pod among its own sources many more destinations share them.
    let mut shared: BTreeMap<(Told<'_>, BTreeSet<usize>), Vec<usize>> = BTreeMap::new();
    for ((told, to), (from, _)) in &by_to {
        let mut from = from.clone();
        from.extend(alone.contains(to).then_some(*to));
        shared.entry((*told, from)).or_default().push(*to);
    }
    let mut merged: BTreeMap<(Told<'_>, BTreeSet<usize>), BTreeSet<usize>> = BTreeMap::new();
    for ((told, from), destinations) in shared {
        if let [only] = destinations[..] {
            let exact = by_to.get(&(told, only)).map_or(from, |(exact, _)| exact.clone());
            merged.entry((told, exact)).or_default().insert(only);
        } else {
            merged.entry((told, from)).or_default().extend(destinations);
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    for ((told, from), to) in merged {
        let families = |to: &usize| by_to.get(&(told, *to)).map(|(_, families)| families);
        let families = to.iter().filter_map(families).flatten().copied().collect();
        lines.push(Line { from, to, families, partial: told.0.is_some(), change: told.1.clone() });
    }
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: &[(usize, usize)]) -> Vec<Row> {
        let row = |&(from, to): &(usize, usize)| Row {
            from,
            to,
            families: [Family::V4].into(),
            partial: false,
            change: Change::default(),
        };
        pairs.iter().map(row).collect()
    }

    fn lines(pairs: &[(usize, usize)], alone: &[usize]) -> Vec<(Vec<usize>, Vec<usize>)> {
        let alone = alone.iter().copied().collect();
        let list = |set: BTreeSet<usize>| set.into_iter().collect();
        let folded = fold(&rows(pairs), &alone);
        folded.into_iter().map(|line| (list(line.from), list(line.to))).collect()
    }

    #[test]
    fn sources_and_destinations_that_fare_alike_are_one_line() {
        let square = [(0, 2), (1, 2), (0, 3), (1, 3)];
        assert_eq!(lines(&square, &[]), [(vec![0, 1], vec![2, 3])]);
        assert_eq!(lines(&square[..3], &[]), [(vec![0], vec![3]), (vec![0, 1], vec![2])]);
    }

    #[test]
    fn a_lone_pod_stands_among_its_own_sources_only_where_that_joins_lines() {
        let ring = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
        assert_eq!(lines(&ring, &[0, 1, 2]), [(vec![0, 1, 2], vec![0, 1, 2])]);
        assert_eq!(lines(&ring, &[]).len(), 3, "their replicas may fare otherwise");
        assert_eq!(lines(&[(0, 1)], &[0, 1]), [(vec![0], vec![1])]);
    }
}
