//! Where the objects of the cluster come from.
//!
//! A source says what there is: whole, whenever that changes ([`Listing`]), or object by object
//! ([`Change`]); the engine finds out what is different. A source never stops at a failure: it says
//! what is wrong, keeps what it last knew, and tries again.

pub mod api;
pub mod directory;
pub mod scoped;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use policy_compiler::cluster::Snapshot;
use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::update::Event;

use self::scoped::Watched;
use crate::sync::View;

/// How often a source looks without being told that something changed, and says so.
pub const RESCAN: Duration = Duration::from_secs(10);

/// Tells the loop what the cluster holds, for as long as somebody listens.
pub trait Source: Send {
    /// Tells what there is at once, and each change, until the receiver is gone. Says that nothing
    /// changed at least every [`RESCAN`].
    fn run(self, inbox: &Sender<Input>);
}

/// What the loop is told.
pub enum Input {
    /// The cluster is now so.
    Listed(Box<Listing>),
    /// An object has changed, or all of a kind were listed anew.
    Changed(Box<Change>),
    /// How a part of the source stands.
    Standing(Standing),
    /// One of several watches of pods has said something.
    Watched(Box<Watched>),
    /// The source has looked, and nothing has changed.
    Unchanged,
    /// The source will not say anything more.
    SourceEnded,
    /// Somebody wants to know something that only the loop does.
    Asked(Question),
    /// It is time to end.
    Stop,
}

/// Carried out by the loop between two writes; it must be quick.
pub type Question = Box<dyn FnOnce(&View<'_>) + Send>;

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Listed(listing) => f.debug_tuple("Listed").field(listing).finish(),
            Input::Changed(change) => f.debug_tuple("Changed").field(change).finish(),
            Input::Standing(standing) => f.debug_tuple("Standing").field(standing).finish(),
            Input::Watched(watched) => f.debug_tuple("Watched").field(watched).finish(),
            Input::Unchanged => f.write_str("Unchanged"),
            Input::SourceEnded => f.write_str("SourceEnded"),
            Input::Asked(_) => f.write_str("Asked(..)"),
            Input::Stop => f.write_str("Stop"),
        }
    }
}

/// The kinds of objects that a source follows one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods.
    Pod,
    /// Namespaces.
    Namespace,
    /// NetworkPolicies.
    Policy,
    /// Nodes, where they are followed at all.
    Node,
}

impl Kind {
    /// As the API has it in paths and roles.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Kind::Pod => "pods",
            Kind::Namespace => "namespaces",
            Kind::Policy => "networkpolicies",
            Kind::Node => "nodes",
        }
    }
}

/// What a source learned of one object, or of all objects of a kind.
#[derive(Debug)]
pub struct Change {
    /// Whom it is about. What was found before about the same is then no longer so; of a whole kind
    /// that is all that was found about any object of it.
    pub subject: Subject,
    /// What the engine is to know; nothing where the object cannot be decoded, so that what it last
    /// held goes on.
    pub event: Option<Event>,
    /// What is wrong with the objects that it is about, by their names as in [`Subject::object`].
    pub found: BTreeMap<Arc<str>, Found>,
    /// When it came.
    pub seen: Instant,
}

/// What is wrong with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Inside it.
    pub diagnostics: Vec<Diagnostic>,
    /// Why it cannot be decoded.
    pub problems: Vec<Problem>,
}

/// Whom a [`Change`] is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Of which kind.
    pub kind: Kind,
    /// `NAMESPACE/NAME` or `NAME` of one object; `None` for all of the kind.
    pub object: Option<Arc<str>>,
}

/// How a part of the source stands. A part that the loop was never told of does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub kind: Kind,
    /// Whether it was ever listed whole. Before all parts were, nothing is written.
    pub listed: bool,
    /// Since when it fails, and why, in words for a person.
    pub failing: Option<(Instant, String)>,
}

/// Says that the source has ended when it is dropped, so also where its thread panics: nobody else
/// would notice that no change comes any more.
#[derive(Debug)]
pub struct EndOfSource(pub Sender<Input>);

impl Drop for EndOfSource {
    fn drop(&mut self) {
        // Where the loop has ended nobody needs to know.
        let _ = self.0.send(Input::SourceEnded);
    }
}

/// Everything that a source knows at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The objects.
    pub snapshot: Snapshot,
    /// What is wrong inside objects.
    pub diagnostics: Vec<Diagnostic>,
    /// What cannot be read now; what it last held stands in for it.
    pub problems: Vec<Problem>,
    /// Whether nothing is missing for want of an earlier reading. Before the first listing that is
    /// whole, nothing may be written.
    pub whole: bool,
}

/// Something that a source cannot read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// What: a file, a directory.
    pub input: Arc<str>,
    /// How many times its content has changed, so that each change is reported.
    pub version: u64,
    /// What is wrong, with the place where it is.
    pub message: String,
    /// The only node to which it matters whether it can be read, where it is not every one: that of
    /// a pod, empty as long as it has none.
    pub node: Option<Arc<str>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
