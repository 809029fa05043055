//! Where figures are kept, beside those of the datapath.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// Writes a file into `bench` of the target directory.
pub fn keep(name: &str, content: &Value) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
        PathBuf::from,
    );
    let folder = target.join("bench");
    let written = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join(name), format!("{content:#}\n")));
    match written {
        Ok(()) => println!("kept in {}", folder.join(name).display()),
        Err(error) => println!("cannot keep {name}: {error}"),
    }
}
