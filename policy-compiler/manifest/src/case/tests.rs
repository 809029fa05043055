use std::fs;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Phase;
use policy_compiler::diagnostic::Severity;
use proptest::prelude::*;

use super::*;

const BASE: &str = r#"
description: Two pods.
nodes: {n1: [192.0.2.11, "2001:db8::11"], n2: []}
namespaces: {x: {team: a}}
pods:
  x/a: {labels: {app: a}, node: n1, ports: [http=8080, dns=53/udp, 9090]}
  x/b: {labels: {app: b}, node: n2}
policies:
  x/deny: {podSelector: {}, policyTypes: [Ingress]}
"#;

fn read(text: &str) -> CaseFile {
    match parse("t/test.yaml", text, Path::new("t")) {
        Ok(file) => file,
        Err(error) => panic!("{error}"),
    }
}

fn with_case(case: &str) -> CaseFile {
    read(&format!("{BASE}cases:\n{case}"))
}

/// What is wrong with a file, without the quoted lines.
fn faults(text: &str) -> Vec<String> {
    match parse("test.yaml", text, Path::new("")) {
        Ok(_) => Vec::new(),
        Err(CaseError::Invalid { diagnostics, .. }) => {
            diagnostics.iter().map(ToString::to_string).collect()
        }
        Err(CaseError::Unreadable { errors }) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn shown(expectation: &Expectation) -> Vec<String> {
    let flow = |f: &Flow| format!("{} {} -> {} {}", f.family, f.from, f.to, f.traffic);
    expectation.flows.iter().map(flow).collect()
}

#[test]
fn the_shorthands_make_a_cluster() {
    let file = with_case("- {name: c, deny: [x/a -> x/b]}\n");
    assert_eq!(file.description.as_deref(), Some("Two pods."));
    let snapshot = &file.cases[0].snapshot;
    let pods: Vec<String> = snapshot
        .pods
        .values()
        .map(|p| {
            let addresses: Vec<_> = p.addresses.iter().map(|a| a.to_string()).collect();
            let node = p.node.as_ref().unwrap();
            format!("{} {} {node} {} {:?}", p.key, p.labels, addresses.join(","), p.phase)
        })
        .collect();
    assert_eq!(
        pods,
        [
            "x/a app=a n1 10.244.1.10,fd00:10:244:1::10 Running",
            "x/b app=b n2 10.244.2.10,fd00:10:244:2::10 Running",
        ]
    );
    let ports = &snapshot.pods.values().next().unwrap().ports;
    let ports: Vec<String> = ports
        .iter()
        .map(|p| {
            format!(
                "{:?} {}/{}",
                p.name.as_ref().map(policy_compiler::port::PortName::as_str),
                p.number,
                p.protocol
            )
        })
        .collect();
    assert_eq!(ports, ["Some(\"http\") 8080/TCP", "Some(\"dns\") 53/UDP", "None 9090/TCP"]);
    assert_eq!(snapshot.nodes.values().map(|n| n.addresses.len()).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(snapshot.namespaces.values().next().unwrap().labels().get("team"), Some("a"));
    let policy = snapshot.policies.values().next().unwrap();
    assert_eq!(
        (policy.key.to_string(), policy.location.to_string()),
        ("x/deny".to_owned(), "t/test.yaml:9:3".to_owned())
    );
    assert_eq!(file.cases[0].diagnostics, []);
}

#[test]
fn a_pod_may_say_more_of_itself() {
    let file = read(
        "nodes: {n1: [192.0.2.11]}\npods:\n  x/a: {ips: [10.9.9.9, 'fd09::9'], phase: Succeeded}\n  x/b:\n  x/c: {ipv4Only: true}\n  x/d: {node: n1, hostNetwork: true}\n  x/e: {ipv6Only: true}\ncases:\n- {name: c, deny: [x/a -> x/b]}\n",
    );
    let snapshot = &file.cases[0].snapshot;
    let pods: Vec<String> = snapshot
        .pods
        .values()
        .map(|p| {
            let addresses: Vec<_> = p.addresses.iter().map(|a| a.to_string()).collect();
            format!("{} {} {}", p.key, p.node.as_ref().unwrap(), addresses.join(","))
        })
        .collect();
    assert_eq!(
        pods,
        [
            "x/a node-1 10.9.9.9,fd09::9",
            "x/b node-1 10.244.2.11,fd00:10:244:2::11",
            "x/c node-1 10.244.2.12",
            "x/d n1 192.0.2.11",
            "x/e node-1 fd00:10:244:2::13",
        ]
    );
    assert_eq!(snapshot.pods.values().next().unwrap().phase, Phase::Finished);
    assert!(snapshot.pods.values().nth(3).unwrap().host_network);
}

#[test]
fn a_case_is_laid_over_the_file_and_over_no_other_case() {
    let file = with_case(
        "- name: one\n  pods: {x/a: {labels: {app: z}, node: n1}, x/0: {node: n1}}\n  policies: {x/deny: {podSelector: {}, policyTypes: [Egress]}}\n  deny: [x/a -> x/b]\n- name: two\n  objects:\n  - {apiVersion: v1, kind: Pod, metadata: {namespace: x, name: a, labels: {app: q}}}\n  deny: [x/b -> 10.0.0.1]\n",
    );
    let [one, two] = file.cases.as_slice() else { panic!("two cases") };
    let first = |case: &Case| {
        case.snapshot.pods.values().find(|p| p.key.name.as_str() == "a").cloned().unwrap()
    };
    assert_eq!(first(one).labels.get("app"), Some("z"));
    // The new pod comes before it.
    assert_eq!(first(one).addresses.v4.unwrap().to_string(), "10.244.1.11");
    assert!(one.snapshot.policies.values().all(|p| p.isolates_egress && !p.isolates_ingress));
    assert_eq!(first(two).labels.get("app"), Some("q"));
    assert!(two.snapshot.policies.values().all(|p| p.isolates_ingress));
    assert_eq!((one.diagnostics.len(), two.diagnostics.len()), (0, 0));
}

#[test]
fn a_line_is_every_combination_in_every_family_that_both_ends_have() {
    let file = with_case(
        "- name: c\n  allow:\n  - x/a -> x/b, 203.0.113.7 on 80, icmp\n  deny: node/n1 -> x/b on any\n  unknown: [node/n2 -> x/a on proto/47]\n",
    );
    let [allow, deny, unknown] = file.cases[0].expectations.as_slice() else {
        panic!("three lines")
    };
    assert_eq!(
        shown(allow),
        [
            "IPv4 x/a -> x/b 80/TCP",
            "IPv4 x/a -> x/b icmp type 8",
            "IPv6 x/a -> x/b 80/TCP",
            "IPv6 x/a -> x/b icmp type 128",
            "IPv4 x/a -> 203.0.113.7 80/TCP",
            "IPv4 x/a -> 203.0.113.7 icmp type 8",
        ]
    );
    assert_eq!(deny.flows.len(), 8);
    assert_eq!(shown(deny)[0], "IPv4 node/n1 -> x/b 20000/TCP");
    // A node of which no address is known has both.
    assert_eq!(unknown.flows.len(), 2);
    assert_eq!(
        [allow.decision, deny.decision, unknown.decision],
        [Decision::Allowed, Decision::Denied, Decision::Unknown]
    );
    assert_eq!(allow.location.to_string(), "t/test.yaml:13:5");
}

#[test]
fn any_is_a_port_that_nobody_mentions() {
    let file = with_case(
        "- name: c\n  policies: {x/p: {podSelector: {}, ingress: [{ports: [{port: 20000, endPort: 20010}, {port: 20012}]}]}}\n  deny: [x/a -> x/b]\n  allow: [x/a -> x/b on 20011]\n",
    );
    let ports: Vec<String> = shown(&file.cases[0].expectations[1]);
    assert_eq!(ports[0], "IPv4 x/a -> x/b 20013/TCP");
    let all = with_case(
        "- name: c\n  policies: {x/p: {podSelector: {}, ingress: [{ports: [{port: 1, endPort: 65535}]}]}}\n  deny: [x/a -> x/b]\n",
    );
    assert_eq!(shown(&all.cases[0].expectations[0])[0], "IPv4 x/a -> x/b 20000/TCP");
}

#[test]
fn a_case_may_choose_families_wire_and_what_else_is_asserted() {
    let file = with_case(
        "- name: c\n  families: [ipv4]\n  wire: bridged\n  certainty: undefined\n  kernel: false\n  diagnostics: [a, b]\n  because:\n    x/a -> x/b on 80:\n    - x/deny ingress[0]\n    - x/p egress[3]\n  allow: [x/a -> x/b on 80]\n",
    );
    let case = &file.cases[0];
    assert_eq!(case.expectations[0].flows.len(), 1);
    assert_eq!(case.expectations[0].flows[0].wire, policy_compiler::flow::Wire::Bridged);
    assert_eq!((case.certainty, case.kernel), (Some(Certainty::Undefined), false));
    let expected = case.expected_diagnostics.as_deref().unwrap();
    assert_eq!(expected.iter().map(|e| &*e.text).collect::<Vec<_>>(), ["a", "b"]);
    let rules: Vec<_> = case.because[0].rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["x/deny ingress[0]", "x/p egress[3]"]);
    assert_eq!(case.because[0].flows.len(), 1);
}

#[test]
fn with_families_given_a_pod_without_addresses_may_be_an_end() {
    let text = "objects:\n- {apiVersion: v1, kind: Pod, metadata: {namespace: x, name: p}}\npods: {x/a: {}}\ncases:\n- name: c\n  FAMILIES\n  deny: [x/p -> x/a on 80]\n";
    assert_eq!(
        read(&text.replace("FAMILIES", "families: ipv4")).cases[0].expectations[0].flows.len(),
        1
    );
    assert_eq!(
        faults(&text.replace("FAMILIES", "wire: routed")),
        ["test.yaml:7:10: error: x/p and x/a have no family in common that is asked for"]
    );
}

/// Files with what is said of each.
const FAULTY: &[(&str, &str)] = &[
    ("", "test.yaml: error: a case file is one YAML document, this has 0"),
    ("cases: []\n", "test.yaml:1:1: error: a case file has a list `cases` with at least one case"),
    (
        "case: []\ncases: [{name: c, deny: 1.1.1.1 -> 2.2.2.2}]\n",
        "test.yaml:1:1: error: unknown key `case` in a case file (did you mean `cases`?)",
    ),
    (
        "cases: [{name: c, alow: [], deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:19: error: unknown key `alow` in a case (did you mean `allow`?)",
    ),
    (
        "cases: [{deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:9: error: a case has a `name` that says what it shows",
    ),
    (
        "cases: [{name: c}]\n",
        "test.yaml:1:9: error: this case expects nothing: it has no allow, deny, unknown or audit",
    ),
    (
        "cases:\n- name: c\n  deny: [x/a to x/b]\n",
        "test.yaml:3:10: error: a flow is written `FROM -> TO on PORT`; this has 0 arrows (`->`)",
    ),
    (
        "pods: {x/web: {}}\ncases:\n- name: c\n  deny: [x/wbe -> 10.0.0.1]\n",
        "test.yaml:4:10: error: this cluster has no pod `x/wbe` (did you mean `x/web`?)",
    ),
    (
        "nodes: {node-a: []}\ncases:\n- name: c\n  deny: [node/node-b -> 10.0.0.1]\n",
        "test.yaml:4:10: error: this cluster has no node `node-b` (did you mean `node-a`?)",
    ),
    (
        "cases:\n- name: c\n  deny: [10.0.0.1 -> fd00::1]\n",
        "test.yaml:3:10: error: 10.0.0.1 and fd00::1 have no family in common that is asked for",
    ),
    (
        "pods: {web: {}}\ncases: [{name: c, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:8: error: `web` must be namespace/name",
    ),
    (
        "pods: {x/a: {label: {}}}\ncases: [{name: c, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:14: error: unknown key `label` in a pod (did you mean `labels`?)",
    ),
    (
        "pods: {x/a: {ports: [http]}}\ncases: [{name: c, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:22: error: `http` is no port of a pod: write 9090, 53/udp or http=8080",
    ),
    (
        "pods: {x/a: {}, x/a: {}}\ncases: [{name: c, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:17: error: `x/a` stands in `pods` twice",
    ),
    (
        "nodes: {n: [1.2.3]}\ncases: [{name: c, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:13: error: `1.2.3` is no address",
    ),
    (
        "cases: [{name: c, wire: bridge, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:25: error: `bridge` is no wire: one of routed, bridged, translated, spoofed (did you mean `bridged`?)",
    ),
    (
        "cases: [{name: c, kernel: maybe, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:27: error: `kernel` must be `true` or `false`, is text",
    ),
    (
        "cases: [{name: c, families: [], deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:29: error: `families` names at least one: ipv4, ipv6",
    ),
    (
        "cases: [{name: c, deny: {}}]\n",
        "test.yaml:1:25: error: `deny` must be a list, is a mapping",
    ),
    (
        "cases: [{name: c, because: {1.1.1.1 -> 2.2.2.2: p}, deny: [1.1.1.1 -> 2.2.2.2]}]\n",
        "test.yaml:1:49: error: `p` names no rule: write `namespace/policy ingress[0]`",
    ),
];

#[test]
fn whatever_is_wrong_is_told_with_its_place_and_the_nearest_word() {
    for (text, expected) in FAULTY {
        assert_eq!(faults(text), [*expected], "{text}");
    }
}

#[test]
fn all_faults_are_told_at_once_with_the_lines_that_have_them() {
    let text = "pods: {x/a: {labl: {}}}\ncases:\n- name: c\n  deny: [x/a -> x/b, 'x/a -> ']\n";
    let error = parse("test.yaml", text, Path::new("")).unwrap_err().to_string();
    assert!(error.contains(" 1 | pods: {x/a: {labl: {}}}\n   |              ^"), "{error}");
    assert_eq!(error.matches("error: ").count(), 3, "{error}");
}

#[test]
fn manifests_are_looked_for_beside_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("more")).unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\nstatus: {phase: Running, podIPs: [{ip: 10.0.0.1}]}\n";
    fs::write(at("pod.yaml"), pod).unwrap();
    fs::write(at("more/ns.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n")
        .unwrap();
    let case = "manifests: [pod.yaml, more]\ncases:\n- {name: c, allow: [1.1.1.1 -> x/a]}\n";
    fs::write(at("test.yaml"), case).unwrap();
    let file = load(&at("test.yaml")).unwrap();
    let snapshot = &file.cases[0].snapshot;
    assert_eq!((snapshot.pods.len(), snapshot.namespaces.len()), (1, 1));
    assert_eq!(file.sources.iter().count(), 3);
    assert_eq!(file.sources.text(&file.name), Some(case));

    fs::write(at("test.yaml"), case.replace("pod.yaml", "pot.yaml")).unwrap();
    assert!(matches!(
        load(&at("test.yaml")),
        Err(CaseError::Unreadable { errors }) if matches!(errors.as_slice(), [InputError::NotFound { path }] if *path == at("pot.yaml"))
    ));
    assert!(matches!(load(&at("none.yaml")), Err(CaseError::Unreadable { .. })));
    fs::write(at("test.yaml"), "a: [").unwrap();
    assert!(matches!(load(&at("test.yaml")), Err(CaseError::Unreadable { .. })));
}

#[test]
fn what_is_wrong_in_a_policy_is_the_cases_own_affair() {
    let file = with_case(
        "- name: c\n  policies: {x/p: {podSelector: {}, ingress: [{form: []}]}}\n  deny: [x/a -> x/b]\n- name: d\n  objects: [{kind: 5}]\n  diagnostics: [kind]\n",
    );
    let [one, two] = file.cases.as_slice() else { panic!("two cases") };
    assert_eq!(one.diagnostics[0].severity, Severity::Error);
    assert!(
        one.diagnostics[0].to_string().starts_with("t/test.yaml:12:"),
        "{}",
        one.diagnostics[0]
    );
    assert_eq!(two.diagnostics.len(), 1);
    for unexpected in [
        "objects: [{kind: 5}]",
        "pods: {x/a: {labels: {app: true}}}",
        "namespaces: {X: {}}",
        "objects: [{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: X, name: p}, spec: {podSelector: {}}}]",
    ] {
        let text = format!("{unexpected}\ncases: [{{name: c, deny: [1.1.1.1 -> 2.2.2.2]}}]\n");
        assert_eq!(faults(&text).len(), 1, "{unexpected}");
    }
}

#[test]
fn a_policy_that_is_left_out_is_an_error_unless_it_is_expected() {
    let text = "objects: [{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: X, name: p}, spec: {podSelector: {}}}]\ncases: [{name: c, EXPECTED deny: [1.1.1.1 -> 2.2.2.2]}]\n";
    let found = faults(&text.replace("EXPECTED", ""));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("NetworkPolicy"), "{found:?}");
    assert!(faults(&text.replace("EXPECTED", "diagnostics: [NetworkPolicy],")).is_empty());
}

