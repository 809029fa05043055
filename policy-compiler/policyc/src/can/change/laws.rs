//! The law of proposals: what one proposes, done to the manifest, allows the flow, and opens nothing
//! outside what it says.

use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::Wire;
use policy_compiler::name::ObjectKey;
use policy_compiler::port::Protocol;
use policy_manifest::input::{Options, merge, parse_file};

use super::*;
use crate::answer::Outcome;
use crate::can::{self, Connection, Port};
use crate::question::Questions;
use crate::subject;

const PODS: [(&str, &str, &str, &str); 5] = [
    ("x", "web", "{app: web}", "10.0.0.1"),
    ("x", "db", "{app: db, tier: be}", "10.0.0.2"),
    ("x", "bare", "{}", "10.0.0.3"),
    ("z", "web", "{app: web}", "10.0.0.4"),
    ("z", "odd", "{serial: one, run: two}", "10.0.0.5"),
];

fn manifests() -> Vec<Value> {
    let text = PODS.map(|(namespace, name, labels, ip)| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{namespace: {namespace}, name: {name}, labels: \
             {labels}}}, spec: {{nodeName: n1, containers: [{{name: c, ports: [{{name: http, \
             containerPort: 8080}}]}}]}}, status: {{phase: Running, podIP: {ip}, hostIP: 192.0.2.1}}}}"
        )
    });
    let policies = [
        ("x", "all", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        (
            "x",
            "db",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: \
             web}}}], ports: [{port: 5432}]}, {from: [{ipBlock: {cidr: 203.0.113.0/24}}], ports: [{port: \
             http}]}]}",
        ),
        (
            "x",
            "out",
            "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: \
             [{podSelector: {}}], ports: [{port: 53, protocol: UDP}]}]}",
        ),
        ("z", "in", "{podSelector: {matchLabels: {serial: one}}, ingress: []}"),
    ];
    let policies = policies.map(|(namespace, name, spec)| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{namespace: \
             {namespace}, name: {name}}}, spec: {spec}}}"
        )
    });
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: \
                InternalIP, address: 192.0.2.2}]}}"
        .to_owned();
    text.into_iter().chain(policies).chain([node]).map(|text| plain(&text)).collect()
}

/// YAML as JSON, so that a JSON patch can be done to it.
fn plain(text: &str) -> Value {
    use policy_compiler::document::{Node, Value as Yaml};
    fn of(node: &Node) -> Value {
        match &node.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(b) => (*b).into(),
            Yaml::Int(n) => (*n).into(),
            Yaml::Float(n) => (*n).into(),
            Yaml::String(text) => text.as_str().into(),
            Yaml::List(items) => items.iter().map(of).collect(),
            Yaml::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), of(&e.node))).collect())
            }
        }
    }
    of(&policy_manifest::yaml::parse(text).expect("YAML")[0])
}

fn snapshot(manifests: &[Value]) -> Snapshot {
    let text: Vec<String> = manifests.iter().map(ToString::to_string).collect();
    let parsed = parse_file("a.json", &text.join("\n"), &Options::default());
    assert!(parsed.is_sound() && parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    merge([&parsed]).snapshot
}

/// Does a patch as RFC 6902 has it.
fn patch(document: &mut Value, operation: &Operation) {
    let (parent, last) = operation.path.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("what is added to is there");
    match (operation.op, parent, operation.value.clone()) {
        ("add", Value::Array(items), Some(value)) if last == "-" => items.push(value),
        ("add", Value::Object(fields), Some(value)) => {
            fields.insert(last.to_owned(), value);
        }
        ("remove", Value::Object(fields), None) => {
            fields.remove(last).expect("what is removed is there");
        }
        other => panic!("{other:?}"),
    }
}

/// `manifests` with `changes` done to them.
fn patched(manifests: &[Value], changes: &[Change]) -> Vec<Value> {
    let mut patched = manifests.to_vec();
    for change in changes {
        let named = |document: &&mut Value| {
            let metadata = &document["metadata"];
            let key = format!(
                "{}/{}",
                metadata["namespace"].as_str().unwrap_or_default(),
                metadata["name"].as_str().unwrap_or_default()
            );
            document["kind"] == "NetworkPolicy" && key == change.policy
        };
        let document = patched.iter_mut().find(named).expect("the policy");
        assert!(!change.patch.is_empty(), "{change:?}");
        change.patch.iter().for_each(|operation| patch(document, operation));
    }
    patched
}

fn flows() -> Vec<Flow> {
    let pods =
        PODS.map(|(namespace, name, ..)| End::Pod(ObjectKey::new(namespace, name).expect("a key")));
    let address = |text: &str| End::Address(text.parse().expect("an address"));
    let others = [address("203.0.113.7"), address("198.51.100.1"), address("192.0.2.2")];
    let ends: Vec<End> = pods.into_iter().chain(others).collect();
    let traffic = [
        Traffic::tcp(80),
        Traffic::tcp(5432),
        Traffic::tcp(8080),
        Traffic::udp(53),
        Traffic::sctp(7),
        Traffic::ping(Family::V4),
    ];
    let mut flows = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| *to != from) {
            flows.extend(traffic.map(|traffic| Flow {
                from: from.clone(),
                to: to.clone(),
                family: Family::V4,
                traffic,
                wire: Wire::Routed,
            }));
        }
    }
    flows
}

