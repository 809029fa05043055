//! What the process exits with.

use policy_compiler::verdict::Decision;

/// The outcome of a command, as its exit status tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// 0: allowed, clean, printed.
    #[default]
    Fine,
    /// 1: denied or only partly allowed; findings.
    Denied,
    /// 3: the input does not tell.
    Unknown,
    /// 2: usage, input that is unreadable or left out, a name that the input lacks, or an invalid policy that bears on
    /// the answer.
    Failed,
}

impl Status {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Status::Fine => 0,
            Status::Denied => 1,
            Status::Failed => 2,
            Status::Unknown => 3,
        }
    }

    /// Both together: 2 before 3 before 1 before 0.
    #[must_use]
    pub fn and(self, other: Status) -> Status {
        if self.rank() >= other.rank() { self } else { other }
    }

    fn rank(self) -> u8 {
        match self {
            Status::Fine => 0,
            Status::Denied => 1,
            Status::Unknown => 2,
            Status::Failed => 3,
        }
    }
}

impl From<Decision> for Status {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allowed => Status::Fine,
            Decision::Denied => Status::Denied,
            Decision::Unknown => Status::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_counts_before_unknown_before_denied_before_fine() {
        let order = [Status::Fine, Status::Denied, Status::Unknown, Status::Failed];
        assert_eq!(order.map(Status::code), [0, 1, 3, 2]);
        for (i, a) in order.into_iter().enumerate() {
            for (j, b) in order.into_iter().enumerate() {
                assert_eq!(a.and(b), order[i.max(j)], "{a:?} and {b:?}");
            }
        }
    }
}
