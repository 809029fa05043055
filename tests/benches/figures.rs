//! Where figures are kept, beside those of the datapath.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// Writes JSON into `bench` of the target directory.
pub fn keep(name: &str, content: &Value) {
    keep_text(name, &format!("{content:#}\n"));
}

/// Writes a file into `bench` of the target directory.
pub fn keep_text(name: &str, content: &str) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
        PathBuf::from,
    );
    let folder = target.join("bench");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(name), content));
    match written {
        Ok(()) => println!("kept in {}", folder.join(name).display()),
        Err(error) => println!("cannot keep {name}: {error}"),
    }
}
