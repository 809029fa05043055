//! What `policyc diff` makes of each kind of difference, and because of what.

use crate::comparison::{caused, workloads};
use crate::run::{Run, policyc_in};

const DENY: &str = "podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]";
const OF_TWIN: &str = "podSelector: {matchLabels: {app: twin}}, policyTypes: [Ingress]";
const AUDITED: &str = "policyd.dev/audit: \"true\"";

fn namespace(labels: &str, annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: x, labels: {{{labels}}}, annotations: \
         {{{annotations}}}}}\n---\n"
    )
}

/// A pod of namespace `x`, labelled `app` by its name, with `addresses` and `spec`.
fn pod(name: &str, addresses: &[&str], spec: &str) -> String {
    let addresses =
        addresses.iter().map(|ip| format!("{{ip: \"{ip}\"}}")).collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}}\nspec: \
         {{nodeName: n1, {spec}}}\nstatus: {{phase: Running, hostIP: 192.0.2.1, podIPs: [{addresses}]}}\n---\n"
    )
}

fn policy(name: &str, spec: &str, annotations: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x, \
         annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// What differs between two manifests.
fn diff(old: &[&str], new: &[&str]) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, texts) in [("old.yaml", old), ("new.yaml", new)] {
        std::fs::write(directory.path().join(name), texts.concat()).expect("a file");
    }
    policyc_in(directory.path(), "diff old.yaml new.yaml -o json", "", &[])
}

/// `ingress` as the one rule of a policy of `db`.
fn rule(ingress: &str) -> String {
    policy("p", &format!("{DENY}, ingress: [{{{ingress}}}]"), "")
}

#[test]
fn each_kind_of_difference_is_told_by_what_it_is() {
    let (web, db) = (pod("web", &["10.0.0.1"], ""), pod("db", &["10.0.0.3"], ""));
    let (dual_web, dual_db) =
        (pod("web", &["10.0.0.1", "fd00::1"], ""), pod("db", &["10.0.0.3", "fd00::3"], ""));
    let deny = policy("p", DENY, "");
    let pods = rule("from: [{podSelector: {}}]");
    let block = rule("from: [{ipBlock: {cidr: 10.0.0.0/8}}]");
    let by_team = |team: &str| {
        rule(&format!(
            "from: [{{namespaceSelector: {{matchLabels: {{team: {team}}}}}, podSelector: {{matchLabels: \
             {{app: web}}}}}}]"
        ))
    };
    let calling = |port: u16| {
        pod(
            "db",
            &["10.0.0.3"],
            &format!("containers: [{{name: c, ports: [{{name: pg, containerPort: {port}}}]}}]"),
        )
    };
    let by_name = rule("ports: [{port: pg}]");
    let everybody = "x/web, all of IPv4, all of IPv6 -> x/db";
    let of_both =
        |cause: &str| vec![format!("opened {everybody} everything over IPv4+IPv6: {cause}")];
    for (why, old, new, expected) in [
        (
            "a block has one family",
            vec![&*dual_web, &dual_db, &pods],
            vec![&*dual_web, &dual_db, &block],
            vec![
                "opened 10.0.0.0/8 -> x/db everything over IPv4: NetworkPolicy x/p ingress[0]".to_owned(),
                "closed x/web -> x/db -everything over IPv6: NetworkPolicy x/p ingress[0]".to_owned(),
            ],
        ),
        (
            "a namespace is audited",
            vec![&namespace("", ""), &dual_web, &dual_db, &deny],
            vec![&namespace("", AUDITED), &dual_web, &dual_db, &deny],
            of_both("Namespace x metadata.annotations"),
        ),
        (
            "a policy is audited",
            vec![&dual_web, &dual_db, &deny],
            vec![&dual_web, &dual_db, &policy("p", DENY, AUDITED)],
            of_both("NetworkPolicy x/p metadata.annotations"),
        ),
        (
            "a port has another number",
            vec![&web, &calling(5432), &by_name],
            vec![&web, &calling(5433), &by_name],
            vec![
                "changed x/web, all of IPv4 -> x/db 5433/TCP -5432/TCP over IPv4: Pod x/db \
                 spec.containers.ports"
                    .to_owned(),
            ],
        ),
        (
            "a pod takes its node's network",
            vec![&web, &db, &deny],
            vec![&web, &pod("db", &["10.0.0.3"], "hostNetwork: true"), &deny],
            vec![
                "opened x/web, all of IPv4 -> x/db everything over IPv4: Node n1 status.addresses; Pod x/db \
                 spec.hostNetwork"
                    .to_owned(),
            ],
        ),
        (
            "an address leaves a block",
            vec![&web, &db, &block],
            vec![&pod("web", &["172.16.0.1"], ""), &db, &block],
            vec!["closed x/web -> x/db -everything over IPv4: Pod x/web status.podIPs".to_owned()],
        ),
        (
            "a label and a policy, of which neither does it alone",
            vec![&namespace("team: a, hue: red", ""), &web, &db, &by_team("b")],
            vec![&namespace("team: c, hue: blue", ""), &web, &db, &by_team("c")],
            vec![
                "opened x/web -> x/db everything over IPv4: Namespace x metadata.labels.team; NetworkPolicy \
                 x/p ingress[0]"
                    .to_owned(),
            ],
        ),
    ] {
        holds(why, &old, &new, &expected);
    }
}

