//! A server that gives each request the next of its answers, and keeps those that come after open.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tower::{BoxError, Layer as _, service_fn};

use crate::metrics::Received;
use crate::source::api::delays::Delays;
use crate::source::api::patience::{Patience, Taken};

/// An answer to one request.
pub(super) enum Answer {
    /// This, whole.
    Whole(u16, Value),
    /// What is sent, line by line.
    Lines(UnboundedReceiver<Result<Bytes, BoxError>>),
    /// Nobody listens.
    Refused,
    /// None, ever.
    None,
}

/// A watch, from the server's side.
pub(super) struct Watch(UnboundedSender<Result<Bytes, BoxError>>);

impl Watch {
    /// A watch and its answer.
    pub(super) fn new() -> (Self, Answer) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), Answer::Lines(receiver))
    }

    /// Sends an event.
    pub(super) fn send(&self, kind: &str, object: &Value) {
        self.send_text(&json!({"type": kind, "object": object}).to_string());
    }

    /// Sends a bookmark, with these annotations.
    pub(super) fn bookmark(&self, version: u64, annotations: &Value) {
        let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
        let object = json!({"kind": "Object", "apiVersion": "v1", "metadata": metadata});
        self.send("BOOKMARK", &object);
    }

    /// Sends a line as it is.
    pub(super) fn send_text(&self, line: &str) {
        let _ = self.0.send(Ok(Bytes::from(format!("{line}\n"))));
    }

    /// Breaks the connection.
    pub(super) fn reset(self) {
        let _ = self.0.send(Err(io::Error::from(io::ErrorKind::ConnectionReset).into()));
    }
}

/// A page of a list; the last one says nothing of a next.
pub(super) fn page(objects: &[&Value], version: u64, next: Option<&str>) -> Answer {
    // The objects of a list do not say of which kind they are.
    let items: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut object = (*object).clone();
            let fields = object.as_object_mut().unwrap();
            fields.remove("kind");
            fields.remove("apiVersion");
            Value::Object(std::mem::take(fields))
        })
        .collect();
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    Answer::Whole(
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
    )
}

/// A list in one page.
pub(super) fn list(objects: &[&Value], version: u64) -> Answer {
    page(objects, version, None)
}

/// A refusal.
pub(super) fn status(code: u16, message: &str) -> Answer {
    Answer::Whole(code, status_of(code, message))
}

/// A refusal as an object.
pub(super) fn status_of(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message})
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    asked: Vec<String>,
}

/// The server.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

impl Server {
    /// One that gives these answers.
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let server = Self::default();
        server.0.lock().unwrap().answers.extend(answers);
        server
    }

    /// What it was asked so far: `list` or `watch`, and from where on.
    pub(super) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// A client of it.
    pub(super) fn client(&self, taken: watch::Sender<Taken>, delays: Delays) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let answer = server.take(&request);
            async move {
                match answer {
                    Answer::Whole(code, value) => {
                        let (sender, lines) = unbounded_channel();
                        let _ = sender.send(Ok(Bytes::from(value.to_string())));
                        Ok(Response::builder().status(code).body(Lines(lines)).unwrap())
                    }
                    Answer::Lines(lines) => Ok(Response::new(Lines(lines))),
                    Answer::Refused => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                    Answer::None => std::future::pending().await,
                }
            }
        });
        Client::new(
            Patience { taken, delays, received: Received::default() }.layer(service),
            "default",
        )
    }

    fn take(&self, request: &Request<Body>) -> Answer {
        let mut state = self.0.lock().unwrap();
        let query = request.uri().query().unwrap_or_default();
        let value =
            |key: &str| query.split('&').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        let asked = if value("watch").is_none() {
            value("continue").map_or_else(|| "list".to_owned(), |from| format!("list {from}"))
        } else if value("sendInitialEvents").is_some() {
            "stream".to_owned()
        } else {
            format!("watch {}", value("resourceVersion").unwrap_or_default())
        };
        state.asked.push(asked);
        state.answers.pop_front().unwrap_or(Answer::None)
    }
}

struct Lines(UnboundedReceiver<Result<Bytes, BoxError>>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| line.map(Frame::data)))
    }
}
