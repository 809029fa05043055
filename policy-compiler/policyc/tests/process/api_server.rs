//! An API server that answers from manifests, over plain HTTP on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::document::{Node, Value};
use policy_manifest::yaml;
use serde_json::{Value as Json, json};

#[cfg(target_os = "linux")]
use crate::run::policyc_within;
use crate::run::{Run, policyc_with};

/// What the server does, by resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conduct {
    /// Resources that may not be listed.
    pub(crate) forbidden: Vec<&'static str>,
    /// Resources that it has never heard of.
    pub(crate) unheard: Vec<&'static str>,
    /// How often the second page of the pods has expired before it comes.
    pub(crate) expiries: usize,
    /// Whether nobody is known.
    pub(crate) unauthorized: bool,
    /// Whether a page is as long as it is asked to be.
    pub(crate) honours_limits: bool,
    /// How much text, which is nothing to policies, each object has besides.
    pub(crate) ballast: usize,
    /// What the second page of the pods waits for, if not for ever.
    pub(crate) awaits: Option<Arc<AtomicBool>>,
}

/// How long a page that waits is kept.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that gives two objects a page, whatever it is asked for, unless its conduct is another.
pub(crate) struct ApiServer {
    pub(crate) address: String,
    /// The path and query of each request.
    asked: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
}

const PAGE: usize = 2;

impl ApiServer {
    /// Serves `objects` until the test ends.
    pub(crate) fn start(objects: Vec<Json>, conduct: Conduct) -> Self {
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
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: \
             {{cluster: k, user: u, namespace: shop}}}}], clusters: [{{name: k, cluster: {{server: \
             \"http://{address}\"}}}}], users: [{{name: u, user: {{token: t}}}}]}}"
        );
        std::fs::write(directory.path().join("config"), text).expect("a file");
        Self { address, asked, directory }
    }

    /// A kubeconfig that names it alone.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// A file of that name and text.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// What was asked of it so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    /// Runs `policyc` with that.
    pub(crate) fn policyc(&self, line: &str) -> Run {
        let file = self.kubeconfig();
        policyc_with(line, "", &[("KUBECONFIG", file.to_str().expect("UTF-8"))])
    }

    /// The same in at most so much memory for data.
    #[cfg(target_os = "linux")]
    pub(crate) fn policyc_within(&self, kilobytes: usize, line: &str) -> Run {
        let file = self.kubeconfig();
        policyc_within(kilobytes, line, &[("KUBECONFIG", file.to_str().expect("UTF-8"))])
    }

    /// What went over standard error, with the port that differs each time named.
    pub(crate) fn said(&self, run: &Run) -> String {
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
    let no_such_path = || failed(404, "NotFound", "no such path");
    let Some((resource, kind)) = resource_of(path) else { return no_such_path() };
    if conduct.unheard.contains(&resource) {
        return no_such_path();
    }
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
    if let Some(awaited) = conduct.awaits.as_ref().filter(|_| start > 0 && resource == "pods") {
        let begun = Instant::now();
        while !awaited.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let without = parameters.get("labelSelector").map(|selector| {
        selector.strip_prefix("%21").unwrap_or_else(|| panic!("{selector} is not read here"))
    });
    let of_kind = || {
        objects.iter().filter(|object| {
            let labels = &object["metadata"]["labels"];
            object["kind"] == kind && without.is_none_or(|label| labels.get(label).is_none())
        })
    };
    let length = match parameters.get("limit").and_then(|limit| limit.parse().ok()) {
        Some(limit) if conduct.honours_limits => limit,
        _ => PAGE,
    };
    let item = |object: &Json| {
        let mut object = object.clone();
        // In a list the items do not say what they are.
        let fields = object.as_object_mut().expect("an object");
        fields.remove("kind");
        fields.remove("apiVersion");
        if conduct.ballast > 0 {
            object["metadata"]["annotations"] = json!({"ballast": "x".repeat(conduct.ballast)});
        }
        object
    };
    let rest = of_kind().count().saturating_sub(start + length);
    let mut metadata = json!({"resourceVersion": "7"});
    if rest > 0 {
        metadata["continue"] = (start + length).to_string().into();
        metadata["remainingItemCount"] = rest.into();
    }
    let items: Vec<Json> = of_kind().skip(start).take(length).map(item).collect();
    (
        200,
        json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": metadata, "items": items}),
    )
}

/// The resource at a path, and its kind.
fn resource_of(path: &str) -> Option<(&'static str, &'static str)> {
    Some(match path {
        "/api/v1/pods" => ("pods", "Pod"),
        "/api/v1/namespaces" => ("namespaces", "Namespace"),
        "/api/v1/nodes" => ("nodes", "Node"),
        "/api/v1/services" => ("services", "Service"),
        "/apis/networking.k8s.io/v1/networkpolicies" => ("networkpolicies", "NetworkPolicy"),
        "/apis/apps/v1/deployments" => ("deployments", "Deployment"),
        "/apis/apps/v1/statefulsets" => ("statefulsets", "StatefulSet"),
        "/apis/apps/v1/daemonsets" => ("daemonsets", "DaemonSet"),
        "/apis/apps/v1/replicasets" => ("replicasets", "ReplicaSet"),
        "/apis/batch/v1/jobs" => ("jobs", "Job"),
        "/apis/batch/v1/cronjobs" => ("cronjobs", "CronJob"),
        _ => return None,
    })
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

pub(crate) fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop")
}

/// The objects of `examples/shop`.
pub(crate) fn shop_objects() -> Vec<Json> {
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
