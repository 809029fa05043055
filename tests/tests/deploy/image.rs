//! The Dockerfile, and the file system that is laid out without an engine, are made of the same.

use crate::{text, top};

/// The instructions of the Dockerfile, each on one line.
fn instructions() -> Vec<String> {
    let dockerfile = text("Dockerfile").replace("\\\n", " ");
    dockerfile
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The arguments of the instruction `name` of the last stage.
fn last_stage(name: &str) -> Vec<String> {
    let all = instructions();
    let start = all.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    let prefix = format!("{name} ");
    all[start..].iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

#[test]
fn the_image_runs_policyd_as_root() {
    assert_eq!(last_stage("ENTRYPOINT"), [r#"["policyd"]"#]);
    assert_eq!(last_stage("CMD"), [r#"["run"]"#]);
    assert_eq!(last_stage("USER"), ["0:0"]);
}

#[test]
fn image_and_rootfs_are_of_one_debian_with_one_list_of_packages() {
    let rootfs = text(".ci/rootfs");
    let suite = rootfs.lines().find_map(|line| line.strip_prefix("suite=")).unwrap();
    assert_eq!(last_stage("FROM"), [format!("debian:{suite}-slim")]);
    assert!(instructions()[0].starts_with(&format!("FROM rust:{}-slim-{suite} ", toolchain())));
    for file in ["Dockerfile", ".ci/rootfs"] {
        assert!(text(file).contains(".ci/runtime-packages"), "{file}");
    }
    let list = text(".ci/runtime-packages");
    let packages: Vec<&str> = list.lines().collect();
    assert_eq!(packages, ["ipset", "iptables", "libipset13", "nftables"]);
    // What both take beside packages.
    assert!(
        instructions()
            .iter()
            .any(|line| line.starts_with("RUN ") && line.ends_with(".ci/stage /stage"))
    );
    assert_eq!(
        last_stage("COPY"),
        [".ci/runtime-packages /tmp/runtime-packages", "--from=build /stage/ /"]
    );
    assert!(rootfs.contains(".ci/stage "));
}

/// The pinned one.
fn toolchain() -> String {
    let file = text("rust-toolchain.toml");
    let channel = file.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.unwrap().trim_matches('"').to_owned()
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain() {
    let all = instructions();
    let variable = all.iter().find_map(|line| line.strip_prefix("ENV RUSTUP_TOOLCHAIN="));
    assert_eq!(variable, Some(toolchain().as_str()));
}

#[test]
fn the_build_sees_every_member_of_the_workspace() {
    let ignored = text(".dockerignore");
    for member in
        ["controller", "policy-compiler", "tests", "Cargo.toml", "Cargo.lock", ".ci/stage"]
    {
        assert!(ignored.lines().any(|line| line == format!("!{member}")), "{member}");
        assert!(top().join(member).exists(), "{member}");
    }
    let manifest = text("Cargo.toml");
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    for member in members.split(',').map(|word| word.trim().trim_matches('"')) {
        let folder = member.split('/').next().unwrap();
        assert!(folder.is_empty() || ignored.contains(&format!("!{folder}\n")), "{member}");
    }
}
