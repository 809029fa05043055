//! Several watches of pods in the place of one of all: what is asked for, and what each says.
//!
//! The loop decides which there are to be, and says so as a whole whenever that changes
//! ([`PodWatches`]); the source starts and ends them. Each has a number that no other ever has, so
//! that what one still said when it was ended is not taken for another's.

use std::collections::BTreeMap;

use policy_compiler::name::NamespaceName;
use policy_compiler::selector::Selector;

use super::{Change, Standing};

/// The number of the watch of the node's own pods, which is there from the start.
pub const OWN: u64 = 0;

/// The watches that there are to be besides that of the node's own pods, by their numbers.
pub type PodWatches = BTreeMap<u64, PodWatch>;

/// The pods of other nodes that one watch is to tell of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodWatch {
    /// Of this namespace; of all where there is none.
    pub namespace: Option<NamespaceName>,
    /// With labels that it selects.
    pub selector: Selector,
}

/// What a watch says.
#[derive(Debug)]
pub struct Watched {
    /// Which.
    pub watch: u64,
    /// What.
    pub said: Said,
}

/// What a watch says.
#[derive(Debug)]
pub enum Said {
    /// Of its pods.
    Changed(Change),
    /// Of itself.
    Standing(Standing),
}
