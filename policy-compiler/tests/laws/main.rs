//! The laws that hold for every cluster, as properties over random ones.
//!
//! A failure prints the smallest input that still fails and writes its seed to
//! `tests/laws/regressions/`, from where every later run replays it first. `PROPTEST_CASES` asks for more
//! cases than each law has of itself.

// The whole crate is tests: what cannot fail in a generator, or must not in a law, may panic.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster;
mod flows;
mod history;
mod law;
mod names;
mod reach;
mod scope;
mod spoof;
mod stability;
mod steps;

use proptest::test_runner::{Config, FileFailurePersistence};

/// So many cases at least, with seeds kept under the name of the law.
fn config(law: &'static str, cases: u32) -> Config {
    let seeds = match law {
        "law" => "tests/laws/regressions/law.txt",
        "names" => "tests/laws/regressions/names.txt",
        "reach" => "tests/laws/regressions/reach.txt",
        "scope" => "tests/laws/regressions/scope.txt",
        "spoof" => "tests/laws/regressions/spoof.txt",
        "stability" => "tests/laws/regressions/stability.txt",
        _ => "tests/laws/regressions/steps.txt",
    };
    Config {
        cases: Config::default().cases.max(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}
