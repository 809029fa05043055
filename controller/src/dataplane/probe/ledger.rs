//! Telling the traces of others from our own: two counts that grow alike while nobody else is at work.

/// What both counts were when they last agreed, or were taken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    last: Option<(u32, u32)>,
    /// Whether fewer traces were seen the last time than we left.
    behind: bool,
}

impl Ledger {
    /// Takes how many traces are there and how many are ours; whether others have left some. The first
    /// counts are where it begins.
    ///
    /// Ours may be counted before they are there. Where they do not come until the next time, something
    /// did not go as it was counted, and others' may have taken their place.
    pub(super) fn take(&mut self, seen: u32, own: u32) -> bool {
        let (last_seen, last_own) = self.last.unwrap_or((seen, own));
        let more = seen.wrapping_sub(last_seen).wrapping_sub(own.wrapping_sub(last_own));
        let is_behind = more.cast_signed() < 0;
        if is_behind && !self.behind {
            self.behind = true;
            return false;
        }
        self.behind = false;
        self.last = Some((seen, own));
        more != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_traces_beyond_our_own_are_those_of_others() {
        let mut ledger = Ledger::default();
        for (name, seen, own, expected) in [
            ("the beginning", u32::MAX - 1, 5, false),
            ("nothing", u32::MAX - 1, 5, false),
            ("ours, over the last number", 1, 8, false),
            ("another's", 2, 8, true),
            ("nothing more", 2, 8, false),
            ("ours and another's", 5, 10, true),
            ("ours is on its way", 5, 11, false),
            ("and comes", 6, 11, false),
            ("ours is on its way again", 6, 12, false),
            ("and does not come", 6, 12, true),
            ("which is forgotten", 6, 12, false),
            ("ours is on its way, and", 6, 13, false),
            ("comes with another's", 8, 13, true),
        ] {
            assert_eq!(ledger.take(seen, own), expected, "{name}");
        }
    }
}
