use super::*;

use std::net::IpAddr;

use policy_compiler::name::ObjectKey;

use crate::dataplane::links::Way;

fn link(device: &str, layer: LinkLayerType, infos: Vec<LinkInfo>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.link_layer_type = layer;
    link.attributes.push(LinkAttribute::IfName(device.to_owned()));
    if !infos.is_empty() {
        link.attributes.push(LinkAttribute::LinkInfo(infos));
    }
    link
}

fn of_kind(device: &str, kind: InfoKind) -> LinkMessage {
    link(device, LinkLayerType::Ether, vec![LinkInfo::Kind(kind)])
}

#[test]
fn what_shares_a_card_with_the_node_leads_past_forward() {
    let past = |kind: &str| Attachment::PastForward(kind.to_owned());
    let other = |kind: &str| InfoKind::Other(kind.to_owned());
    for (kind, expected) in [
        (InfoKind::Veth, Attachment::Seen),
        (InfoKind::Tun, Attachment::Seen),
        (InfoKind::Vxlan, Attachment::Seen),
        (InfoKind::Wireguard, Attachment::Seen),
        (other("of a later kernel"), Attachment::Seen),
        (InfoKind::MacVlan, past("macvlan")),
        (InfoKind::MacVtap, past("macvtap")),
        (InfoKind::IpVlan, past("ipvlan")),
        (InfoKind::IpVtap, past("ipvtap")),
        (InfoKind::Bond, past("bond")),
        (InfoKind::Team, past("team")),
        (InfoKind::Vlan, past("vlan")),
        (other("openvswitch"), past("openvswitch")),
    ] {
        assert_eq!(attachment(&of_kind("x0", kind.clone())), expected, "{kind:?}");
    }
    for (layer, expected) in [
        (LinkLayerType::Ether, past("a network card")),
        (LinkLayerType::Infiniband, past("a network card")),
        (LinkLayerType::Loopback, Attachment::Seen),
        (LinkLayerType::Ppp, Attachment::Seen),
    ] {
        assert_eq!(attachment(&link("x0", layer, Vec::new())), expected, "{layer:?}");
    }
}

#[test]
fn a_bridge_tells_its_own_switches() {
    let with = |values: Vec<InfoBridge>| {
        let infos =
            vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(values))];
        attachment(&link("cni0", LinkLayerType::Ether, infos))
    };
    let is = |iptables, ip6tables| Attachment::Bridge { iptables, ip6tables };
    assert_eq!(with(Vec::new()), is(false, false), "a kernel without br_netfilter tells none");
    let both = |v4, v6| vec![InfoBridge::NfCallIpTables(v4), InfoBridge::NfCallIp6Tables(v6)];
    assert_eq!(with(both(true, false)), is(true, false));
    assert_eq!(with(both(false, true)), is(false, true));
}

/// The addresses of pods `x/a`, `x/b`... with the interface by which each is reached, and whether by
/// a gateway.
fn attached(pods: &[(&str, &str, u32, bool)], links: &[(u32, LinkMessage)]) -> Attached {
    let way = |(name, address, index, far): &(&str, &str, u32, bool)| {
        let key = ObjectKey::new("x", name).unwrap();
        (key, address.parse::<IpAddr>().unwrap(), Way { index: *index, far: *far })
    };
    Attached { ways: pods.iter().map(way).collect(), links: links.iter().cloned().collect() }
}

fn judged(
    suspects: &mut Suspects,
    attached: &Attached,
    now: Instant,
) -> Vec<(ConcernKind, String)> {
    let mut concerns = BTreeSet::new();
    suspects.judge(attached, now, &mut concerns);
    let brief = |c: Concern| (c.kind, c.detail.split(',').next().unwrap().to_owned());
    concerns.into_iter().map(brief).collect()
}

#[test]
fn a_strange_way_is_told_once_for_each_interface_and_only_when_it_lasts() {
    let links = [
        (2, link("eth0", LinkLayerType::Ether, Vec::new())),
        (3, of_kind("shim", InfoKind::MacVlan)),
        (4, of_kind("veth1", InfoKind::Veth)),
    ];
    let pods = [
        ("a", "10.0.0.1", 2, false),
        ("b", "10.0.0.2", 2, false),
        ("c", "fd00::3", 3, false),
        ("d", "10.0.0.4", 4, false),
        ("e", "10.9.0.5", 2, true),
    ];
    let now = Instant::now();
    let mut suspects = Suspects::default();
    let all = attached(&pods, &links);
    assert_eq!(judged(&mut suspects, &all, now), []);
    assert_eq!(judged(&mut suspects, &all, now + LASTING / 2), []);
    let direct = |text: &str| (ConcernKind::InterfaceBypasses, text.to_owned());
    let gateway = "pods such as x/e (10.9.0.5) are reached over eth0 by way of a gateway: make sure \
                   that what they send and receive passes FORWARD";
    let expected = [
        direct("pods such as x/a (10.0.0.1) are reached directly over eth0 (a network card)"),
        direct("pods such as x/c (fd00::3) are reached directly over shim (macvlan)"),
        (ConcernKind::PodBehindGateway, gateway.to_owned()),
    ];
    assert_eq!(judged(&mut suspects, &all, now + LASTING), expected);
}

#[test]
fn a_terminating_pod_is_not_taken_for_a_strange_one() {
    let links = [
        (2, link("eth0", LinkLayerType::Ether, Vec::new())),
        (4, of_kind("veth1", InfoKind::Veth)),
    ];
    let on = |index| attached(&[("a", "10.0.0.1", index, false)], &links);
    let now = Instant::now();
    let mut suspects = Suspects::default();
    assert_eq!(judged(&mut suspects, &on(2), now), []);
    // Its address was given to a pod that is reached as it should be, and later once more.
    assert_eq!(judged(&mut suspects, &on(4), now + LASTING), []);
    assert_eq!(judged(&mut suspects, &on(2), now + LASTING * 2), [], "the time starts anew");
    assert_eq!(judged(&mut suspects, &on(2), now + LASTING * 3).len(), 1);
}
