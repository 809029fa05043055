//! Input that somebody wrote to hurt: names and labels at their limits and beyond, lists of thousands,
//! pods that come and go, text that means something to a shell.
//!
//! Whoever may write a policy, or start a pod, decides how much there is to compile. So each of these is
//! compiled within a bound of time that a slow machine keeps, into a number of rules and sets that is
//! bounded as well, and the verdicts on flows are right: `evaluate` and the simulated rules both say so.

// The whole crate is tests: what must not fail in one may panic.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster;
mod course;
mod load;
mod names;
mod texts;

use std::time::{Duration, Instant};

/// What takes longer than this grows faster than its input: everything here takes a second or two on a
/// slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does it, and holds how long it took against [`PATIENCE`].
fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    println!("{what}: {took:?}");
    assert!(took < PATIENCE, "{what} took {took:?}");
    done
}
