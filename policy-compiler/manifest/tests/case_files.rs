//! Every case file of the workspace can be read.

use std::path::{Path, PathBuf};

use policy_manifest::case;

/// `examples/*/test.yaml` and `tests/cases/*.yaml`, sorted.
fn case_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let entries = |directory: &str| {
        let entries = std::fs::read_dir(root.join(directory)).expect("the directory is there");
        entries.map(|entry| entry.expect("it can be read").path()).collect::<Vec<_>>()
    };
    let examples = entries("examples").into_iter().map(|example| example.join("test.yaml"));
    let tables =
        entries("tests/cases").into_iter().filter(|f| f.extension() == Some("yaml".as_ref()));
    let mut files: Vec<PathBuf> = examples.filter(|file| file.is_file()).chain(tables).collect();
    files.sort();
    files
}

#[test]
fn every_case_file_can_be_read() {
    let files = case_files();
    assert!(files.len() > 6, "only these case files were found: {files:?}");
    let faults: Vec<String> =
        files.iter().filter_map(|file| case::load(file).err()).map(|e| e.to_string()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
