//! Tests that send real packets. Each makes network namespaces of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

/// Declares tests that run under each backend; each is a function of the same name.
macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                $crate::under(module_path!(), stringify!($scenario), || {
                    super::$scenario(policy_tests::enforcement::Backend::Nft);
                });
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                $crate::under(module_path!(), stringify!($scenario), || {
                    super::$scenario(policy_tests::enforcement::Backend::Legacy);
                });
            })*
        }
    };
}

mod antispoof;
mod backends;
mod bench;
mod bridge;
mod cases;
mod crash;
mod daemon;
mod denials;
mod differential;
mod faults;
mod image;
mod lab;
mod long;
mod random;
mod soak;
mod standing;
mod town;
mod upgrade;
mod ways;

/// Runs a test of this binary where it has the privilege to. The first part of its path is the crate's.
fn under(module: &str, scenario: &str, test: impl FnOnce()) {
    let (_, module) = module.split_once("::").unwrap();
    policy_tests::privilege::kernel_test(&format!("{module}::{scenario}"), test);
}
