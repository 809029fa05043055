//! PC014: rules see packets after a Service has been translated, so a rule names the port on the pod.

use std::collections::BTreeSet;

use super::port_name::destinations;
use super::protocol::number;
use crate::cluster::{Service, ServicePort, TargetPort};
use crate::lint::Found;
use crate::lint::ports::PortSet;
use crate::lint::rule::Rule;
use crate::lint::scene::{Class, Listed, Scene};
use crate::lint::words::list;
use crate::policy::PortMatch;

/// Numbers that no destination declares and a Service translates.
pub(super) fn service_port(scene: &Scene<'_>, found: &mut Found) {
    for rule in scene.rules() {
        if rule.listed_ports().iter().all(|port| number(port).is_none()) {
            continue;
        }
        let classes = destinations(scene, &rule).classes;
        let mut allowed = PortSet::default();
        allowed.add(rule.ports);
        for (index, port) in rule.listed_ports().iter().enumerate() {
            if let Some(number) = number(port) {
                judge(scene, &rule, (index, port, number), &classes, &allowed, found);
            }
        }
    }
}

fn judge(
    scene: &Scene<'_>,
    rule: &Listed<'_>,
    (index, port, number): (usize, &PortMatch, u16),
    classes: &[usize],
    allowed: &PortSet,
    found: &mut Found,
) {
    let declares = |class: &&usize| {
        let mut ports = scene.classes[**class].ports().iter();
        ports.any(|p| p.number.get() == number && p.protocol == port.protocol)
    };
    if classes.is_empty() || classes.iter().any(|class| declares(&class)) {
        return;
    }
    let field = rule.port_field(index);
    if scene.snapshot.services.is_empty() {
        // Who declares no ports at all may listen anywhere.
        if classes.iter().any(|class| !scene.classes[*class].ports().is_empty()) {
            let reason = "the input has no Services";
            found.lacks(Rule::ServicePort, reason, scene.spot(rule.policy, &field));
        }
        return;
    }
    let mut services = BTreeSet::new();
    let mut targets: BTreeSet<u16> = BTreeSet::new();
    for class in classes.iter().map(|class| &scene.classes[*class]) {
        for (service, service_port) in leading_to(scene, class) {
            let to = targets_of(service_port, class);
            if service_port.protocol != port.protocol || to.is_empty() {
                continue;
            }
            if to.contains(&number) {
                return;
            }
            if service_port.port.get() == number {
                services.insert(service.key.to_string());
                targets.extend(to);
            }
        }
    }
    if targets.is_empty() || targets.iter().all(|t| allowed.has_number(port.protocol, *t)) {
        return;
    }
    let numbers = list(targets.iter().map(|t| format!("{t}/{}", port.protocol)));
    let message = format!(
        "{number} is the port of Service {}, which leads to {numbers}: rules see the port on the pod, and no \
         port {number} is declared there",
        list(services)
    );
    let fix = format!("write `port: {}`", targets.first().copied().unwrap_or(number));
    found.add(scene.finding(Rule::ServicePort, rule.policy, &field, message, fix));
}

/// The Services that lead to pods of a class, each with every port.
fn leading_to<'s>(
    scene: &'s Scene<'_>,
    class: &'s Class<'_>,
) -> impl Iterator<Item = (&'s Service, &'s ServicePort)> {
    let pod = class.one();
    scene
        .services_of(&pod.key.namespace)
        .filter(|service| service.selector.as_ref().is_some_and(|s| s.matches(&pod.labels)))
        .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
}

/// The numbers on the pods of a class that a Service's port leads to.
fn targets_of(port: &ServicePort, class: &Class<'_>) -> Vec<u16> {
    match &port.target {
        None => vec![port.port.get()],
        Some(TargetPort::Number(number)) => vec![number.get()],
        Some(TargetPort::Named(name)) => class
            .ports()
            .iter()
            .filter(|p| p.name.as_ref() == Some(name) && p.protocol == port.protocol)
            .map(|p| p.number.get())
            .collect(),
    }
}
