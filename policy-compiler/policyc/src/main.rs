//! The `policyc` process: its command line, its streams and its exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    policyc::run::main(policyc::run::Caller::Shell)
}
