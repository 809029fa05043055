//! `policyc` on a cluster.

use serde_json::{Value as Json, json};

use crate::api_server::{ApiServer, Conduct, shop, shop_objects};
#[cfg(target_os = "linux")]
use crate::run::alone;
use crate::run::policyc_with;

/// An answer without the places in it, which a cluster does not have.
fn without_places(answer: &str) -> Json {
    fn strip(value: &mut Json) {
        match value {
            Json::Object(fields) => {
                fields.retain(|key, _| key != "place");
                fields.values_mut().for_each(strip);
            }
            Json::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(answer).expect("JSON");
    strip(&mut value);
    value
}

#[test]
fn a_cluster_is_linted_whole_and_under_an_overlay_only_the_manifests_are() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let found = |line: &str| -> Vec<String> {
        let run = server.policyc(line);
        assert_eq!(run.stderr, "", "{line}");
        let report: Json = serde_json::from_str(&run.stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings");
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        findings.iter().map(|f| format!("{} {}", text(&f["rule"]), text(&f["object"]))).collect()
    };
    let live = found("lint -o json");
    let guest = "PC023 Namespace guest".to_owned();
    assert!(live.contains(&guest), "{live:?}");
    // That this selects nobody is known only since all pods are.
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: empty}, \
                  spec: {podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress]}}";
    let file = server.write("new.yaml", policy);
    let over = found(&format!("lint --live -f {} -o json", file.display()));
    assert_eq!(over, ["PC023 Namespace empty", "PC010 NetworkPolicy empty/p"]);
    let alone = found(&format!("lint -f {} -o json", file.display()));
    assert_eq!(alone, ["PC023 Namespace empty"]);
}

