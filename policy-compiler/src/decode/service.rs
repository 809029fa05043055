//! Services: whom they lead to, by which ports, under which addresses.

use std::net::IpAddr;
use std::sync::Arc;

use super::metadata;
use super::pod::ip_address;
use super::port::{NumberOrName, declared_protocol, number, number_or_name};
use super::report::{Field, Mapping, Report};
use super::selector::equality;
use super::{Decoded, Decoding, object_ref};
use crate::cluster::{Service, ServicePort, TargetPort};
use crate::document::{Node, Value};

const SPEC_FIELDS: [&str; 6] =
    ["selector", "ports", "clusterIP", "clusterIPs", "externalIPs", "loadBalancerIP"];

/// Decodes a Service.
///
/// # Errors
/// Where its name, its selector, a port or an address is invalid.
pub fn service(node: &Node, file: Option<&Arc<str>>) -> Decoding<Service> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let service = read(node, &mut report);
    report.conclude(mark, "", "this Service cannot be taken into account");
    Decoded::or_errors(service, report)
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<Service> {
    let object = report.lenient(&Field::root(node), &["metadata", "spec", "status"])?;
    let metadata = metadata::metadata(&object, report)?;
    let key = metadata::key(&metadata, node, report);
    let spec = object.get("spec").and_then(|spec| report.lenient(&spec, &SPEC_FIELDS));
    let mut service = Service {
        key: key?,
        selector: None,
        ports: Vec::new(),
        addresses: Vec::new(),
        location: report.location(node.position),
    };
    if let Some(spec) = spec {
        service.selector = spec
            .get("selector")
            .and_then(|selector| equality(&selector, report))
            .filter(|selector| !selector.is_everything());
        for item in report.list_of(&spec, "ports") {
            service.ports.extend(service_port(&item, report));
        }
        service.addresses = addresses(&spec, report);
    }
    if let Some(status) = object.get("status") {
        service.addresses.extend(load_balancer_addresses(&status, report));
    }
    let mut seen = std::collections::BTreeSet::new();
    service.addresses.retain(|address| seen.insert(*address));
    Some(service)
}

fn service_port(field: &Field<'_>, report: &mut Report<'_>) -> Option<ServicePort> {
    let mapping = report.lenient(field, &["name", "protocol", "port", "targetPort"])?;
    let protocol = declared_protocol(&mapping, report);
    let target = match mapping.get("targetPort").filter(|target| !is_unset(target)) {
        Some(target) => match number_or_name(&target, report)? {
            NumberOrName::Number(number) => Some(TargetPort::Number(number)),
            NumberOrName::Name(name) => Some(TargetPort::Named(name)),
        },
        None => None,
    };
    let port = report.required(&mapping, "port", "a Service port must have a port")?;
    Some(ServicePort {
        name: report.text_of(&mapping, "name").map(Arc::from),
        protocol: protocol?,
        port: number(&port, report)?,
        target,
    })
}

/// The values that the API takes for an absent target port.
fn is_unset(target: &Field<'_>) -> bool {
    match &target.node.value {
        Value::Int(number) => *number == 0,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn addresses(spec: &Mapping<'_>, report: &mut Report<'_>) -> Vec<IpAddr> {
    let mut fields = report.list_of(spec, "clusterIPs");
    if fields.is_empty() {
        fields.extend(spec.get("clusterIP"));
    }
    fields.extend(report.list_of(spec, "externalIPs"));
    fields.extend(spec.get("loadBalancerIP"));
    // A headless Service says `None`.
    fields.retain(|field| field.node.as_str() != Some("None"));
    fields.iter().filter_map(|field| ip_address(field, report)).collect()
}

fn load_balancer_addresses(status: &Field<'_>, report: &mut Report<'_>) -> Vec<IpAddr> {
    let balancer = report
        .lenient(status, &["loadBalancer"])
        .and_then(|status| status.get("loadBalancer"))
        .and_then(|balancer| report.lenient(&balancer, &["ingress"]));
    let Some(balancer) = balancer else { return Vec::new() };
    let mut addresses = Vec::new();
    for item in report.list_of(&balancer, "ingress") {
        let ip = report.lenient(&item, &["ip"]).and_then(|item| item.get("ip"));
        addresses.extend(ip.and_then(|ip| ip_address(&ip, report)));
    }
    addresses
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn of(spec: &Json, status: &Json) -> Decoding<Service> {
        let metadata = json!({"name": "web", "namespace": "shop"});
        let object =
            json!({"kind": "Service", "metadata": metadata, "spec": spec, "status": status});
        service(&Node::from(object), None)
    }

    #[test]
    fn a_service_leads_to_pods_by_ports_under_addresses() {
        let service = of(
            &json!({
                "type": "LoadBalancer", "selector": {"app": "web"},
                "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:96::1"],
                "externalIPs": ["203.0.113.1"], "loadBalancerIP": "203.0.113.2",
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web-port", "nodePort": 30080},
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353},
                    {"port": 443},
                    {"port": 444, "targetPort": 0},
                ],
            }),
            &json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.2"}, {"hostname": "lb.example"}]}}),
        )
        .unwrap()
        .object;
        assert_eq!(service.selector.map(|s| s.to_string()).as_deref(), Some("app=web"));
        let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.96.0.1", "fd00:96::1", "203.0.113.1", "203.0.113.2"]);
        let targets: Vec<_> =
            service.ports.iter().map(|p| (p.port.get(), p.target.clone())).collect();
        let name = crate::port::PortName::new("web-port").unwrap();
        let number = std::num::NonZeroU16::new(5353).unwrap();
        assert_eq!(
            targets,
            [
                (80, Some(TargetPort::Named(name))),
                (53, Some(TargetPort::Number(number))),
                (443, None),
                (444, None),
            ]
        );
    }

    #[test]
    fn a_service_may_be_headless_or_without_selector() {
        for spec in
            [json!({"clusterIP": "None"}), json!({"clusterIP": "", "selector": {}}), json!(null)]
        {
            let service = of(&spec, &json!(null)).unwrap().object;
            assert_eq!((service.selector, service.addresses), (None, vec![]), "{spec}");
        }
    }

    #[test]
    fn a_service_with_an_invalid_port_is_an_error() {
        for (spec, field) in [
            (json!({"ports": [{}]}), "spec.ports[0].port"),
            (json!({"ports": [{"port": 80, "targetPort": "80"}]}), "spec.ports[0].targetPort"),
            (json!({"selector": {"app": 1}}), "spec.selector.app"),
            (json!({"clusterIPs": ["x"]}), "spec.clusterIPs[0]"),
        ] {
            let findings = of(&spec, &json!(null)).unwrap_err();
            assert_eq!(findings[0].field, field, "{spec}");
        }
    }
}
