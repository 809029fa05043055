//! Stands for the programs that policyd runs, and for policyd; see [`policy_tests::faults`].

use std::env;
use std::process::ExitCode;

use policy_tests::faults::{enforcer, shim};

fn main() -> ExitCode {
    if let Some(name) = shim::impersonated() {
        let arguments: Vec<_> = env::args_os().skip(1).collect();
        return match shim::run(&name, &arguments) {
            Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
            Err(error) => {
                eprintln!("faulty {name}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let words: Vec<String> = env::args().skip(1).collect();
    let Some(options) = enforcer::Options::read(&words) else {
        eprintln!("Usage: faulty SOURCE NODE nft|legacy LIMIT_MS");
        return ExitCode::from(2);
    };
    match enforcer::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faulty: {error}");
            ExitCode::FAILURE
        }
    }
}