#[test]
fn where_pods_share_an_address_each_stands_for_the_other() {
    let (web, db) = (pod("web", &["10.0.0.1"], ""), pod("db", &["10.0.0.3"], ""));
    let deny = policy("p", DENY, "");
    for (why, old, new, expected) in [
        (
            "a policy has gone that isolates the address by another pod",
            vec![&*web, &db, &pod("twin", &["10.0.0.3"], ""), &policy("p", OF_TWIN, "")],
            vec![&*web, &db, &pod("twin", &["10.0.0.3"], "")],
            vec![
                "opened x/web, all of IPv4 -> x/db, x/twin everything over IPv4: NetworkPolicy x/p"
                    .to_owned(),
            ],
        ),
        (
            "two pods share no address any more",
            vec![&*namespace("hue: red", ""), &web, &db, &pod("twin", &["10.0.0.3"], ""), &deny],
            vec![&*namespace("hue: blue", ""), &web, &db, &pod("twin", &["10.0.0.9"], ""), &deny],
            vec![
                "closed x/twin -> x/db -everything over IPv4: Pod x/twin status.podIPs".to_owned(),
                "closed x/web, all of IPv4 -> x/db -everything over IPv4: ".to_owned(),
            ],
        ),
    ] {
        holds(why, &old, &new, &expected);
    }
}

/// That between `old` and `new` the `expected` connections differ, and nothing came or went.
fn holds(why: &str, old: &[&str], new: &[&str], expected: &[String]) {
    let run = diff(old, new);
    assert_eq!((run.status, &*run.stderr), (1, ""), "{why}: {}", run.stdout);
    assert_eq!(caused(&run), expected, "{why}");
    assert_eq!(workloads(&run), [""; 0], "{why}");
}

#[test]
fn what_changes_in_one_of_two_families_is_said_to_be_in_that_one() {
    let pods = [pod("web", &["10.0.0.1", "fd00::1"], ""), pod("db", &["10.0.0.3", "fd00::3"], "")]
        .concat();
    let directory = tempfile::tempdir().expect("a directory");
    for (name, from) in
        [("old.yaml", "{podSelector: {}}"), ("new.yaml", "{ipBlock: {cidr: 10.0.0.0/8}}")]
    {
        let text = format!("{pods}{}", rule(&format!("from: [{from}]")));
        std::fs::write(directory.path().join(name), text).expect("a file");
    }
    let said = |form: &str| {
        policyc_in(directory.path(), &format!("diff old.yaml new.yaml {form}"), "", &[])
    };
    assert!(said("").stdout.contains(" everything over IPv6 "), "{}", said("").stdout);
    let markdown = said("-o markdown").stdout;
    assert!(markdown.contains("| − everything over IPv6 |"), "{markdown}");
    assert!(markdown.contains("| + everything |"), "nobody else has IPv6: {markdown}");
    let one = said("-6").stdout;
    assert!(one.contains("everything") && !one.contains("over IPv6"), "it alone was asked: {one}");
}

#[test]
fn a_pod_that_has_finished_is_on_no_side() {
    let (web, db, deny) =
        (pod("web", &["10.0.0.1"], ""), pod("db", &["10.0.0.3"], ""), policy("p", DENY, ""));
    let finished = web.replace("Running", "Succeeded");
    let run = diff(&[&web, &db], &[&finished, &db, &deny]);
    assert_eq!(workloads(&run), ["removed x/web"]);
    assert_eq!(
        caused(&run),
        ["closed all of IPv4 -> x/db -everything over IPv4: NetworkPolicy x/p"]
    );
    let run = diff(&[&finished, &db, &deny], &[&finished, &db, &deny]);
    assert_eq!((run.status, workloads(&run)), (0, Vec::new()));
}