#[test]
fn a_cluster_is_answered_for_as_its_manifests_are() {
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": "cart"},
        "spec": {"selector": {"app": "cart"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    let mut objects = shop_objects();
    objects.push(service.clone());
    let server = ApiServer::start(objects, Conduct::default());
    let file = server.write("service.json", &service.to_string());
    let shop = format!("{} {}", shop().display(), file.display());
    for question in [
        "explain pod cart-0 -n shop -o json",
        "explain pod deploy/api -n shop -o json",
        "explain pod -A -l app -o json",
        "can shop/web-5d9c7-h7x2p shop/db-0 5432 -o json",
        "can guest/shell svc/shop/cart 80 -o json",
        "render --node node-a -o json",
    ] {
        let live = server.policyc(question);
        let read = server.policyc(&format!("{question} -f {shop}"));
        assert_eq!(live.stderr, "", "{question}");
        assert_eq!(live.status, read.status, "{question}");
        assert_eq!(without_places(&live.stdout), without_places(&read.stdout), "{question}");
    }
    let asked = server.asked();
    assert!(asked.iter().all(|target| target.contains("limit=500")), "{asked:?}");
    assert!(asked.iter().any(|target| target.contains("continue=8")), "{asked:?}");
}

#[test]
fn names_without_a_namespace_are_in_that_of_the_context() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let run = server.policyc("explain pod cart-0");
    assert!(run.stdout.starts_with("Pod shop/cart-0 "), "{run:?}");
    let run = server.policyc("explain pod cart-0 -n guest");
    assert_eq!(
        (run.status, run.stderr.lines().next()),
        (2, Some("error: pod `guest/cart-0` is not in the input"))
    );
}

#[test]
fn a_list_that_expires_is_begun_anew_and_not_for_ever() {
    let again = ApiServer::start(shop_objects(), Conduct { expiries: 2, ..Conduct::default() });
    let run = again.policyc("explain pod -A -l app -o json");
    let whole = again.policyc(&format!("explain pod -A -l app -o json -f {}", shop().display()));
    assert_eq!((run.status, &*run.stderr), (0, ""));
    assert_eq!(without_places(&run.stdout), without_places(&whole.stdout), "no pod twice");

    let ever = ApiServer::start(shop_objects(), Conduct { expiries: 99, ..Conduct::default() });
    let run = ever.policyc("explain pod cart-0");
    assert_eq!(run.status, 2);
    assert_eq!(run.stderr, "error: the list of pods expired 3 times while it was being read\n");
}

#[test]
fn who_may_not_list_what_every_answer_needs_gets_none() {
    let conduct = Conduct { forbidden: vec!["networkpolicies"], ..Conduct::default() };
    let server = ApiServer::start(shop_objects(), conduct);
    let run = server.policyc("explain pod cart-0");
    assert_eq!((run.status, &*run.stdout), (2, ""));
    assert_eq!(
        server.said(&run),
        "error: http://SERVER/ does not let you list networkpolicies in all namespaces: User \"dev\" \
         cannot list resource \"networkpolicies\"\n  = help: verdicts depend on all namespaces: ask \
         for a role that may list namespaces, pods and networkpolicies; `kubectl auth can-i list \
         networkpolicies -A` shows whether you may\n"
    );
    let server = ApiServer::start(Vec::new(), Conduct { unauthorized: true, ..Conduct::default() });
    let run = server.policyc("explain pod cart-0");
    assert_eq!(run.status, 2);
    let first = server.said(&run).lines().next().unwrap_or_default().to_owned();
    assert_eq!(first, "error: http://SERVER/ does not accept your credentials: Unauthorized");
}

#[test]
fn nodes_and_services_that_may_not_be_listed_are_said_to_be_lacking() {
    let conduct = Conduct { forbidden: vec!["nodes", "services"], ..Conduct::default() };
    let server = ApiServer::start(shop_objects(), conduct);
    let run = server.policyc("can shop/web-5d9c7-h7x2p shop/cart-0 8080");
    assert_eq!(run.status, 0, "{run:?}");
    let said = server.said(&run);
    let warnings: Vec<&str> = said.lines().collect();
    assert_eq!(warnings.len(), 2, "{said}");
    assert!(warnings[0].starts_with(
        "warning: nodes are not read, so that node addresses are taken from the pods alone: "
    ));
    assert!(warnings[1].starts_with(
        "warning: services are not read, so that questions about Services cannot be answered: "
    ));
}

#[test]
fn manifests_laid_over_the_cluster_show_what_would_be() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let question = "can shop/web-5d9c7-h7x2p shop/db-0 5432";
    assert_eq!(server.policyc(question).status, 1);
    let policy = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";
    let file = server.write("over.yaml", policy);
    let run = server.policyc(&format!("{question} --live -f {}", file.display()));
    assert_eq!((run.status, &*run.stderr), (0, ""));
    assert!(run.stdout.contains("over.yaml:6"), "{}", run.stdout);
    assert!(!run.stdout.contains("live"), "the cluster has no lines to show: {}", run.stdout);
}

#[test]
fn a_template_laid_over_the_cluster_changes_the_pods_that_it_made() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let question = "can shop/web-5d9c7-h7x2p shop/db-0 5432";
    let deployment = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: api, tier: fe}}
    spec: {containers: [{name: c, image: i}]}
";
    let file = server.write("web.yaml", deployment);
    let run = server.policyc(&format!("{question} --live -f {}", file.display()));
    assert_eq!(run.status, 0, "as app=api it may: {run:?}");
}

#[test]
fn a_cluster_that_is_not_there_is_named() {
    let server = ApiServer::start(Vec::new(), Conduct::default());
    // Nobody listens on a port for diagnosis that no system has any more; one that was just given back may
    // be somebody else's by now.
    let gone = "127.0.0.1:1";
    let file = server.kubeconfig();
    let text = std::fs::read_to_string(&file).unwrap().replace(&server.address, gone);
    std::fs::write(&file, text).unwrap();
    let run = server.policyc("explain pod cart-0");
    assert_eq!(run.status, 2);
    let said = run.stderr.replace(gone, "SERVER");
    assert!(said.starts_with("error: cannot list namespaces from http://SERVER/: "), "{said}");
    assert!(said.contains("Connection refused"), "{said}");

    let run = server.policyc("explain pod cart-0 --context staging");
    assert_eq!(run.status, 2);
    assert!(run.stderr.starts_with("error: cannot use the kubeconfig with context `staging`: "));
    let run = server.policyc("explain pod cart-0 --kubeconfig nowhere/config");
    assert_eq!(run.status, 2);
    assert!(run.stderr.starts_with("error: cannot use the kubeconfig nowhere/config: "), "{run:?}");
}

