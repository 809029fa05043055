//! What the README shows of `policyc` is what `policyc` prints: every `console` block that begins
//! with `$ policyc` is run at the top of the workspace and compared.

use std::fs;
use std::path::PathBuf;

use crate::run::policyc_in;

#[test]
fn the_readme_shows_what_policyc_prints() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(top.join("README.md")).expect("there is a README");
    let blocks = readme.split("```console\n").skip(1);
    let mut compared = 0;
    for block in blocks {
        let block = block.split("\n```").next().unwrap_or_default();
        let Some((line, shown)) =
            block.strip_prefix("$ policyc ").and_then(|rest| rest.split_once('\n'))
        else {
            continue;
        };
        let run = policyc_in(&top, line, "", &[]);
        assert_eq!(format!("{}{}", run.stdout, run.stderr).trim_end(), shown, "$ policyc {line}");
        compared += 1;
    }
    assert!(compared >= 3, "only {compared} blocks of the README were found");
}
