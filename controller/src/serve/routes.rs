//! What is answered to which request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use policy_compiler::cidr::Family;
use policy_compiler::render;
use policy_compiler::ruleset::Ruleset;
use tokio::sync::{Semaphore, oneshot};

use super::Limits;
use super::board::{Board, Shown, TURN_LIMIT};
use crate::health::Readiness;
use crate::metrics::Metrics;
use crate::source::Input;

/// What `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the answers are made of.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) board: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) inbox: mpsc::Sender<Input>,
    /// One ruleset at a time: it may be large, and the loop has better things to do.
    pub(super) asking: Semaphore,
    pub(super) limits: Limits,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The routes; each request carries its [`Peer`].
pub(super) fn routes(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/ruleset", get(ruleset))
        .fallback(nowhere)
        .with_state(sources)
}

async fn nowhere() -> Response {
    let there = "there are /healthz, /readyz, /metrics and, on the node itself, /debug/ruleset\n";
    (StatusCode::NOT_FOUND, there).into_response()
}

/// Why the loop counts as hanging.
fn hanging(board: &Board) -> Option<String> {
    let still = board.still_for();
    (still > TURN_LIMIT).then(|| format!("the loop has not turned for {} s", still.as_secs()))
}

async fn healthz(State(sources): State<Arc<Sources>>) -> Response {
    match hanging(&sources.board) {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

/// `ready`, or the reasons why not; then the notes.
async fn readyz(State(sources): State<Arc<Sources>>) -> Response {
    let Shown { readiness, notes } = sources.board.shown();
    let mut lines = match readiness {
        Readiness::Starting => vec!["nothing has been written yet".to_owned()],
        Readiness::Ready => Vec::new(),
        Readiness::NotReady(reasons) => reasons.into_iter().collect(),
    };
    lines.extend(hanging(&sources.board));
    let status = if lines.is_empty() {
        lines.push("ready".to_owned());
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    lines.extend(notes.into_iter().map(|note| format!("note: {note}")));
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    (status, text).into_response()
}

async fn metrics(State(sources): State<Arc<Sources>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], sources.metrics.encode()).into_response()
}

/// Rules say who may talk to whom, which is nobody's business off this node.
async fn ruleset(
    State(sources): State<Arc<Sources>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Response {
    if !peer.to_canonical().is_loopback() {
        let text = "only over a loopback address of the node\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match tokio::time::timeout(sources.limits.answer, in_force(&sources)).await {
        Ok(Some(text)) => text.into_response(),
        Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, "the loop has ended\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the loop is busy\n").into_response(),
    }
}

/// The rules as text, from the loop; nothing where it has ended.
async fn in_force(sources: &Sources) -> Option<String> {
    let _turn = sources.asking.acquire().await.ok()?;
    let (answer, answered) = oneshot::channel();
    let question = Input::Asked(Box::new(move |view| {
        // Who has given up meanwhile is not worth a copy.
        if !answer.is_closed() {
            let _ = answer.send((view.engine.ruleset().clone(), view.dataplane.refused()));
        }
    }));
    sources.inbox.send(question).ok()?;
    let (ruleset, refused) = answered.await.ok()?;
    // Rendering tens of thousands of rules takes long enough for a probe to wait in vain.
    tokio::task::spawn_blocking(move || text_of(&ruleset, &refused)).await.ok()
}

/// Both families as `iptables-restore` and `ipset restore` would take them.
pub(super) fn text_of(ruleset: &Ruleset, refused: &[String]) -> String {
    let mut parts: Vec<String> = refused.iter().map(|line| format!("# {line}\n")).collect();
    for family in Family::ALL {
        parts.push(format!("# {family}, sets\n"));
        parts.push(render::ipset_restore(&ruleset.family(family).sets));
        parts.push(format!("# {family}, rules\n"));
        parts.push(render::ruleset(ruleset, family));
    }
    parts.concat()
}
