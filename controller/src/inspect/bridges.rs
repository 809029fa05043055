//! Bridges whose packets iptables is not shown.
//!
//! What pods of one bridge say to each other is not routed and meets iptables only where
//! `br_netfilter` shows it: where the switch of the namespace or that of the bridge is on, and for a
//! frame with a VLAN tag where that switch is on too.

use std::collections::BTreeSet;

use policy_compiler::cidr::Family;

use super::attachment::{Attachment, attachment, name};
use super::sysctl::{Switch, Sysctls};
use super::{Attached, Concern, ConcernKind};

/// Judges the bridges that carry pods.
pub(super) fn judge(sysctls: &Sysctls, attached: &Attached, concerns: &mut BTreeSet<Concern>) {
    for (index, link) in &attached.links {
        let Attachment::Bridge { iptables, ip6tables } = attachment(link) else { continue };
        let families: BTreeSet<Family> =
            attached.directly_by(*index).map(|(_, address)| Family::of(address)).collect();
        if families.is_empty() {
            continue;
        }
        let bridge = name(link);
        if !sysctls.has_bridge_netfilter() {
            concerns.insert(Concern::new(
                ConcernKind::BridgeNetfilterAbsent,
                format!(
                    "bridge {bridge} carries pods and br_netfilter is not loaded, so that no rule \
                     sees what they say to each other: modprobe br_netfilter"
                ),
            ));
            continue;
        }
        for family in families {
            let (switch, own) = match family {
                Family::V4 => (Switch::BridgeIptables, iptables),
                Family::V6 => (Switch::BridgeIp6tables, ip6tables),
            };
            if !own {
                judge_switch(sysctls, bridge, switch, concerns);
            }
        }
        judge_switch(sysctls, bridge, Switch::BridgeVlanTagged, concerns);
    }
}

fn judge_switch(sysctls: &Sysctls, bridge: &str, switch: Switch, concerns: &mut BTreeSet<Concern>) {
    let (kind, meaning) = match switch {
        Switch::BridgeVlanTagged => (
            ConcernKind::VlanTagsUnfiltered,
            " (the kernel's default), so that a frame with a VLAN-0 tag passes every rule by",
        ),
        _ => (ConcernKind::BridgeUnfiltered, ""),
    };
    concerns.extend(match sysctls.read(switch) {
        Ok(true) => None,
        Ok(false) => Some(Concern::new(
            kind,
            format!(
                "bridge {bridge} carries pods and {} is 0{meaning}: run with --set-bridge-sysctls \
                 or set {switch}=1",
                switch.short()
            ),
        )),
        Err(error) => Some(Concern::unreadable(switch, &error)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::net::IpAddr;
    use std::path::Path;

    use netlink_packet_route::link::{
        InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
    };
    use policy_compiler::name::ObjectKey;

    use crate::dataplane::links::Way;

    /// Bridge `cni0` with its own switches, and a pod of each family on it.
    fn carrying(v4: bool, v6: bool, addresses: &[&str]) -> Attached {
        let values = vec![InfoBridge::NfCallIpTables(v4), InfoBridge::NfCallIp6Tables(v6)];
        let infos =
            vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(values))];
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName("cni0".to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(infos));
        let key = ObjectKey::new("x", "a").unwrap();
        let way = Way { index: 7, far: false };
        let pod = |address: &&str| (key.clone(), address.parse::<IpAddr>().unwrap(), way);
        Attached { ways: addresses.iter().map(pod).collect(), links: [(7, link)].into() }
    }

    fn set(root: &Path, values: [&str; 3]) {
        fs::create_dir_all(root.join("bridge")).unwrap();
        for (switch, value) in Switch::OF_BRIDGES.into_iter().zip(values) {
            fs::write(root.join("bridge").join(switch.short()), value).unwrap();
        }
    }

    fn judged(root: &Path, attached: &Attached) -> Vec<(ConcernKind, String)> {
        let mut concerns = BTreeSet::new();
        judge(&Sysctls::at(root), attached, &mut concerns);
        let brief = |c: Concern| {
            (c.kind, c.detail.split([':', ',']).next().unwrap().replace("carries pods and ", ""))
        };
        concerns.into_iter().map(brief).collect()
    }

    fn unfiltered(text: &str) -> (ConcernKind, String) {
        (ConcernKind::BridgeUnfiltered, text.to_owned())
    }

    const BOTH: &[&str] = &["10.0.0.1", "fd00::1"];

    #[test]
    fn either_switch_shows_a_bridges_packets_and_only_for_its_family() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let v4 = || unfiltered("bridge cni0 bridge-nf-call-iptables is 0");
        let v6 = || unfiltered("bridge cni0 bridge-nf-call-ip6tables is 0");
        for (name, values, own, addresses, expected) in [
            ("all on", ["1", "1", "1"], (false, false), BOTH, vec![]),
            ("both off", ["0", "0", "1"], (false, false), BOTH, vec![v6(), v4()]),
            ("on for the bridge", ["0", "0", "1"], (true, true), BOTH, vec![]),
            ("one on for the bridge", ["0", "0", "1"], (true, false), BOTH, vec![v6()]),
            ("one off", ["0", "1", "1"], (false, false), BOTH, vec![v4()]),
            ("no IPv6", ["1", "0", "1"], (false, false), &["10.0.0.1"], vec![]),
        ] {
            set(root, values);
            assert_eq!(judged(root, &carrying(own.0, own.1, addresses)), expected, "{name}");
        }
    }

    #[test]
    fn tagged_frames_are_a_warning_whatever_the_bridge_says() {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), ["0", "0", "0"]);
        let detail = "bridge cni0 bridge-nf-filter-vlan-tagged is 0 (the kernel's default)";
        let expected = [(ConcernKind::VlanTagsUnfiltered, detail.to_owned())];
        assert_eq!(judged(folder.path(), &carrying(true, true, BOTH)), expected);
    }

    #[test]
    fn a_bridge_without_br_netfilter_is_told_only_where_it_carries_pods() {
        let folder = tempfile::tempdir().unwrap();
        let expected = [(
            ConcernKind::BridgeNetfilterAbsent,
            "bridge cni0 br_netfilter is not loaded".to_owned(),
        )];
        assert_eq!(judged(folder.path(), &carrying(false, false, BOTH)), expected);
        assert_eq!(judged(folder.path(), &carrying(false, false, &[])), []);
    }

    #[test]
    fn a_switch_that_cannot_be_read_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), ["1", "on", "1"]);
        let detail = "cannot read net.bridge.bridge-nf-call-ip6tables".to_owned();
        let expected = [(ConcernKind::Unreadable, detail)];
        assert_eq!(judged(folder.path(), &carrying(false, false, BOTH)), expected);
    }
}
