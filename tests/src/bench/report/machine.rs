//! What a run was made on, so that a reader can tell two runs apart.

use std::fs;
use std::process::Command;

/// The machine and the programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of it.
    pub processors: usize,
    /// The kernel's release.
    pub kernel: String,
    /// iptables' version.
    pub iptables: String,
    /// ipset's.
    pub ipset: String,
}

impl Machine {
    /// The one that this runs on. What cannot be found out is empty.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let processor = processor.and_then(|line| line.split_once(": ")).map(|(_, name)| name);
        let version = |program: &str| {
            let output = Command::new(program).arg("--version").output().ok();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let words = text.unwrap_or_default();
            words.split_whitespace().nth(1).unwrap_or_default().trim_end_matches(',').to_owned()
        };
        Self {
            processor: processor.unwrap_or_default().trim().to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            iptables: version("iptables-nft"),
            ipset: version("ipset"),
        }
    }
}
