//! The pictures that the README shows are what `policyc` draws: `BLESS=1` draws them anew.

use std::fs;
use std::path::PathBuf;

use crate::run::policyc_in;

#[test]
fn the_picture_of_the_shop_is_what_policyc_draws() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let run = policyc_in(&top, "graph -f examples/shop -o svg", "", &[]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let path = top.join("policy-compiler/docs/shop.svg");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &run.stdout).expect("the picture can be written");
    }
    assert!(fs::read_to_string(&path).is_ok_and(|drawn| drawn == run.stdout), "{}", path.display());
}

#[test]
fn pictures_are_the_same_every_time() {
    for line in [
        "graph -f shop -o html",
        "matrix -f shop -o html",
        "graph -f shop -o svg",
        "graph -f shop --by pod -o dot",
    ] {
        let first = crate::run::policyc(line);
        assert_eq!(first.status, 0, "{line}");
        for _ in 0..3 {
            assert!(crate::run::policyc(line).stdout == first.stdout, "{line}");
        }
    }
}