#[test]
fn a_manifest_that_is_a_helm_template_makes_the_file_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("policy.yaml"), "metadata:\n  name: {{ .Values.name }}\n").unwrap();
    let case = "manifests: [policy.yaml]\ncases:\n- {name: c, diagnostics: [Helm], allow: [1.1.1.1 -> 2.2.2.2]}\n";
    fs::write(at("test.yaml"), case).unwrap();
    let error = load(&at("test.yaml")).unwrap_err().to_string();
    let name = at("policy.yaml").display().to_string();
    assert!(error.starts_with(&format!("{name}:2:9: error: this is a Helm template")), "{error}");
}

#[test]
fn the_address_of_a_service_is_no_end_of_a_line() {
    let service = "objects: [{apiVersion: v1, kind: Service, metadata: {namespace: x, name: s}, spec: {clusterIP: 10.96.0.7}}]\n";
    let case = "cases:\n- name: c\n  deny: [10.96.0.7 -> 1.1.1.1]\n";
    assert_eq!(
        faults(&format!("{service}{case}")),
        [
            "test.yaml:4:10: error: 10.96.0.7 is the address of Service x/s, which policies never see: \
             name a pod behind it, and the port there"
        ]
    );
    let pod = "pods: {x/a: {ips: [10.96.0.7]}}\n";
    assert!(faults(&format!("{service}{pod}{case}")).is_empty());
}

