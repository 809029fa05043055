//! `policyc graph`: the connections that policies allow, as a picture.
//!
//! ```text
//!  relations ──> ends ──> fold ──> Graph (data) ──┬──> json, yaml, dot, mermaid
//!  (what passes) (who)   (arrows)                 └──> layout ──> svg, html
//! ```
//!
//! A picture of everything that is allowed shows nothing: most pods of most clusters are isolated by
//! nobody and may all reach one another. So what is drawn is what policies have a say in; the rest is
//! said of the ends, and in the legend.

mod answer;
mod dot;
mod ends;
mod fold;
mod html;
mod layout;
mod mermaid;
mod svg;

use policy_compiler::cidr::Family;
use policy_compiler::reach::{Party, Reach};

pub use answer::{Edge, Graph, Group, Kind, Node};
pub use dot::dot;
pub use html::html;
pub use layout::{Drawing, Rect, Route};
pub use mermaid::mermaid;
pub use svg::{escaped, svg};

use crate::progress::Progress;
use crate::relations::Relations;

/// The picture of what passes between `parties` in `families`; with `notes` for its readers.
#[must_use]
pub fn graph(
    reach: &Reach<'_>,
    parties: Vec<Party>,
    families: &[Family],
    notes: Vec<String>,
) -> Graph {
    let mut progress: Option<Progress> = None;
    let relations = Relations::new(reach, parties, families, |done, all| {
        progress.get_or_insert_with(|| Progress::start("asking for everyone", all)).at(done);
    });
    drop(progress);
    let ends = ends::Ends::of(&relations);
    let mut graph = answer::of(&relations, &ends);
    graph.legend.extend(notes);
    graph
}
