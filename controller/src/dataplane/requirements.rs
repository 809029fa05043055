//! What must be there before the tables can be worked on: capabilities, and programs.

use std::env;
use std::fs;

use super::command::Program;
use super::error::OpenError;

/// `CAP_NET_ADMIN`: its number and name.
pub(super) const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
/// `CAP_NET_RAW`, for raw sockets: by one iptables asks which set a rule means, whatever its backend,
/// and legacy hands its rules over by one.
pub(super) const NET_RAW: (u32, &str) = (13, "CAP_NET_RAW");

/// Fails where the process lacks a capability.
pub(super) fn require_capability((bit, name): (u32, &'static str)) -> Result<(), OpenError> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    // A system that does not tell is left to refuse by itself.
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    if effective >> bit & 1 == 1 { Ok(()) } else { Err(OpenError::NotPermitted(name)) }
}

/// Whether a program is found in `PATH`.
pub(super) fn installed(program: Program) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program.name).is_file())
}

/// Fails where a program is not installed.
pub(super) fn require(program: Program) -> Result<(), OpenError> {
    if installed(program) { Ok(()) } else { Err(OpenError::Missing(program)) }
}
