//! HTTP: `/healthz`, `/readyz`, `/metrics` and `/debug/ruleset`.
//!
//! ```text
//!  loop ──> Board, Metrics <── serve ──Asked──> loop       (only /debug/ruleset asks)
//! ```
//!
//! A thread with a runtime of its own serves, so that nobody who asks takes the loop's time, and no
//! write makes a probe wait. Invariants:
//!
//! * Who may reach the port is not our choice: a connection serves one request and is closed after
//!   20 seconds at the latest, and only so many are open at a time (see `seats`).
//! * A port that cannot be had is tried again for ever; enforcement does not depend on it. Each new
//!   reason is logged once.

mod board;
mod routes;
mod seats;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub use self::board::{Board, Shown, TURN_LIMIT};
use self::routes::{Peer, Sources, routes};
use self::seats::{Seat, Seats};
use crate::metrics::Metrics;
use crate::source::Input;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// A client, to send its request.
    header: Duration,
    /// The loop, to answer a question.
    answer: Duration,
    /// A connection in all: a large ruleset to a slow reader is within it.
    connection: Duration,
    /// Until a port that could not be had is tried again.
    retry: Duration,
}

const LIMITS: Limits = Limits {
    header: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    connection: Duration::from_secs(20),
    retry: Duration::from_secs(2),
};
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// No request of ours needs more.
const REQUEST_BYTES: usize = 16 * 1024;

/// Serves until it is dropped.
#[derive(Debug)]
#[must_use = "nothing is served any more once it is dropped"]
pub struct Serving {
    address: watch::Receiver<Option<SocketAddr>>,
    _stop: oneshot::Sender<()>,
}

impl Serving {
    /// Where it listens, once it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        *self.address.borrow()
    }
}

/// Serves `board` and `metrics` on `listen`; `inbox` is where the loop is asked. Returns at once: the
/// port is taken when it can be had.
///
/// # Errors
/// Where there can be no further thread.
pub fn start(
    listen: SocketAddr,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    inbox: mpsc::Sender<Input>,
) -> io::Result<Serving> {
    start_with(listen, Sources { board, metrics, inbox, asking: Semaphore::new(1), limits: LIMITS })
}

fn start_with(listen: SocketAddr, sources: Sources) -> io::Result<Serving> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For rendering, of which one runs at a time.
        .max_blocking_threads(2)
        .build()?;
    let sources = Arc::new(sources);
    let (told, address) = watch::channel(None);
    let (stop, stopped) = oneshot::channel::<()>();
    thread::Builder::new().name("serve".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = serve(listen, &sources, &told) => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(Serving { address, _stop: stop })
}

async fn serve(
    listen: SocketAddr,
    sources: &Arc<Sources>,
    told: &watch::Sender<Option<SocketAddr>>,
) {
    let mut before = None;
    let listener = loop {
        match bind(listen) {
            Ok(listener) => break listener,
            Err(error) => {
                let reason = error.to_string();
                if before.as_ref() != Some(&reason) {
                    warn!(%listen, error = reason, "cannot listen; trying again, enforcing meanwhile");
                }
                before = Some(reason);
            }
        }
        sleep(sources.limits.retry).await;
    };
    let address = listener.local_addr().ok();
    info!(listen = %address.unwrap_or(listen), "serving /healthz, /readyz and /metrics");
    told.send_replace(address);
    accept_all(&listener, sources).await;
}

async fn accept_all(listener: &TcpListener, sources: &Arc<Sources>) {
    let seats = Seats::default();
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                let own = stream.local_addr().map_or(peer.ip(), |own| own.ip());
                if let Some(seat) = seats.take(peer.ip(), own) {
                    tokio::spawn(answer(stream, peer.ip(), Arc::clone(sources), seat));
                }
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot accept connections");
                }
                failing = true;
                // Such as too many open files, which passes.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers one request.
async fn answer(stream: TcpStream, peer: IpAddr, sources: Arc<Sources>, seat: Seat) {
    let Limits { header, connection: limit, .. } = sources.limits;
    let service = routes(sources).layer(Extension(Peer(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    // A client that breaks off, or is too slow, is its own affair.
    let _ = timeout(limit, connection).await;
    drop(seat);
}

/// Listens; on `[::]` for both families, or for IPv4 alone where the node has no IPv6.
fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = match listen.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(ip) => match TcpSocket::new_v6() {
            Ok(socket) => {
                // Some distributions have it otherwise by default.
                setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
                socket
            }
            Err(_) if ip.is_unspecified() => {
                return bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port()));
            }
            Err(error) => return Err(error),
        },
    };
    // A connection of the policyd before this one may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests;