/// Whether `opened`, a flow that was denied, is within what `change` says about `asked`.
fn is_said(change: &Change, asked: &Flow, opened: &Flow, was: &Snapshot) -> bool {
    let ingress = change.direction == "ingress";
    let (own, other) =
        if ingress { (&opened.to, &opened.from) } else { (&opened.from, &opened.to) };
    let asked_other = if ingress { &asked.from } else { &asked.to };
    let (namespace, name) = change.policy.split_once('/').expect("a key");
    let policy = &was.policies[&ObjectKey::new(namespace, name).expect("a key")];
    let selected = pod_at(own, was).is_some_and(|pod| {
        pod.key.namespace == policy.key.namespace && policy.pod_selector.matches(&pod.labels)
    });
    let labels =
        |end: &End| pod_at(end, was).map(|pod| (&pod.key.namespace, selecting_labels(pod)));
    let alike = match (labels(asked_other), labels(other)) {
        // A selector of nothing selects all; one of labels, whoever has them.
        (Some((a, wanted)), Some((b, found))) => a == b && (wanted.is_empty() || wanted == found),
        (None, None) => asked_other == other,
        _ => false,
    };
    let port = opened.traffic == asked.traffic;
    selected
        && match change.kind {
            // To whom the rule is open anyway: on the port that is added, or on all where they go.
            "port" => port || change.patch.iter().any(|operation| operation.op == "remove"),
            "peer" => alike,
            // A rule for ICMP is one without ports.
            _ => alike && (port || !matches!(asked.traffic, Traffic::Port { .. })),
        }
}

#[test]
fn what_is_proposed_allows_the_flow_and_opens_nothing_that_it_does_not_say() {
    let manifests = manifests();
    let before = snapshot(&manifests);
    let was = Evaluator::new(&before);
    let (mut proposed, mut kinds) = (0, BTreeSet::new());
    for asked in flows() {
        let verdict = was.verdict(&asked);
        let changes = changes(&asked, &verdict, "8080/TCP", &before, &BTreeSet::new());
        if verdict.decision != Decision::Denied {
            assert_eq!(changes, [], "{asked:?}");
            continue;
        }
        let patched = patched(&manifests, &changes);
        kinds.extend(changes.iter().map(|change| (change.kind, change.direction.clone())));
        let after = snapshot(&patched);
        let is = Evaluator::new(&after);
        assert_eq!(is.verdict(&asked).decision, Decision::Allowed, "{asked:?}: {changes:?}");
        for flow in flows() {
            if was.verdict(&flow).decision == is.verdict(&flow).decision {
                continue;
            }
            let said = changes.iter().any(|change| is_said(change, &asked, &flow, &before));
            assert!(said, "{asked:?} opens {flow:?}: {changes:?}");
        }
        proposed += 1;
    }
    assert!(proposed > 100, "only {proposed} proposals");
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn a_port_is_added_with_its_protocol() {
    let before = snapshot(&manifests());
    let flow = flows().into_iter().find(|flow| {
        flow.from.to_string() == "x/bare"
            && flow.to.to_string() == "z/odd"
            && flow.traffic == Traffic::sctp(7)
    });
    let flow = flow.expect("one of them");
    let verdict = Evaluator::new(&before).verdict(&flow);
    let changes = changes(&flow, &verdict, "7/SCTP", &before, &BTreeSet::new());
    let ingress = changes.iter().find(|change| change.direction == "ingress").expect("denied");
    let rule = json!([{
        "from": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}},
            "podSelector": {},
        }],
        "ports": [{"protocol": Protocol::Sctp.to_string(), "port": 7}],
    }]);
    assert_eq!(ingress.patch, [Operation::add("/spec/ingress".to_owned(), rule)]);
}

