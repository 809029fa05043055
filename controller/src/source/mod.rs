//! Where the objects of the cluster come from.
//!
//! A source says what there is, whole, whenever that changes; the engine finds out what is
//! different. A source never stops at a failure: it says what is wrong, keeps what it last knew, and
//! tries again.

pub mod directory;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use policy_compiler::cluster::Snapshot;
use policy_compiler::diagnostic::Diagnostic;

/// How often a source looks without being told that something changed, and says so.
pub const RESCAN: Duration = Duration::from_secs(10);

/// Tells the loop what the cluster holds, for as long as somebody listens.
pub trait Source: Send {
    /// Sends a listing at once, and one after each change, until the receiver is gone. Says that
    /// nothing changed at least every [`RESCAN`].
    fn run(self, listings: &Sender<Input>);
}

/// What the loop is told.
#[derive(Debug)]
pub enum Input {
    /// The cluster is now so.
    Listed(Box<Listing>),
    /// The source has looked, and nothing has changed.
    Unchanged,
    /// The source will not say anything more.
    SourceEnded,
    /// It is time to end.
    Stop,
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
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