#[test]
fn an_object_twice_in_one_layer_is_diagnosed() {
    let file = with_case(
        "- name: c\n  objects:\n  - {apiVersion: v1, kind: Namespace, metadata: {name: y}}\n  - {apiVersion: v1, kind: Namespace, metadata: {name: y}}\n  deny: [x/a -> x/b]\n",
    );
    assert_eq!(file.cases[0].diagnostics.len(), 2);
}

#[test]
fn families_of_pods_with_one_family_are_respected() {
    let file =
        with_case("- name: c\n  pods: {x/c: {ipv4Only: true}}\n  deny: [x/a -> x/c on 80]\n");
    assert!(file.cases[0].expectations[0].flows.iter().all(|f| f.family == Family::V4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_mangled_file_makes_it_panic(at in 0_usize..600, cut in 0_usize..20, with in "[\\PC\n{}\\[\\]:>,/-]{0,6}") {
        let mut text = format!("{BASE}cases:\n- name: c\n  allow: [x/a -> x/b on 80, icmp]\n  because: {{x/a -> x/b on 80: x/deny ingress[0]}}\n");
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &with);
        let _ = parse("t.yaml", &text, Path::new("/nowhere")).map_err(|e| e.to_string());
    }

    #[test]
    fn no_line_makes_it_panic(text in "[a-z0-9/>, .:-]{0,40}") {
        let _ = (line::line(&text), line::rule(&text));
    }
}