#[test]
fn neighbouring_ports_that_open_because_of_different_rules_are_told_apart() {
    let web = pod("web", &["10.0.0.1"], "");
    let ports = "ports: [{name: a, containerPort: 80}, {name: b, containerPort: 81}]";
    let db = pod("db", &["10.0.0.3"], &format!("containers: [{{name: c, {ports}}}]"));
    let deny = policy("deny", DENY, "");
    let from_web = |name: &str, port: &str| {
        let from = "from: [{podSelector: {matchLabels: {app: web}}}]";
        policy(name, &format!("{DENY}, ingress: [{{{from}, ports: [{{port: {port}}}]}}]"), "")
    };
    for (a, b) in [("80", "81"), ("a", "b")] {
        let run =
            diff(&[&web, &db, &deny], &[&web, &db, &deny, &from_web("p", a), &from_web("q", b)]);
        assert_eq!(
            caused(&run),
            [
                "opened x/web -> x/db 80/TCP over IPv4: NetworkPolicy x/p",
                "opened x/web -> x/db 81/TCP over IPv4: NetworkPolicy x/q",
            ],
            "{a} and {b}"
        );
    }
}

#[test]
fn that_a_pod_gets_an_address_of_one_family_closes_nothing_in_the_other() {
    let unborn = pod("web", &[], "").replace("Running", "Pending");
    let run = diff(&[&unborn], &[&pod("web", &["10.0.0.1"], "")]);
    assert_eq!((run.status, caused(&run)), (0, Vec::new()), "{}{}", run.stdout, run.stderr);
}

/// A pod of StatefulSet `web`.
fn replica(name: &str, address: &str) -> String {
    let owner = "ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: u, controller: true}]";
    pod("web", &[address], "").replace("{name: web,", &format!("{{name: {name}, {owner},"))
}

#[test]
fn a_replica_by_another_name_is_no_cause() {
    let db = pod("db", &["10.0.0.3"], "");
    let deny = policy("deny", DENY, "");
    let allow = rule("from: [{podSelector: {matchLabels: {app: web}}}]");
    let run = diff(
        &[&replica("web-a", "10.0.0.1"), &db, &deny],
        &[&replica("web-b", "10.0.0.2"), &db, &deny, &allow],
    );
    assert_eq!(caused(&run), ["opened x/web -> x/db everything over IPv4: NetworkPolicy x/p"]);
}

#[test]
fn what_differs_in_a_policy_of_nobody_is_told_rule_by_rule() {
    let web = pod("web", &["10.0.0.1"], "");
    let of_nobody = |port: u16| {
        let ingress = format!("[{{ports: [{{port: {port}}}]}}, {{ports: [{{port: 1}}]}}]");
        policy("p", &format!("podSelector: {{matchLabels: {{app: none}}}}, ingress: {ingress}"), "")
    };
    let run = diff(&[&web, &of_nobody(80)], &[&web, &of_nobody(81)]);
    let comparison: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    let [policy] = comparison["policies"].as_array().expect("a list").as_slice() else {
        panic!("one policy: {comparison:#}")
    };
    assert_eq!((run.status, &policy["field"]), (0, &"ingress[0]".into()));
    assert_eq!(policy["text"], "ports: − 80/TCP, + 81/TCP");
}

#[test]
fn replicas_that_a_policy_tells_apart_are_told_apart() {
    let db = pod("db", &["10.0.0.3"], "");
    let labelled = |name, address, role: &str| {
        replica(name, address).replace("{app: web}", &format!("{{app: web, role: {role}}}"))
    };
    let pods =
        [labelled("web-0", "10.0.0.1", "a"), labelled("web-1", "10.0.0.2", "b"), db].concat();
    let leader = "podSelector: {matchLabels: {role: b}}, policyTypes: [Egress]";
    let run = diff(&[&pods], &[&pods, &policy("p", leader, "")]);
    let comparison: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    for line in comparison["connections"].as_array().expect("a list") {
        assert_eq!(line["from"][0]["members"], serde_json::json!(["x/web-1"]), "{line:#}");
        assert_eq!(
            (&line["from"][0]["count"], &line["from"][0]["of"]),
            (&serde_json::json!(1), &serde_json::json!(2))
        );
    }
    assert_eq!(run.status, 1);
}
