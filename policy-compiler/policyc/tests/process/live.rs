//! `policyc` on a cluster: an API server that answers from manifests, over plain HTTP on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use policy_compiler::document::{Node, Value};
use policy_manifest::yaml;
use serde_json::{Value as Json, json};

use crate::run::{Run, policyc_with};

/// What the server does, by resource.
#[derive(Clone, Debug, Default)]
struct Conduct {
    /// Resources that may not be listed.
    forbidden: Vec<&'static str>,
    /// How often the second page of the pods has expired before it comes.
    expiries: usize,
    /// Whether nobody is known.
    unauthorized: bool,
}

/// A server that gives two objects a page, whatever it is asked for.
struct ApiServer {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    kubeconfig: tempfile::TempDir,
}

const PAGE: usize = 2;

impl ApiServer {
    fn start(objects: Vec<Json>, conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut conduct = conduct;
            for stream in listener.incoming().map_while(Result::ok) {
                let target = read_target(&stream);
                log.lock().expect("no panic").push(target.clone());
                let (status, body) = answer(&target, &objects, &mut conduct);
                respond(stream, status, &body);
            }
        });
        let kubeconfig = tempfile::tempdir().expect("a directory");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: \
             {{cluster: k, user: u, namespace: shop}}}}], clusters: [{{name: k, cluster: {{server: \
             \"http://{address}\"}}}}], users: [{{name: u, user: {{token: t}}}}]}}"
        );
        std::fs::write(kubeconfig.path().join("config"), text).expect("a file");
        Self { address, asked, kubeconfig }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.path().join("config")
    }

    fn policyc(&self, line: &str) -> Run {
        let file = self.kubeconfig();
        policyc_with(line, "", &[("KUBECONFIG", file.to_str().expect("UTF-8"))])
    }

    /// What went over standard error, with the port that differs each time named.
    fn said(&self, run: &Run) -> String {
        run.stderr.replace(&self.address, "SERVER")
    }
}

fn read_target(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    // The rest of the head is read, or the client would see its connection reset.
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    request.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn answer(target: &str, objects: &[Json], conduct: &mut Conduct) -> (u16, Json) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let failed = |code: u16, reason: &str, message: &str| {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code});
        (code, body)
    };
    if conduct.unauthorized {
        return failed(401, "Unauthorized", "Unauthorized");
    }
    let (resource, kind) = match path {
        "/api/v1/pods" => ("pods", "Pod"),
        "/api/v1/namespaces" => ("namespaces", "Namespace"),
        "/api/v1/nodes" => ("nodes", "Node"),
        "/api/v1/services" => ("services", "Service"),
        "/apis/networking.k8s.io/v1/networkpolicies" => ("networkpolicies", "NetworkPolicy"),
        _ => return failed(404, "NotFound", "no such path"),
    };
    if conduct.forbidden.contains(&resource) {
        return failed(
            403,
            "Forbidden",
            &format!("User \"dev\" cannot list resource \"{resource}\""),
        );
    }
    let parameters: BTreeMap<&str, &str> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let start: usize = parameters.get("continue").and_then(|t| t.parse().ok()).unwrap_or(0);
    if start > 0 && resource == "pods" && conduct.expiries > 0 {
        conduct.expiries -= 1;
        return failed(410, "Expired", "The provided continue parameter is too old");
    }
    let mut all: Vec<Json> = objects.iter().filter(|o| o["kind"] == kind).cloned().collect();
    for object in &mut all {
        // In a list the items do not say what they are.
        let fields = object.as_object_mut().expect("an object");
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    let rest = all.len().saturating_sub(start + PAGE);
    let mut metadata = json!({"resourceVersion": "7"});
    if rest > 0 {
        metadata["continue"] = (start + PAGE).to_string().into();
        metadata["remainingItemCount"] = rest.into();
    }
    let items: Vec<Json> = all.into_iter().skip(start).take(PAGE).collect();
    (
        200,
        json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": metadata, "items": items}),
    )
}

fn respond(mut stream: TcpStream, status: u16, body: &Json) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::Float(n) => (*n).into(),
        Value::String(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|e| (e.key.clone(), json_of(&e.node))).collect())
        }
    }
}

fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop")
}

/// The objects of `examples/shop`.
fn shop_objects() -> Vec<Json> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(shop())
        .expect("there")
        .map(|entry| entry.expect("there").path())
        .collect();
    files.sort();
    let manifests = files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "yaml") && !f.ends_with("test.yaml"));
    manifests
        .flat_map(|file| yaml::parse(&std::fs::read_to_string(file).expect("text")).expect("YAML"))
        .map(|node| json_of(&node))
        .filter(|object| !object.is_null())
        .collect()
}

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
    let file = server.kubeconfig.path().join("new.yaml");
    std::fs::write(&file, policy).unwrap();
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
    let file = server.kubeconfig.path().join("service.json");
    std::fs::write(&file, service.to_string()).unwrap();
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
    let asked = server.asked.lock().unwrap();
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
    let file = server.kubeconfig.path().join("over.yaml");
    std::fs::write(&file, policy).unwrap();
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
    let file = server.kubeconfig.path().join("web.yaml");
    std::fs::write(&file, deployment).unwrap();
    let run = server.policyc(&format!("{question} --live -f {}", file.display()));
    assert_eq!(run.status, 0, "as app=api it may: {run:?}");
}

#[test]
fn a_cluster_that_is_not_there_is_named() {
    let server = ApiServer::start(Vec::new(), Conduct::default());
    // A port that was just given back.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let file = server.kubeconfig();
    let text = std::fs::read_to_string(&file).unwrap().replace(&server.address, &gone);
    std::fs::write(&file, text).unwrap();
    let run = server.policyc("explain pod cart-0");
    assert_eq!(run.status, 2);
    let said = run.stderr.replace(&gone, "SERVER");
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
