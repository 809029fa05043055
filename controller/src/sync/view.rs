//! What the loop shows to those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::engine::Engine;

use super::Settings;
use crate::dataplane::Dataplane;
use crate::health::Health;
use crate::inspect::Concern;
use crate::source::{Kind, Standing};

/// What the loop shows to those who ask.
#[derive(Debug)]
pub struct View<'a> {
    /// The operator's choices.
    pub settings: &'a Settings,
    /// The objects, and what follows from them.
    pub engine: &'a Engine,
    /// What the kernel was told.
    pub dataplane: &'a Dataplane,
    /// Whether that is as it should be.
    pub health: &'a Health,
    /// What the source found wrong inside objects; the engine has its own.
    pub listed: &'a [Diagnostic],
    /// How each part of the source stands.
    pub standing: &'a BTreeMap<Kind, Standing>,
    /// When the kernel was last changed.
    pub updated: Option<Instant>,
    /// What makes enforcement doubtful on this node.
    pub concerns: &'a BTreeSet<Concern>,
}
