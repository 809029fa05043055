//! Running the built binary on the fixtures.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of `policyc` left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: i32,
}

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Runs `policyc` with the words of `line` among the fixtures.
pub(crate) fn policyc(line: &str) -> Run {
    policyc_with(line, "", &[])
}

/// The same with something on standard input and in the environment.
pub(crate) fn policyc_with(line: &str, stdin: &str, environment: &[(&str, &str)]) -> Run {
    policyc_in(&fixtures(), line, stdin, environment)
}

/// The same in another directory.
pub(crate) fn policyc_in(
    directory: &Path,
    line: &str,
    stdin: &str,
    environment: &[(&str, &str)],
) -> Run {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_policyc"))
        .args(line.split_whitespace())
        .current_dir(directory)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
        // No test asks the cluster of whoever runs it.
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    // A run that does not read its input closes it; that is no failure.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("the run ends");
    Run {
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        status: output.status.code().expect("no signal"),
    }
}
