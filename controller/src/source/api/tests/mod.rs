//! The source against a server that answers as each test says.

mod laws;
mod server;
mod stream;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::pool::Pool;
use policy_compiler::update::Event;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use self::server::Server;
use super::delays::Delays;
use super::follow::{Asking, Follower};
use super::kinds::Followed;
use crate::metrics::Received;
use crate::source::{Found, Input, Subject};

/// Longer than any test should take.
const LIMIT: Duration = Duration::from_secs(30);

const QUICK: Delays = Delays {
    answer: LIMIT,
    list: LIMIT,
    watch: LIMIT,
    grace: Duration::from_millis(50),
    stall: LIMIT,
    forget: LIMIT,
    pause: (Duration::from_millis(10), Duration::from_millis(40)),
    sound: LIMIT,
};

/// What the loop was told, without times.
#[derive(Debug, PartialEq)]
enum Told {
    Change { subject: Subject, event: Option<Event>, found: BTreeMap<Arc<str>, Found> },
    Standing { listed: bool, failing: Option<String> },
}

/// A follower at work, and what it tells.
struct Following {
    told: Receiver<Input>,
    /// Since when it last said that it fails.
    since: Option<Instant>,
    task: AbortHandle,
}

impl Following {
    /// Follows a kind, which says at once that nothing was listed yet.
    async fn new<T: Followed>(server: &Server, delays: Delays) -> Self {
        Self::asking::<T>(server, delays, false).await
    }

    async fn asking<T: Followed>(server: &Server, delays: Delays, streaming: bool) -> Self {
        let (inbox, told) = channel();
        let asking = Asking {
            server: "https://cluster".into(),
            fields: None,
            part: None,
            received: Received::default(),
            streaming,
            delays,
        };
        let server = server.clone();
        let connect = move |taken| Ok(server.client(taken, delays));
        let follower = Follower::<T, _>::new(inbox, asking, connect).unwrap();
        let task = tokio::spawn(follower.run()).abort_handle();
        let mut following = Self { told, since: None, task };
        assert_eq!(following.next().await, standing(false, None));
        following
    }

    /// What is told next.
    async fn next(&mut self) -> Told {
        let next = async {
            loop {
                match self.told.try_recv() {
                    Ok(input) => return input,
                    Err(TryRecvError::Empty) => sleep(Duration::from_millis(1)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        match timeout(LIMIT, next).await.expect("something is told") {
            Input::Changed(change) => {
                Told::Change { subject: change.subject, event: change.event, found: change.found }
            }
            Input::Standing(standing) => {
                self.since = standing.failing.as_ref().map(|(since, _)| *since);
                let failing = standing.failing.map(|(_, reason)| reason);
                Told::Standing { listed: standing.listed, failing }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The reason why it fails, which is told next.
    async fn fails(&mut self) -> String {
        match self.next().await {
            Told::Standing { failing: Some(reason), .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    /// That nothing is told for a while.
    async fn is_quiet(&mut self, time: Duration) {
        sleep(time).await;
        if let Ok(input) = self.told.try_recv() {
            panic!("{input:?}");
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn standing(listed: bool, failing: Option<&str>) -> Told {
    Told::Standing { listed, failing: failing.map(str::to_owned) }
}

/// The change that the objects of a kind are these.
fn all<T: Followed>(objects: &[&Value]) -> Told {
    let mut pool = Pool::default();
    let listed = objects.iter().map(|object| T::listed(decoded::<T>(object), &mut pool));
    let event = T::relisted(listed.collect(), BTreeSet::new());
    change::<T>(None, Some(event))
}

/// The change that an object is now so.
fn applied<T: Followed>(object: &Value) -> Told {
    change::<T>(Some(name(object)), Some(T::applied(decoded::<T>(object))))
}

/// The change that an object is gone.
fn deleted<T: Followed>(object: &Value) -> Told {
    change::<T>(Some(name(object)), Some(T::deleted(T::key_of(&decoded::<T>(object)))))
}

fn change<T: Followed>(object: Option<String>, event: Option<Event>) -> Told {
    let subject = Subject { kind: T::FOLLOWED, object: object.map(Arc::from) };
    Told::Change { subject, event, found: BTreeMap::new() }
}

fn decoded<T: Followed>(object: &Value) -> T::Value {
    T::decode(&Node::from(object.clone())).expect("a valid object").object
}

fn name(object: &Value) -> String {
    let text = |key: &str| object["metadata"][key].as_str();
    match (text("namespace"), text("name").unwrap()) {
        (Some(namespace), name) => format!("{namespace}/{name}"),
        (None, name) => name.to_owned(),
    }
}

/// A pod of the namespace `shop`.
fn pod(name: &str, address: &str, version: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "resourceVersion": version.to_string(), "uid": name,
            "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {
            "nodeName": "node-a", "hostNetwork": null,
            "containers": [{"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.0.2.1",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// A NetworkPolicy of the namespace `shop` with this spec.
fn policy(name: &str, spec: &Value, version: u64) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string()},
        "spec": spec,
    })
}

/// What the decoder finds in an object.
fn findings(object: &Value) -> Vec<policy_compiler::diagnostic::Diagnostic> {
    decode::policy(&Node::from(object.clone()), None).unwrap().diagnostics
}