#[test]
fn a_cluster_is_not_named_where_only_manifests_are_read() {
    let run = policyc_with("explain pod x -f allowed.yaml --context y", "", &[]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("`--kubeconfig` and `--context` name a cluster"), "{run:?}");
    let run = policyc_with("explain pod x --live", "", &[]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("--filename"), "{run:?}");
}

/// A pod of ten thousands, by number.
fn one_of_many(number: usize) -> Json {
    let address = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": format!("many-{number:05}"), "labels": {"app": "many"}},
        "status": {"phase": "Running", "podIP": address}})
}

#[test]
fn twenty_thousand_pods_come_page_by_page_and_are_listed_once() {
    let pods = 20_000;
    let objects = (0..pods).map(one_of_many).collect();
    let conduct = Conduct { honours_limits: true, ..Conduct::default() };
    let server = ApiServer::start(objects, conduct);
    let run = server.policyc("explain pod many-19999 -o json");
    assert_eq!((run.status, &*run.stderr), (0, ""));
    let pages: Vec<String> =
        server.asked().into_iter().filter(|target| target.starts_with("/api/v1/pods?")).collect();
    let expected: Vec<String> = (0..pods / 500)
        .map(|page| match page * 500 {
            0 => "/api/v1/pods?&limit=500".to_owned(),
            start => format!("/api/v1/pods?&limit=500&continue={start}"),
        })
        .collect();
    assert_eq!(pages, expected);
    assert_eq!(server.asked().len(), expected.len() + 10, "the other kinds once each");
}

#[test]
#[cfg(target_os = "linux")]
fn of_a_page_nothing_stays_but_what_policies_depend_on() {
    let (pods, ballast) = (6_000, 30_000);
    let objects = (0..pods).map(one_of_many).collect();
    let conduct = Conduct { honours_limits: true, ballast, ..Conduct::default() };
    let server = ApiServer::start(objects, conduct);
    // Less than what is sent.
    let run =
        server.policyc_within(pods * ballast * 2 / 3 / 1000, "explain pod many-05999 -o json");
    assert_eq!((run.status, &*run.stderr), (0, ""));
}

#[test]
#[cfg(target_os = "linux")]
fn on_a_terminal_a_long_list_says_how_far_it_is_and_clears_that() {
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let seen = Arc::new(AtomicBool::new(false));
    let conduct = Conduct { awaits: Some(Arc::clone(&seen)), ..Conduct::default() };
    let server = ApiServer::start(shop_objects(), conduct);
    let file = server.kubeconfig();
    let line = format!("stty cols 100; exec {} explain pod cart-0", env!("CARGO_BIN_EXE_policyc"));
    let mut terminal = Command::new("script");
    let mut child = alone(
        terminal.args(["-qfec", &line, "/dev/null"]),
        &[("KUBECONFIG", file.to_str().expect("UTF-8")), ("TERM", "xterm")],
    )
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .spawn()
    .expect("util-linux has it");
    let mut output = child.stdout.take().expect("piped");
    let (mut shown, mut some) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = output.read(&mut some) {
        shown.extend_from_slice(&some[..n]);
        let told = String::from_utf8_lossy(&shown).contains("reading pods: 2 of 10");
        seen.fetch_or(told, Ordering::SeqCst);
    }
    let status = child.wait().expect("it ends");
    let shown = String::from_utf8_lossy(&shown);
    assert!(status.success() && seen.load(Ordering::SeqCst), "{shown}");
    let (before, answer) = shown.rsplit_once("Pod").expect("an answer");
    assert!(before.contains("\u{1b}[2K"), "the line is cleared: {before:?}");
    assert!(answer.contains("shop/cart-0"), "{shown}");
}
