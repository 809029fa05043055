//! PC006: an item of `ports` without a protocol is TCP. Said only where that has a consequence that is
//! hardly meant: an item that is every TCP port, port 53 without UDP, and a number that the
//! destinations declare for another protocol alone.

use std::collections::BTreeSet;

use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene};
use crate::policy::{PortMatch, PortNumbers};
use crate::port::Protocol;

const DNS: u16 = 53;

/// The number of an item that has exactly one.
pub(super) fn number(port: &PortMatch) -> Option<u16> {
    match &port.numbers {
        PortNumbers::Range(range) if range.first() == range.last() => Some(range.first().get()),
        _ => None,
    }
}

/// Port items that say TCP by saying nothing.
pub(super) fn omitted(scene: &Scene<'_>, found: &mut Found) {
    for rule in scene.rules() {
        let Some(written) = scene.document(rule.policy) else { continue };
        for (index, port) in rule.listed_ports().iter().enumerate() {
            let field = rule.port_field(index);
            let protocol = written.field(&format!("{field}.protocol"));
            if protocol.is_some_and(|node| !node.is_null()) {
                continue;
            }
            if let Some((message, fix)) = consequence(scene, &rule, port) {
                found.add(scene.finding(Rule::ProtocolOmitted, rule.policy, &field, message, fix));
            }
        }
    }
}

fn consequence<'a>(
    scene: &Scene<'a>,
    rule: &Listed<'a>,
    port: &PortMatch,
) -> Option<(String, String)> {
    if port.numbers == PortNumbers::Any {
        return Some((
            "an item without port and protocol is every TCP port, and no other protocol".to_owned(),
            "write `protocol: TCP` if that is meant; for all there is, leave `ports` out"
                .to_owned(),
        ));
    }
    let number = number(port)?;
    let mut udp = rule.listed_ports().iter().filter(|port| port.protocol == Protocol::Udp);
    let has_udp = udp.any(|port| match &port.numbers {
        PortNumbers::Any => true,
        PortNumbers::Range(range) => range.contains(number),
        PortNumbers::Named(_) => false,
    });
    if number == DNS && !has_udp {
        return Some((
            "without a protocol port 53 is TCP alone, and DNS asks over UDP first".to_owned(),
            "add `{port: 53, protocol: UDP}`, and say `protocol: TCP` here".to_owned(),
        ));
    }
    let declared = declared(scene, rule, number);
    if declared.is_empty() || declared.contains(&Protocol::Tcp) || has_udp {
        return None;
    }
    let other = declared.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    Some((
        format!(
            "without a protocol port {number} is TCP, and the pods declare it for {other} alone"
        ),
        format!("write `protocol: {}`", declared.first()?),
    ))
}

/// For which protocols the destinations of a rule declare a number.
fn declared<'a>(scene: &Scene<'a>, rule: &Listed<'a>, number: u16) -> BTreeSet<Protocol> {
    let destinations = super::port_name::destinations(scene, rule).classes;
    let ports = destinations.iter().flat_map(|class| scene.classes[*class].ports());
    ports.filter(|port| port.number.get() == number).map(|port| port.protocol).collect()
}
