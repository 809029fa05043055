//! The `policyc` process: its command line, its streams and its exit status.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = policyc::args::Cli::parse();
    ExitCode::from(policyc::run::run(&cli).code())
}
