//! Where kernel tests run: as root, each in namespaces that it makes; else in a user namespace.
//!
//! A user namespace can only be entered by a process with one thread, which a test is not. So the
//! test starts its own binary again under `unshare --user --map-root-user --net`, for itself alone,
//! and passes on what came of it. Where that cannot be either, the test fails by name, unless
//! `KERNEL_TESTS=skip` says that it need not run.

use std::process::Command;

use crate::enforcement::{LOCK_FILE, OWN_NAMESPACE};

/// Says how kernel tests are to be taken: `skip` lets them pass without running.
pub const KERNEL_TESTS: &str = "KERNEL_TESTS";
/// Marks the copy that runs inside.
const INSIDE: &str = "POLICY_TESTS_INSIDE";

/// Runs `test`, whose full name is `name`, where it has the privilege to.
///
/// # Panics
/// Where the privilege cannot be had, or the test in the user namespace failed.
#[allow(clippy::panic, reason = "it is how a test fails")]
pub fn kernel_test(name: &str, test: impl FnOnce()) {
    if std::env::var(KERNEL_TESTS).is_ok_and(|value| value == "skip") {
        println!("{name}: skipped by {KERNEL_TESTS}=skip");
        return;
    }
    if nix::unistd::geteuid().is_root() {
        test();
        return;
    }
    assert!(std::env::var_os(INSIDE).is_none(), "{name}: a user namespace did not make us root");
    let binary = std::env::current_exe()
        .unwrap_or_else(|error| panic!("{name}: cannot find the test's own binary: {error}"));
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(binary)
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        // Root's lock file is not for others.
        .env(LOCK_FILE, OWN_NAMESPACE)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!(
            "{name}: failed in an unprivileged user namespace ({status}); where that is forbidden \
             run as root, or set {KERNEL_TESTS}=skip"
        ),
        Err(error) => panic!(
            "{name}: needs root or `unshare` of util-linux ({error}); {KERNEL_TESTS}=skip leaves it out"
        ),
    }
}
