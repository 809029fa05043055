//! The `policyd` program: see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    policyd::run::main()
}
