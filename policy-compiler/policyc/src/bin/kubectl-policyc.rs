//! `kubectl policyc`: the same program by the name under which kubectl finds its plugins.

use std::process::ExitCode;

fn main() -> ExitCode {
    policyc::run::main(policyc::run::Caller::Kubectl)
}
