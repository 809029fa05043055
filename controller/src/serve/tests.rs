use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::time::Instant;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{Chain, ChainName, Rule, Ruleset, Target};

use super::*;
use crate::health::Readiness;

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Longer than anything here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Short enough to wait for, and long enough for a busy machine.
const SHORT: Limits = Limits {
    header: Duration::from_secs(4),
    answer: Duration::from_secs(1),
    connection: Duration::from_mins(1),
    retry: Duration::from_millis(50),
};

/// A server, and what a loop would have of it.
struct Served {
    serving: Serving,
    inbox: mpsc::Receiver<Input>,
}

fn sources(board: &Arc<Board>) -> (Sources, mpsc::Receiver<Input>) {
    let (sender, inbox) = mpsc::channel();
    let metrics = Metrics::new();
    let board = Arc::clone(board);
    (Sources { board, metrics, inbox: sender, asking: Semaphore::new(1), limits: SHORT }, inbox)
}

fn serve_at(listen: SocketAddr, board: &Arc<Board>) -> Served {
    let (sources, inbox) = sources(board);
    Served { serving: start_with(listen, sources).unwrap(), inbox }
}

impl Served {
    fn new(board: &Arc<Board>) -> Self {
        serve_at(ANY, board)
    }

    fn address(&self) -> SocketAddr {
        let begun = Instant::now();
        loop {
            if let Some(address) = self.serving.address() {
                return address;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not listen");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn connect(&self) -> Client {
        let client = Client::connect(self.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    fn request(&self, method: &str, path: &str) -> (u16, String, String) {
        exchange(self.connect(), method, path).expect("an answer")
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.request("GET", path);
        (status, body)
    }
}

/// Status, headers, body; nothing where the connection is closed instead.
fn exchange(mut client: Client, method: &str, path: &str) -> Option<(u16, String, String)> {
    write!(client, "{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_ascii_lowercase(), body.to_owned()))
}

fn lines<const N: usize>(lines: [&str; N]) -> BTreeSet<String> {
    lines.map(str::to_owned).into()
}

/// It says for how long the loop has not turned, which was 157 seconds before it was asked.
fn expect_hung((status, body): (u16, String)) {
    assert_eq!(status, 503, "{body}");
    let seconds = body.strip_prefix("the loop has not turned for ");
    let seconds = seconds.and_then(|rest| rest.strip_suffix(" s\n")).expect(&body);
    assert!((157..200).contains(&seconds.parse::<u32>().unwrap()), "{body}");
}

#[test]
fn liveness_is_whether_the_loop_turns() {
    let hung = Board::still(TURN_LIMIT + Duration::from_secs(7));
    let served = Served::new(&hung);
    expect_hung(served.get("/healthz"));
    hung.beat();
    assert_eq!(served.get("/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn readiness_is_told_with_a_reason_a_line_and_notes() {
    let board = Board::new();
    let served = Served::new(&board);
    assert_eq!(served.get("/readyz"), (503, "nothing has been written yet\n".to_owned()));
    let reasons =
        Readiness::NotReady(lines(["IPv4: cannot read table filter", "forwarding is off"]));
    board.show(&reasons, lines(["the hook is not first"]));
    let expected =
        "IPv4: cannot read table filter\nforwarding is off\nnote: the hook is not first\n";
    assert_eq!(served.get("/readyz"), (503, expected.to_owned()));
    board.show(&Readiness::Ready, lines(["pods: not heard since 9 s"]));
    assert_eq!(served.get("/readyz"), (200, "ready\nnote: pods: not heard since 9 s\n".to_owned()));
}

#[test]
fn a_loop_that_hangs_is_not_ready_whatever_it_said_last() {
    let board = Board::still(TURN_LIMIT + Duration::from_secs(7));
    board.show(&Readiness::Ready, BTreeSet::new());
    let served = Served::new(&board);
    expect_hung(served.get("/readyz"));
}

#[test]
fn metrics_are_served_as_open_metrics() {
    let served = Served::new(&Board::new());
    let (status, head, body) = served.request("GET", "/metrics");
    assert_eq!(status, 200);
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(kind), "{head}");
    assert!(body.contains("\npolicyd_ready 0\n") && body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let served = Served::new(&Board::new());
    for path in ["/", "/healthz/", "/debug", "/metrics/x", "/%2e%2e/etc/passwd"] {
        assert_eq!(served.get(path).0, 404, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/debug/ruleset"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(served.request(method, path).0, 405, "{method} {path}");
        }
    }
    let (status, _, body) = served.request("HEAD", "/healthz");
    assert_eq!((status, &*body), (200, ""));
}

#[test]
fn the_ruleset_is_asked_of_the_loop_which_may_be_busy_or_gone() {
    let served = Served::new(&Board::new());
    assert_eq!(served.get("/debug/ruleset"), (503, "the loop is busy\n".to_owned()));
    assert!(matches!(served.inbox.recv_timeout(PATIENCE), Ok(Input::Asked(_))));
    let Served { serving, inbox } = served;
    drop(inbox);
    let ended = Served { serving, inbox: mpsc::channel().1 };
    assert_eq!(ended.get("/debug/ruleset"), (503, "the loop has ended\n".to_owned()));
}

#[test]
fn only_loopback_may_ask_for_the_ruleset() {
    let (sources, inbox) = sources(&Board::new());
    let sources = Arc::new(sources);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let table = [
        ("10.0.0.9", 403),
        ("fd00::9", 403),
        ("::ffff:10.0.0.9", 403),
        ("127.3.2.1", 503),
        ("::1", 503),
        ("::ffff:127.0.0.1", 503),
    ];
    for (peer, expected) in table {
        let status = runtime.block_on(async {
            let listener = bind(ANY).unwrap();
            let address = listener.local_addr().unwrap();
            let client = tokio::task::spawn_blocking(move || {
                exchange(Client::connect(address).unwrap(), "GET", "/debug/ruleset").unwrap().0
            });
            let (stream, _) = listener.accept().await.unwrap();
            let peer: IpAddr = peer.parse().unwrap();
            let seat = Seats::default().take(peer, peer).unwrap();
            answer(stream, peer, Arc::clone(&sources), seat).await;
            client.await.unwrap()
        });
        assert_eq!(status, expected, "{peer}");
    }
    assert_eq!(inbox.try_iter().count(), 3, "nobody else reaches the loop");
}

#[test]
fn the_ruleset_reads_as_the_programs_take_it() {
    let mut ruleset = Ruleset::default();
    let chain =
        Chain { rules: vec![Rule { matches: Vec::new(), comment: None, target: Target::Return }] };
    let name = ChainName::new("NPC-FORWARD").unwrap();
    ruleset.family_mut(Family::V4).chains.insert(name, chain.into());
    let refused = ["IPv4: the kernel refuses `-p sctp`".to_owned()];
    let expected = "\
# IPv4: the kernel refuses `-p sctp`
# IPv4, sets
# IPv4, rules
*filter
:NPC-FORWARD - [0:0]
-A NPC-FORWARD -j RETURN
COMMIT
# IPv6, sets
# IPv6, rules
*filter
COMMIT
";
    assert_eq!(routes::text_of(&ruleset, &refused), expected);
}

#[test]
fn clients_that_send_nothing_or_too_much_are_cut_off_and_hold_up_nobody() {
    let served = Served::new(&Board::new());
    let begun = Instant::now();
    let mut idle: Vec<Client> = (0..10).map(|_| served.connect()).collect();
    for client in &mut idle {
        client.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").unwrap();
    }
    assert_eq!(served.get("/healthz").0, 200, "beside those that dawdle");
    for client in &mut idle {
        let mut answer = Vec::new();
        // The end of the stream, or a reset.
        let _ = client.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    assert!(begun.elapsed() < PATIENCE, "nobody waits for ever");

    let mut loud = served.connect();
    let _ =
        loud.write_all(format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(99_999)).as_bytes());
    let mut answer = Vec::new();
    let _ = loud.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    assert_eq!(served.get("/healthz").0, 200);
}

#[test]
fn no_connection_outlasts_its_limit() {
    let (mut sources, inbox) = sources(&Board::new());
    sources.limits.answer = Duration::from_mins(1);
    sources.limits.connection = Duration::from_millis(200);
    let served = Served { serving: start_with(ANY, sources).unwrap(), inbox };
    let begun = Instant::now();
    assert_eq!(exchange(served.connect(), "GET", "/debug/ruleset"), None, "the loop says nothing");
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn more_connections_than_seats_are_closed_at_once_and_the_seats_come_back() {
    let (mut sources, _inbox) = sources(&Board::new());
    // So that whoever is cut off is so for want of a seat.
    sources.limits.header = Duration::from_secs(30);
    let inbox = mpsc::channel().1;
    let served = Served { serving: start_with(ANY, sources).unwrap(), inbox };
    let crowd: Vec<Client> = (0..40).map(|_| served.connect()).collect();
    let mut last = crowd.last().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    let closed = match last.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    };
    assert!(closed, "there was no seat for it");
    drop(crowd);
    let begun = Instant::now();
    while exchange(served.connect(), "GET", "/healthz").is_none() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_connection_serves_one_request() {
    let served = Served::new(&Board::new());
    let mut client = served.connect();
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer);
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

#[test]
fn a_busy_port_is_taken_once_it_is_free() {
    let other = std::net::TcpListener::bind(ANY).unwrap();
    let served = serve_at(other.local_addr().unwrap(), &Board::new());
    thread::sleep(Duration::from_millis(120));
    assert_eq!(served.serving.address(), None, "it belongs to somebody else");
    drop(other);
    assert_eq!(served.get("/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn both_families_are_served_on_the_unspecified_address() {
    let served = serve_at("[::]:0".parse().unwrap(), &Board::new());
    let port = served.address().port();
    for host in ["127.0.0.1", "::1"] {
        let host: IpAddr = host.parse().unwrap();
        let Ok(client) = Client::connect(SocketAddr::new(host, port)) else {
            assert!(host.is_ipv6(), "a machine without IPv6 serves IPv4 all the same");
            continue;
        };
        assert_eq!(exchange(client, "GET", "/healthz").unwrap().0, 200, "{host}");
    }
}

#[test]
fn nothing_is_served_once_it_is_dropped() {
    let served = Served::new(&Board::new());
    let address = served.address();
    drop(served);
    let begun = Instant::now();
    while Client::connect(address).is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
}
