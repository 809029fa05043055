//! One processor for the thread that measures: a packet is then carried on the one that its sender
//! runs on, and caches stay warm.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::BenchError;

/// Keeps the calling thread, and what it starts, on the last processor that it may use: the first serves
/// most interrupts.
///
/// # Errors
/// Where the system refuses.
pub fn pin() -> Result<usize, BenchError> {
    let refused = |errno: nix::errno::Errno| {
        BenchError::system("choose a processor")(std::io::Error::from(errno))
    };
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own).map_err(refused)?;
    let last =
        (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).unwrap_or(0);
    let mut only = CpuSet::new();
    only.set(last).map_err(refused)?;
    sched_setaffinity(own, &only).map_err(refused)?;
    Ok(last)
}
