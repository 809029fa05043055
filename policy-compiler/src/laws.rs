//! What the property tests of this library share.

use proptest::test_runner::Config;

/// So many cases at least; `PROPTEST_CASES` asks for more.
pub(crate) fn config(cases: u32) -> Config {
    Config { cases: Config::default().cases.max(cases), ..Config::default() }
}
