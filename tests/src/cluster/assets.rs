//! Where a real kube-apiserver and etcd come from, and what a test does where there are none.
//!
//! They lie in the folder that `KUBEBUILDER_ASSETS` names, by the convention of envtest. Without it
//! `make test` leaves the tests out and lists them as not run; a test that is started all the same
//! says so and passes, except in CI, where a test that did not run is one that failed.

use std::path::PathBuf;

use crate::privilege::kernel_test;

/// Names the folder with `etcd` and `kube-apiserver`.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// How to get them.
pub const HOW: &str = "no API server to test with; to get one:\n    \
    go install sigs.k8s.io/controller-runtime/tools/setup-envtest@latest\n    \
    eval \"$(setup-envtest use -p env)\"";

/// The folder, where it is named and has both programs.
#[must_use]
pub fn assets() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(ASSETS)?);
    ["etcd", "kube-apiserver"].iter().all(|name| folder.join(name).is_file()).then_some(folder)
}

/// Runs `test`, whose full name is `name`, where it has an API server and the privilege to.
///
/// # Panics
/// Where it cannot be run and this is CI, or the test failed.
#[allow(clippy::panic, reason = "it is how a test fails")]
pub fn cluster_test(name: &str, test: impl FnOnce()) {
    if assets().is_some() {
        return kernel_test(name, test);
    }
    assert!(std::env::var("CI").is_err(), "{name}: {HOW}");
    println!("{name}: not run, {HOW}");
}
