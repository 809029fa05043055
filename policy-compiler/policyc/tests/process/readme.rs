//! What the README shows of `policyc` is what `policyc` prints: every `console` block that begins
//! with `$ policyc` is given to a shell at the top of the workspace, and what that prints is compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::alone;

/// What a shell prints for `line`, with `policyc` on its path: all results, then all diagnostics.
fn printed(directory: &Path, line: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_policyc"));
    let own = program.parent().expect("a directory").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(directory);
    let output = alone(&mut shell, &[("PATH", &format!("{own}:{path}"))])
        .output()
        .expect("there is a shell");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    format!("{}{}", text(output.stdout), text(output.stderr)).trim_end().to_owned()
}

#[test]
fn the_readme_shows_what_policyc_prints_of_every_command() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(top.join("README.md")).expect("there is a README");
    let mut shown = BTreeSet::new();
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("\n```").next().unwrap_or_default();
        let Some((line, expected)) =
            block.strip_prefix("$ ").and_then(|rest| rest.split_once('\n'))
        else {
            continue;
        };
        let Some(rest) = line.strip_prefix("policyc ") else { continue };
        assert_eq!(printed(&top, line), expected, "$ {line}");
        shown.extend(rest.split(' ').next().map(str::to_owned));
    }
    let commands = [
        "can",
        "completions",
        "diff",
        "explain",
        "graph",
        "lint",
        "matrix",
        "render",
        "schema",
        "test",
        "who-can",
    ];
    assert_eq!(shown, commands.map(str::to_owned).into(), "each command is shown");
}
