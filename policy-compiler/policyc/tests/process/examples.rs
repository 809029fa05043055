//! The rules that each example becomes, byte for byte, in `golden/examples/NAME.txt`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::golden::check;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn names(directory: &PathBuf) -> BTreeSet<String> {
    fs::read_dir(directory)
        .expect("the folder is there")
        .map(|entry| entry.expect("entries can be listed").path())
        .filter(|path| path.extension().is_none_or(|extension| extension == "txt"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

macro_rules! rendered {
    ($($name:ident: $folder:literal;)*) => {
        const FOLDERS: &[&str] = &[$($folder),*];
        $(#[test] fn $name() {
            check(
                concat!("examples/", $folder),
                concat!("render -f ../../../../examples/", $folder),
            );
        })*
    };
}

rendered! {
    audit: "audit";
    dual_stack: "dual-stack";
    metadata_guard: "metadata-guard";
    named_ports: "named-ports";
    port_ranges: "port-ranges";
    shop: "shop";
    tenants: "tenants";
}

#[test]
fn every_example_is_rendered_here_and_has_expectations() {
    let listed: BTreeSet<String> = FOLDERS.iter().map(ToString::to_string).collect();
    assert_eq!(names(&examples()), listed);
    for name in &listed {
        for file in ["README.md", "test.yaml"] {
            assert!(examples().join(name).join(file).is_file(), "{name} has no {file}");
        }
    }
}
