//! The program as a plugin of kubectl: its name, its completion, and its entry in the plugin index.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use policy_compiler::document::{Node, Value};
use policy_manifest::yaml;

use crate::run::{fixtures, policyc};

fn plugin(words: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-policyc"))
        .args(words)
        .current_dir(fixtures())
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("the binary was built");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code())
}

#[test]
fn the_plugin_is_the_program_under_another_name() {
    let (help, status) = plugin(&["--help"]);
    assert_eq!(status, Some(0));
    assert!(help.contains("Usage: kubectl policyc [OPTIONS] <COMMAND>"), "{help}");
    let (help, _) = plugin(&["can", "--help"]);
    assert!(help.contains("Usage: kubectl policyc can "), "{help}");
    assert!(help.contains("  kubectl policyc can shop/web shop/cart-0 8080"), "{help}");
    let words = ["can", "shop/api-0", "shop/cart-0", "8080", "-f", "shop"];
    let run = policyc(&words.join(" "));
    assert_eq!(plugin(&words), (run.stdout, Some(run.status)));
}

#[test]
fn kubectl_is_told_what_could_follow() {
    let names = |words: &[&str]| -> Vec<String> {
        let (out, status) = plugin(&[&["__complete"], words].concat());
        assert_eq!(status, Some(0), "{words:?}");
        out.lines().map(|line| line.split('\t').next().unwrap_or(line).to_owned()).collect()
    };
    assert_eq!(names(&["li"]), ["lint", ":4"]);
    assert!(names(&[""]).contains(&"explain".to_owned()));
    assert!(!names(&[""]).contains(&"__complete".to_owned()));
    assert!(names(&["explain", "p"]).contains(&"pod".to_owned()));
    assert_eq!(names(&["diff", "-o", "m"]), ["markdown", ":4"]);
    assert_eq!(names(&["-v", "diff", "--fail-on", "b"]), ["breaking", ":4"]);
    assert_eq!(names(&["can", "a", "b", "80", "--kubec"]), ["--kubeconfig", ":4"]);
    assert_eq!(names(&["can", "--col"]), ["--color", ":4"]);
    assert_eq!(names(&["lint", "-f", ""]), [":0"], "a file");
    assert_eq!(names(&["can", "--context=x", ""]), [":0"], "an operand");
    let script = policyc("completions kubectl").stdout;
    assert!(
        script.starts_with("#!/bin/sh\n") && script.contains("exec kubectl-policyc __complete")
    );
}

const ADDRESS: &str = "https://example.org/releases";

/// An archive as a release would have it, for each platform, with `files`.
fn archives(files: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for platform in ["linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"] {
        for file in files {
            std::fs::write(directory.path().join(file), platform).expect("a file");
        }
        let archive = format!("kubectl-policyc-{platform}.tar.gz");
        let status = Command::new("tar")
            .args(["-czf", &archive])
            .args(files)
            .current_dir(directory.path())
            .status()
            .expect("tar is there");
        assert!(status.success());
    }
    directory
}

/// The plugin index entry of the archives in `directory`, or why there is none.
fn entry_of(directory: &Path) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/krew");
    let output = Command::new(script).arg(directory).arg(ADDRESS).output().expect("it is there");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn an_archive_that_lacks_something_is_in_no_plugin_index() {
    let lacking = archives(&["kubectl-policyc", "LICENSE-MIT"]);
    let refused = entry_of(lacking.path()).expect_err("a licence is lacking");
    assert!(refused.contains("no LICENSE-APACHE in it"), "{refused}");
    let whole = archives(&["kubectl-policyc", "LICENSE-APACHE", "LICENSE-MIT"]);
    std::fs::remove_file(whole.path().join("kubectl-policyc-darwin-arm64.tar.gz")).unwrap();
    assert!(entry_of(whole.path()).is_err(), "an archive is lacking");
}

#[test]
fn the_plugin_index_entry_is_whole_and_of_this_version() {
    use std::fmt::Write as _;

    use sha2::{Digest as _, Sha256};
    let directory = archives(&["kubectl-policyc", "LICENSE-APACHE", "LICENSE-MIT"]);
    let text = entry_of(directory.path()).expect("an entry");
    assert!(!text.contains('@'), "{text}");
    let documents = yaml::parse(&text).expect("YAML");
    let [plugin] = documents.as_slice() else { panic!("one document") };
    let at = |node: &Node, keys: &[&str]| -> String {
        let mut node = node.clone();
        for key in keys {
            node = node.get(key).unwrap_or_else(|| panic!("no {key} in {keys:?}")).clone();
        }
        node.as_str().expect("text").to_owned()
    };
    assert_eq!(at(plugin, &["apiVersion"]), "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(at(plugin, &["kind"]), "Plugin");
    assert_eq!(at(plugin, &["metadata", "name"]), "policyc");
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    assert_eq!(at(plugin, &["spec", "version"]), version);
    let short = at(plugin, &["spec", "shortDescription"]);
    assert!(short.len() <= 50 && !short.ends_with('.'), "the index wants a short line: {short}");
    let platforms = plugin.get("spec").and_then(|spec| spec.get("platforms")).expect("platforms");
    let Value::List(platforms) = &platforms.value else { panic!("a list") };
    let mut served = BTreeSet::new();
    for platform in platforms {
        let os = at(platform, &["selector", "matchLabels", "os"]);
        let arch = at(platform, &["selector", "matchLabels", "arch"]);
        let uri = at(platform, &["uri"]);
        let archive = format!("kubectl-policyc-{os}-{arch}.tar.gz");
        assert_eq!(uri, format!("{ADDRESS}/{archive}"));
        let bytes = std::fs::read(directory.path().join(archive)).expect("an archive");
        let mut sum = String::new();
        for byte in Sha256::digest(bytes) {
            let _ = write!(sum, "{byte:02x}");
        }
        assert_eq!(at(platform, &["sha256"]), sum);
        assert_eq!(at(platform, &["bin"]), "kubectl-policyc");
        let files = platform.get("files").expect("files");
        let Value::List(files) = &files.value else { panic!("a list") };
        let files: Vec<String> = files.iter().map(|file| at(file, &["from"])).collect();
        assert!(files.contains(&"kubectl-policyc".to_owned()), "{files:?}");
        assert!(files.iter().any(|file| file.starts_with("LICENSE")), "the index wants a licence");
        served.insert((os, arch));
    }
    let wanted = ["linux", "darwin"]
        .into_iter()
        .flat_map(|os| ["amd64", "arm64"].map(|arch| (os.to_owned(), arch.to_owned())));
    assert_eq!(served, wanted.collect());
}
