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
    let mut command = Command::new(env!("CARGO_BIN_EXE_policyc"));
    command.args(line.split_whitespace()).current_dir(directory);
    run(command, stdin, environment)
}

/// The same among the fixtures, in at most so much memory for data.
#[cfg(target_os = "linux")]
pub(crate) fn policyc_within(kilobytes: usize, line: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -d {kilobytes} && exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_policyc"))
        .args(line.split_whitespace())
        .current_dir(fixtures());
    run(command, "", environment)
}

/// Makes `command` independent of whoever runs it.
pub(crate) fn alone<'c>(command: &'c mut Command, environment: &[(&str, &str)]) -> &'c mut Command {
    command
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
        // No test asks the cluster of whoever runs it.
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .envs(environment.iter().copied())
}

fn run(mut command: Command, stdin: &str, environment: &[(&str, &str)]) -> Run {
    use std::io::Write as _;
    let mut child = alone(&mut command, environment)
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
