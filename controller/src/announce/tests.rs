use std::collections::VecDeque;
use std::sync::Mutex;

use axum::http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// Longer than anything here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An API server that knows policy `shop/web` and answers attempts to create events as told, `201`
/// where it was told nothing more.
#[derive(Clone, Default)]
struct Cluster {
    answers: Arc<Mutex<VecDeque<u16>>>,
    created: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Cluster {
    fn answering(answers: impl IntoIterator<Item = u16>) -> Self {
        let cluster = Self::default();
        cluster.answers.lock().unwrap().extend(answers);
        cluster
    }

    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, std::io::Error>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let reply = |code: u16, body: Value| {
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Response::builder().status(code).body(body).unwrap()
        };
        let failure = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Unknown" };
            let message = format!("answer {code}");
            json!({"kind": "Status", "code": code, "reason": reason, "message": message})
        };
        if request.method() == Method::GET {
            let known = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/web";
            if path != known {
                return reply(404, failure(404));
            }
            let policy = json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"namespace": "shop", "name": "web", "uid": "11-22"},
            });
            return reply(200, policy);
        }
        let code = self.answers.lock().unwrap().pop_front().unwrap_or(201);
        let bytes = request.into_body().collect_bytes().await.unwrap();
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        if code == 201 {
            self.created.lock().unwrap().push((path, event.clone()));
            return reply(201, event);
        }
        reply(code, failure(code))
    }

    fn announcer(&self) -> Announcer {
        let cluster = self.clone();
        let node = NodeName::new("n1").unwrap();
        let pauses = [Duration::from_millis(5); 2];
        Announcer::start_with(move || Ok(cluster.client()), node, Metrics::new(), pauses).unwrap()
    }

    fn created(&self) -> Vec<(String, Value)> {
        self.created.lock().unwrap().clone()
    }
}

fn drift(what: &str) -> Announcement {
    Announcement::DriftRepaired { family: Family::V4, what: what.to_owned() }
}

fn broken(name: &str) -> Announcement {
    let policy = ObjectKey::new("shop", name).unwrap();
    Announcement::PolicyFailsClosed { policy, reason: "spec.x: unknown field".to_owned() }
}

/// Waits until so many events have become of what was announced: published, failed, dropped.
fn wait(announcer: &Announcer, expected: [u64; 3]) {
    let begun = Instant::now();
    loop {
        let counts = Told::ALL.map(|told| announcer.metrics.count_of(told));
        if counts == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{counts:?}, not {expected:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_policy_and_a_node_are_told_of_where_they_are_looked_for() {
    let cluster = Cluster::default();
    let announcer = cluster.announcer();
    announcer.announce(broken("web"));
    announcer.announce(Announcement::CannotEnforce { reasons: vec!["forwarding is off".into()] });
    wait(&announcer, [2, 0, 0]);
    let [(policy_path, policy), (node_path, node)] = <[_; 2]>::try_from(cluster.created()).unwrap();
    assert_eq!(policy_path, "/apis/events.k8s.io/v1/namespaces/shop/events");
    assert_eq!(policy["regarding"]["uid"], "11-22");
    assert_eq!(policy["note"], "what it concerns is denied: spec.x: unknown field");
    assert_eq!(node_path, "/apis/events.k8s.io/v1/namespaces/kube-system/events");
    assert_eq!(node["regarding"]["name"], "n1");
}

#[test]
fn the_same_is_published_once_and_so_many_at_most() {
    let cluster = Cluster::default();
    let announcer = cluster.announcer();
    for _ in 0..5 {
        announcer.announce(drift("the hook"));
    }
    wait(&announcer, [1, 0, 0]);
    for number in 0..20 {
        announcer.announce(drift(&format!("set {number}")));
    }
    wait(&announcer, [10, 0, 11]);
    assert_eq!(cluster.created().len(), 10);
}

#[test]
fn a_failure_that_may_pass_is_tried_again_and_one_that_may_not_is_not() {
    let table = [
        (vec![500, 429], [1, 0, 0], 0),
        (vec![503, 503, 503], [0, 1, 0], 0),
        (vec![403, 403], [0, 1, 0], 1),
        (vec![422, 500], [0, 1, 0], 1),
        (vec![409, 500], [1, 0, 0], 1),
        (vec![404, 500], [1, 0, 0], 1),
    ];
    for (answers, expected, unasked) in table {
        let cluster = Cluster::answering(answers.clone());
        let announcer = cluster.announcer();
        announcer.announce(drift("the hook"));
        wait(&announcer, expected);
        assert_eq!(cluster.answers.lock().unwrap().len(), unasked, "{answers:?}");
    }
}

#[test]
fn what_could_not_be_told_may_be_told_again() {
    let cluster = Cluster::answering([403]);
    let announcer = cluster.announcer();
    announcer.announce(drift("the hook"));
    wait(&announcer, [0, 1, 0]);
    announcer.announce(drift("the hook"));
    wait(&announcer, [1, 1, 0]);
}

#[test]
fn of_a_policy_that_is_gone_nothing_is_told() {
    let cluster = Cluster::default();
    let announcer = cluster.announcer();
    announcer.announce(broken("gone"));
    announcer.announce(broken("web"));
    wait(&announcer, [2, 0, 0]);
    assert_eq!(cluster.created().len(), 1);
}

#[test]
fn whoever_announces_never_waits() {
    let metrics = Metrics::new();
    Announcer::silent(Arc::clone(&metrics)).announce(drift("the hook"));
    assert_eq!(metrics.count_of(Told::Dropped), 0, "nobody wanted to know");
    // An API server that never answers.
    let node = NodeName::new("n1").unwrap();
    let connect = || {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, std::io::Error>>()
        });
        Client::new(service, "default")
    };
    let announcer = Announcer::start_with(move || Ok(connect()), node, metrics, PAUSES).unwrap();
    let begun = Instant::now();
    for number in 0..1000 {
        announcer.announce(drift(&format!("set {number}")));
    }
    assert!(begun.elapsed() < PATIENCE);
    let dropped = announcer.metrics.count_of(Told::Dropped);
    assert!(dropped >= 900, "{dropped}");
}

#[test]
fn a_missing_role_is_told_with_what_to_do() {
    let status = kube::core::Status::failure("events is forbidden", "Forbidden").with_code(403);
    let error = PublishError::of(Error::Api(status.boxed()));
    let expected = "events is forbidden; grant `create` on events of events.k8s.io as the ClusterRole \
                    `policyd` does, or run with --events=false";
    assert_eq!(error.to_string(), expected);
}
