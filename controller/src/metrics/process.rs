//! What the process takes of the node, by the names that every Prometheus client library gives.
//!
//! Read from `/proc/self` at each scrape; what cannot be read is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What the kernel counts processor time in, for every program: `USER_HZ`.
const TICKS: f64 = 100.0;

/// Reads the process anew for each scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/self/stat");
        let status = read("/proc/self/status");
        if let Some(seconds) = processor_seconds(&stat) {
            let spent = ConstCounter::new(seconds);
            let help = "Processor time spent, user and system, in seconds";
            let into = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                spent.metric_type(),
            )?;
            spent.encode(into)?;
        }
        if let Some(began) = start_seconds(&stat, &read("/proc/stat")) {
            let gauge = ConstGauge::new(began);
            let help = "When the process began, in seconds since 1970";
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(
                "process_start_time_seconds",
                help,
                None,
                kind,
            )?)?;
        }
        let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", bytes(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Memory set aside", bytes(&status, "VmSize:")),
            // The directory itself is open while it is read.
            ("process_open_fds", "Open file descriptors", open.map(|n| n.saturating_sub(1) as u64)),
            ("process_max_fds", "How many may be open", most_files(&read("/proc/self/limits"))),
            ("process_threads", "Threads", field(&status, "Threads:")),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let into = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(into)?;
        }
        Ok(())
    }
}

/// Field `number` of `stat`, counted from 1 as its manual does. The second is the program's name in
/// parentheses, which may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}

fn processor_seconds(stat: &str) -> Option<f64> {
    Some(seconds(stat_field(stat, 14)? + stat_field(stat, 15)?))
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
fn start_seconds(stat: &str, system: &str) -> Option<f64> {
    Some(field(system, "btime ")? as f64 + seconds(stat_field(stat, 22)?))
}

/// The number behind `name` at the head of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.checked_mul(1024)
}

fn most_files(limits: &str) -> Option<u64> {
    field(limits, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_read_as_the_kernel_lays_them_out() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 12345 1 2 3";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(start_seconds(stat, "cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_123.45));
        let status = "Name:\tpolicyd\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t9\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(bytes(status, "VmSize:"), Some(2 << 20));
        assert_eq!(field(status, "Threads:"), Some(9));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        assert_eq!(most_files(limits), Some(1024));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_left_out() {
        assert_eq!(processor_seconds(""), None);
        assert_eq!(start_seconds("7 (a) S 1", "btime 1"), None);
        assert_eq!(bytes("VmRSS:\tmuch kB", "VmRSS:"), None);
        assert_eq!(most_files("Max open files  unlimited  unlimited  files"), None);
    }
}
