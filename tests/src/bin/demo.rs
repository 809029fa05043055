//! `make demo`: a shop before and after its policies, with real connections.

use std::path::Path;
use std::process::{Command, ExitCode};

use policy_tests::demo::{Options, end_on_signals, run};

const HELP: &str = "\
Shows what the policies of examples/shop do to real connections between network namespaces.

Usage: demo [--color]

  --color   Colours even where the output is no terminal
";

fn main() -> ExitCode {
    let mut options = Options {
        example: Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop"),
        explain: "shop/cart-0".to_owned(),
        colour: None,
    };
    if let Ok(example) = options.example.canonicalize() {
        // Shown to people: as they would write it, where they stand beside it.
        options.example = std::env::current_dir()
            .ok()
            .and_then(|here| example.strip_prefix(here).ok().map(Path::to_owned))
            .unwrap_or(example);
    }
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--color" | "--color=always" => options.colour = Some(true),
            "--color=never" => options.colour = Some(false),
            "-h" | "--help" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("demo: unknown argument `{other}`\n\n{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    if !nix::unistd::geteuid().is_root() {
        return again_as_root_of_a_user_namespace();
    }
    end_on_signals();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whoever is not root is so in a user namespace, where the machine allows that.
fn again_as_root_of_a_user_namespace() -> ExitCode {
    let status = std::env::current_exe().and_then(|own| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .arg(own)
            .args(std::env::args_os().skip(1))
            .status()
    });
    match status.map(|status| status.code()) {
        Ok(Some(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: needs root, or `unshare` of util-linux: {error}");
            ExitCode::from(2)
        }
    }
}
