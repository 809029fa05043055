//! The laws that hold for every cluster, as properties over random ones.
//!
//! A failure prints the smallest input that still fails and writes its seed to
//! `tests/laws/regressions/`, from where every later run replays it first. `PROPTEST_CASES` asks for more
//! cases than the usual 2,000.

mod cluster;
mod flows;
mod law;
mod names;
mod stability;
mod steps;

use proptest::test_runner::{Config, FileFailurePersistence};

/// At least 2,000 cases, with seeds kept under the name of the law.
fn config(law: &'static str) -> Config {
    let seeds = match law {
        "law" => "tests/laws/regressions/law.txt",
        "names" => "tests/laws/regressions/names.txt",
        "stability" => "tests/laws/regressions/stability.txt",
        _ => "tests/laws/regressions/steps.txt",
    };
    Config {
        cases: Config::default().cases.max(2_000),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}