/// The changes that `can` proposes for all answers together, each once.
fn proposed(connection: &Connection) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for change in connection.answers.iter().flat_map(|answer| &answer.changes) {
        if !changes.contains(change) {
            changes.push(change.clone());
        }
    }
    changes
}

#[test]
fn what_is_proposed_for_the_world_allows_all_of_it_and_opens_no_pod_and_no_node() {
    let manifests = manifests();
    let before = snapshot(&manifests);
    let was = Evaluator::new(&before);
    let ask = |snapshot: &Snapshot, pod: &str, ingress: bool, port: &Port| {
        let world = subject::end("world", snapshot, "x").expect("the world");
        let pod = subject::end(pod, snapshot, "x").expect("a pod");
        let (from, to) = if ingress { (&world, &pod) } else { (&pod, &world) };
        can::ask(&Questions::new(snapshot), from, to, port, &Family::ALL).expect("an answer")
    };
    let ports = ["80", "5432", "8080", "53/UDP", "icmp"].map(|port| Port::parse(port).expect(port));
    let (mut told, mut kinds) = (0, BTreeSet::new());
    for (namespace, name, ..) in PODS {
        let pod = format!("{namespace}/{name}");
        for (ingress, port) in
            [true, false].into_iter().flat_map(|i| ports.iter().map(move |p| (i, p)))
        {
            let connection = ask(&before, &pod, ingress, port);
            let changes = proposed(&connection);
            if connection.decision == Outcome::Allowed {
                assert_eq!(changes, [], "{pod} {port:?}");
                continue;
            }
            let after = snapshot(&patched(&manifests, &changes));
            let now = ask(&after, &pod, ingress, port);
            assert_eq!(now.decision, Outcome::Allowed, "{pod} {ingress} {port:?}: {changes:?}");
            assert_eq!(proposed(&now), []);
            let is = Evaluator::new(&after);
            for flow in flows().iter().filter(|f| was.verdict(f).decision != is.verdict(f).decision)
            {
                let (own, other) =
                    if ingress { (&flow.to, &flow.from) } else { (&flow.from, &flow.to) };
                let outside = matches!(other, End::Address(address) if {
                    was.owners(*address).is_empty() && was.nodes_with(*address).is_empty()
                });
                let of_rule = changes.iter().any(|change| change.kind == "port");
                assert!(outside || of_rule, "{pod} {port:?} opens {flow:?}: {changes:?}");
                assert!(pod_at(own, &before).is_some(), "{pod} {port:?} opens {flow:?}");
            }
            kinds.extend(changes.iter().map(|change| (change.kind, change.direction.clone())));
            told += 1;
        }
    }
    assert!(told > 20, "only {told} proposals");
    assert!(kinds.len() >= 3, "{kinds:?}");
}

#[test]
fn what_is_proposed_for_one_family_does_not_undo_what_is_for_the_other() {
    let policy = plain(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: all}, \
         spec: {podSelector: {}}}",
    );
    let pod = plain(
        "{apiVersion: v1, kind: Pod, metadata: {namespace: x, name: web}, status: {podIPs: [{ip: \
         10.0.0.1}, {ip: \"fd00::1\"}]}}",
    );
    let manifests = vec![policy, pod];
    let before = snapshot(&manifests);
    let ask = |snapshot: &Snapshot| {
        let world = subject::end("world", snapshot, "x").expect("the world");
        let pod = subject::end("x/web", snapshot, "x").expect("a pod");
        let port = Port::parse("80").expect("a port");
        can::ask(&Questions::new(snapshot), &world, &pod, &port, &Family::ALL).expect("an answer")
    };
    let changes = proposed(&ask(&before));
    assert_eq!(changes.len(), 1, "{changes:?}");
    let blocks = |cidr: &str, own: &str| json!({"ipBlock": {"cidr": cidr, "except": [own]}});
    let rule = json!([{
        "from": [blocks("0.0.0.0/0", "10.0.0.1/32"), blocks("::/0", "fd00::1/128")],
        "ports": [{"protocol": "TCP", "port": 80}],
    }]);
    assert_eq!(changes[0].patch, [Operation::add("/spec/ingress".to_owned(), rule)]);
    let after = snapshot(&patched(&manifests, &changes));
    assert_eq!(ask(&after).decision, Outcome::Allowed);
}
