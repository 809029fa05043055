use std::collections::VecDeque;
use std::convert::Infallible;

use http::{Method, Request, Response};
use kube::client::Body;

use super::*;

const KEY: &str = "policyd.dev/not-ready";

/// An API server that gives these answers in order, and remembers what it was asked.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(Method, String, Value)>>>,
}

impl Server {
    fn answering(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let server = Self::default();
        server.answers.lock().unwrap().extend(answers);
        server
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                server.asked.lock().unwrap().push((head.method, head.uri.path().to_owned(), body));
                let (status, answer) = server.answers.lock().unwrap().pop_front().unwrap();
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    fn asked(&self) -> Vec<(Method, String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

fn node(version: &str, taints: &Value) -> (u16, Value) {
    let metadata = json!({"name": "n1", "resourceVersion": version});
    let spec = json!({"podCIDR": "10.244.1.0/24", "taints": taints});
    (200, json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}))
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (code, status)
}

fn read() -> (Method, String, Value) {
    (Method::GET, "/api/v1/nodes/n1".to_owned(), Value::Null)
}

fn change(version: &str, taints: &Value) -> (Method, String, Value) {
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
    (Method::PATCH, "/api/v1/nodes/n1".to_owned(), patch)
}

fn taint() -> StartupTaint {
    StartupTaint::new(NodeName::new("n1").unwrap(), KEY)
}

/// What one attempt comes to.
fn attempt(server: &Server) -> Result<Removal, TaintError> {
    runtime().block_on(async { taint().remove(server.client()).await })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Attempts until it is done.
fn attempts(taint: &StartupTaint, server: &Server) {
    let pauses = (Duration::from_millis(1), Duration::from_millis(2));
    let connect = || Ok::<_, Infallible>(server.client());
    runtime().block_on(taint.remove_at_last(&connect, pauses));
}

fn other() -> Value {
    json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "t", "new": 1})
}

#[test]
fn only_the_taint_of_that_key_goes_whatever_its_effect() {
    let ours = |effect: &str| json!({"key": KEY, "effect": effect, "value": "x"});
    let longer = json!({"key": format!("{KEY}-yet"), "effect": "NoSchedule"});
    let there = json!([ours("NoSchedule"), other(), ours("NoExecute"), longer]);
    let server = Server::answering([node("7", &there), node("8", &json!([]))]);
    assert_eq!(attempt(&server).unwrap(), Removal::Removed);
    assert_eq!(server.asked(), [read(), change("7", &json!([other(), longer]))]);
}

#[test]
fn a_node_without_the_taint_is_left_alone() {
    for taints in [json!([other()]), json!([]), Value::Null] {
        let server = Server::answering([node("7", &taints)]);
        assert_eq!(attempt(&server).unwrap(), Removal::Absent, "{taints}");
        assert_eq!(server.asked(), [read()], "{taints}");
    }
}

#[test]
fn a_node_that_changes_meanwhile_is_read_again() {
    let before = json!([{"key": KEY, "effect": "NoSchedule"}]);
    let meanwhile = json!([{"key": KEY, "effect": "NoSchedule"}, other()]);
    let server = Server::answering([
        node("7", &before),
        refusal(409, "Conflict", "the object has been modified"),
        node("8", &meanwhile),
        node("9", &json!([other()])),
    ]);
    let taint = taint();
    attempts(&taint, &server);
    let expected = [read(), change("7", &json!([])), read(), change("8", &json!([other()]))];
    assert_eq!(server.asked(), expected);
    assert_eq!(taint.notes(), Notes::new());
}

#[test]
fn a_role_that_lacks_the_right_is_named_and_it_is_tried_again() {
    let tainted = node("7", &json!([{"key": KEY, "effect": "NoSchedule"}]));
    let forbidden = refusal(403, "Forbidden", "nodes \"n1\" is forbidden");
    let server = Server::answering([tainted.clone(), forbidden]);
    let error = attempt(&server).unwrap_err();
    let text = error_chain(&error);
    for part in ["cannot change node n1", "`get` and `patch` on `nodes`", "is forbidden"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let taint = taint();
    taint.report(Some(text.clone()));
    let notes = taint.notes();
    let expected = format!("taint {KEY} is still on this node: {text}");
    assert_eq!(notes.values().map(|note| &note.text).collect::<Vec<_>>(), [&expected]);
    let server = Server::answering([refusal(403, "Forbidden", "no"), tainted.clone(), tainted]);
    attempts(&taint, &server);
    assert_eq!(server.asked().len(), 3);
    assert_eq!(taint.notes(), Notes::new());
}

#[test]
fn nothing_is_asked_of_the_server_before_the_loop_is_ready() {
    let (sender, inbox) = std::sync::mpsc::channel();
    let server = Server::default();
    let asked = server.clone();
    taint().start(sender, move || Ok::<_, Infallible>(asked.client())).unwrap();
    // A loop that ends without ever having been ready.
    let question = inbox.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(question, Input::Asked(_)));
    drop(question);
    assert!(inbox.recv_timeout(Duration::from_secs(10)).is_err(), "it gives up");
    assert_eq!(server.asked(), []);
}
