//! The kernel's switches that decide whether packets of pods meet iptables.
//!
//! They belong to a network namespace, and `/proc/sys/net` shows those of the thread that opens it.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// A switch under `/proc/sys/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// Whether IPv4 is forwarded.
    Ipv4Forwarding,
    /// Whether IPv6 is forwarded.
    Ipv6Forwarding,
    /// Whether IPv4 on bridges meets iptables.
    BridgeIptables,
    /// Whether IPv6 on bridges meets ip6tables.
    BridgeIp6tables,
    /// Whether that also holds for frames with a VLAN tag.
    BridgeVlanTagged,
}

impl Switch {
    /// Those of bridges, all of which must be on for bridged packets to meet our rules.
    pub const OF_BRIDGES: [Self; 3] =
        [Self::BridgeIptables, Self::BridgeIp6tables, Self::BridgeVlanTagged];

    fn path(self) -> &'static str {
        match self {
            Self::Ipv4Forwarding => "ipv4/ip_forward",
            Self::Ipv6Forwarding => "ipv6/conf/all/forwarding",
            Self::BridgeIptables => "bridge/bridge-nf-call-iptables",
            Self::BridgeIp6tables => "bridge/bridge-nf-call-ip6tables",
            Self::BridgeVlanTagged => "bridge/bridge-nf-filter-vlan-tagged",
        }
    }

    /// Its name without what all of its kind begin with.
    pub(super) fn short(self) -> &'static str {
        self.path().rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Switch {
    /// As `sysctl` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.{}", self.path().replace('/', "."))
    }
}

/// Why a switch could not be put on.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Its value is not shown.
    #[error("cannot read {switch}")]
    Read {
        /// Which.
        switch: Switch,
        /// Why.
        source: io::Error,
    },
    /// The kernel, or a read-only `/proc/sys`, refuses.
    #[error("cannot set {switch}=1")]
    Write {
        /// Which.
        switch: Switch,
        /// Why.
        source: io::Error,
    },
}

/// The switches of a network namespace.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

impl Sysctls {
    /// Those of whatever thread asks.
    #[must_use]
    pub fn of_this_namespace() -> Self {
        Self { root: PathBuf::from("/proc/sys/net") }
    }

    #[cfg(test)]
    pub(super) fn at(root: &std::path::Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether it is on.
    ///
    /// # Errors
    /// Where it is not there, is not ours to read, or has no number as its value.
    pub fn read(&self, switch: Switch) -> io::Result<bool> {
        let text = fs::read_to_string(self.root.join(switch.path()))?;
        let value: i64 = text
            .trim()
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(value != 0)
    }

    /// Whether `br_netfilter` is there, which brings the switches of bridges.
    #[must_use]
    pub fn has_bridge_netfilter(&self) -> bool {
        self.root.join("bridge").exists()
    }

    /// Puts the switches of bridges on: for each whether it was off. None where `br_netfilter` is
    /// not loaded, which is not ours to do.
    #[must_use]
    pub fn set_bridges(&self) -> Vec<(Switch, Result<bool, SysctlError>)> {
        if !self.has_bridge_netfilter() {
            return Vec::new();
        }
        Switch::OF_BRIDGES.map(|switch| (switch, self.put_on(switch))).into()
    }

    fn put_on(&self, switch: Switch) -> Result<bool, SysctlError> {
        let on = self.read(switch).map_err(|source| SysctlError::Read { switch, source })?;
        if !on {
            fs::write(self.root.join(switch.path()), "1")
                .map_err(|source| SysctlError::Write { switch, source })?;
        }
        Ok(!on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_has_the_name_that_sysctl_knows() {
        assert_eq!(Switch::Ipv6Forwarding.to_string(), "net.ipv6.conf.all.forwarding");
        let name = "net.bridge.bridge-nf-call-ip6tables";
        assert_eq!(Switch::BridgeIp6tables.to_string(), name);
    }

    #[test]
    fn any_number_but_zero_is_on_and_anything_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ipv4")).unwrap();
        let sysctls = Sysctls::at(folder.path());
        let value = |text: &str| {
            fs::write(folder.path().join("ipv4/ip_forward"), text).unwrap();
            sysctls.read(Switch::Ipv4Forwarding).map_err(|error| error.kind())
        };
        assert_eq!(value("1\n"), Ok(true));
        assert_eq!(value("2\n"), Ok(true));
        assert_eq!(value("0\n"), Ok(false));
        assert_eq!(value("\n"), Err(io::ErrorKind::InvalidData));
        let missing = sysctls.read(Switch::Ipv6Forwarding).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn switches_of_bridges_are_put_on_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let sysctls = Sysctls::at(folder.path());
        assert!(sysctls.set_bridges().is_empty(), "no br_netfilter");

        fs::create_dir(folder.path().join("bridge")).unwrap();
        for (switch, value) in [(Switch::BridgeIptables, "1\n"), (Switch::BridgeIp6tables, "0\n")] {
            fs::write(folder.path().join(switch.path()), value).unwrap();
        }
        let lines = || -> Vec<String> {
            let line = |(switch, outcome): (Switch, Result<bool, SysctlError>)| match outcome {
                Ok(was_off) => format!("{} {was_off}", switch.short()),
                Err(error) => error.to_string(),
            };
            sysctls.set_bridges().into_iter().map(line).collect()
        };
        let unreadable = "cannot read net.bridge.bridge-nf-filter-vlan-tagged".to_owned();
        let expected =
            |v6| vec!["bridge-nf-call-iptables false".to_owned(), v6, unreadable.clone()];
        assert_eq!(lines(), expected("bridge-nf-call-ip6tables true".to_owned()));
        assert_eq!(lines(), expected("bridge-nf-call-ip6tables false".to_owned()));
    }
}
