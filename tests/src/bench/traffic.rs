//! What is sent along the road, and how long that takes.
//!
//! Each kind sends in batches: making packets ready and emptying sockets is no part of the time. A batch
//! is short beside the scheduler's slices, so that on a busy machine most are not interrupted and their
//! median tells nothing of it. All sockets belong to the thread that measures.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::flow::Traffic as Carried;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::BenchError;
use super::layout::Layout;
use super::path::{Packets, Passage};
use super::road::{NODE, PATIENCE, Road};
use super::shape::Ends;
use crate::packet::Outline;
use crate::socket::udp;

/// Something to send.
pub trait Traffic {
    /// Sends a batch, and adds to `sent` what that was; how many nanoseconds one of its units took.
    ///
    /// # Errors
    /// Where a socket fails.
    fn batch(&mut self, sent: &mut Packets) -> Result<f64, BenchError>;

    /// Is told under which layout the next batches are sent.
    fn meet(&mut self, _layout: &Layout) {}

    /// Whether connections may be forgotten between blocks: none of this is carried by one that stands.
    fn is_forgetful(&self) -> bool {
        false
    }
}

#[allow(clippy::cast_precision_loss, reason = "of nanoseconds, far below 2^52")]
fn each(elapsed: Duration, units: usize) -> f64 {
    elapsed.as_nanos() as f64 / units as f64
}

/// Packets of which each begins a flow of its own, by a raw socket.
#[derive(Debug)]
pub struct NewFlows {
    socket: Socket,
    receivers: Vec<(u16, UdpSocket)>,
    turns: Vec<Ends>,
    /// What becomes of it where policies are in force.
    policed: Passage,
    /// And as it is now.
    passage: Passage,
    turn: usize,
}

impl NewFlows {
    const BATCH: usize = 8;

    /// UDP, from one end of `road` to the other; what becomes of it under a layout that polices.
    ///
    /// # Errors
    /// Where a socket is refused.
    pub fn open(road: &Road, turns: &[Ends], policed: Passage) -> Result<Self, BenchError> {
        let (socket, receivers) = (raw(road)?, receivers(road, turns)?);
        Ok(Self { socket, receivers, turns: turns.to_vec(), policed, passage: policed, turn: 0 })
    }

    fn ready(&mut self) -> Vec<(Vec<u8>, SockAddr)> {
        let mut ready = Vec::with_capacity(Self::BATCH);
        for _ in 0..Self::BATCH {
            let Some(ends) = self.turns.get(self.turn % self.turns.len()) else { break };
            // Another source port each time that the turns have gone round; the table of connections is
            // emptied before they repeat.
            let lap = self.turn / self.turns.len() % 50_000;
            let source_port = 10_000 + u16::try_from(lap).unwrap_or(0);
            ready.push(packet(*ends, source_port));
            self.turn += 1;
        }
        ready
    }

    /// Takes what has arrived, all that was sent or nothing of it.
    fn receive(&self, count: u64) -> Result<(), BenchError> {
        let due = if self.passage == Passage::Denied { 0 } else { count };
        let (begun, mut received, mut buffer) = (Instant::now(), 0, [0; 64]);
        loop {
            for (_, receiver) in &self.receivers {
                while receiver.recv(&mut buffer).is_ok() {
                    received += 1;
                }
            }
            if received >= due || begun.elapsed() > PATIENCE {
                break;
            }
            thread::yield_now();
        }
        if received == due {
            return Ok(());
        }
        Err(BenchError::Path {
            row: "flows".to_owned(),
            arm: "far end".to_owned(),
            what: "received".to_owned(),
            found: received,
            expected: due.to_string(),
        })
    }
}

impl Traffic for NewFlows {
    fn batch(&mut self, sent: &mut Packets) -> Result<f64, BenchError> {
        let ready = self.ready();
        let begun = Instant::now();
        for (packet, towards) in &ready {
            self.socket.send_to(packet, towards).map_err(BenchError::system("send a packet"))?;
        }
        let elapsed = begun.elapsed();
        let count = u64::try_from(ready.len()).unwrap_or(u64::MAX);
        sent.add(self.passage, count, count);
        self.receive(count)?;
        Ok(each(elapsed, ready.len()))
    }

    fn meet(&mut self, layout: &Layout) {
        self.passage = if layout.polices { self.policed } else { Passage::Allowed };
    }

    fn is_forgetful(&self) -> bool {
        true
    }
}

/// Datagrams that the node itself sends, in a flow that was answered.
#[derive(Debug)]
pub struct SentByNode {
    socket: UdpSocket,
    receiver: UdpSocket,
}

impl SentByNode {
    const BATCH: usize = 16;

    /// From the node to a pod.
    ///
    /// # Errors
    /// Where a socket is refused, or nothing is answered.
    pub fn open(road: &Road, ends: Ends) -> Result<Self, BenchError> {
        let failed = || BenchError::system("talk from the node to a pod");
        let pod = SocketAddr::from((ends.destination, ends.port));
        let receiver = road.to.enter(|| udp(pod))?.map_err(failed())?;
        let socket = road.node.enter(|| udp(SocketAddr::from((NODE, 0))))?.map_err(failed())?;
        socket.connect(pod).map_err(failed())?;
        let mut buffer = [0; 8];
        for socket in [&socket, &receiver] {
            socket.set_read_timeout(Some(PATIENCE)).map_err(failed())?;
        }
        // Two each way: the flow is then "assured", and a packet changes nothing about it.
        for _ in 0..2 {
            socket.send(b"ask").map_err(failed())?;
            let (_, asker) = receiver.recv_from(&mut buffer).map_err(failed())?;
            receiver.send_to(b"answer", asker).map_err(failed())?;
            socket.recv(&mut buffer).map_err(failed())?;
        }
        receiver.set_nonblocking(true).map_err(failed())?;
        Ok(Self { socket, receiver })
    }
}

impl Traffic for SentByNode {
    fn batch(&mut self, sent: &mut Packets) -> Result<f64, BenchError> {
        let begun = Instant::now();
        for _ in 0..Self::BATCH {
            self.socket.send(b"datum").map_err(BenchError::system("send a datagram"))?;
        }
        let elapsed = begun.elapsed();
        let count = u64::try_from(Self::BATCH).unwrap_or(u64::MAX);
        sent.add(Passage::Sent, count, count);
        let mut buffer = [0; 8];
        while self.receiver.recv(&mut buffer).is_ok() {}
        Ok(each(elapsed, Self::BATCH))
    }
}

/// A byte to and fro on an open TCP connection.
#[derive(Debug)]
pub struct RoundTrips {
    client: TcpStream,
    server: TcpStream,
}

impl RoundTrips {
    const BATCH: usize = 8;

    /// Opens the connection.
    ///
    /// # Errors
    /// Where that fails, because it is denied for example.
    pub fn open(road: &Road, ends: Ends) -> Result<Self, BenchError> {
        let listener = listen(road, ends.port)?;
        let (client, server) = connect(road, ends, &listener)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).map_err(BenchError::system("use a connection"))?;
            stream
                .set_read_timeout(Some(PATIENCE))
                .map_err(BenchError::system("use a connection"))?;
        }
        Ok(Self { client, server })
    }

    fn trip(&mut self) -> io::Result<()> {
        let mut byte = [7];
        self.client.write_all(&byte)?;
        self.server.read_exact(&mut byte)?;
        self.server.write_all(&byte)?;
        self.client.read_exact(&mut byte)
    }
}

impl Traffic for RoundTrips {
    fn batch(&mut self, sent: &mut Packets) -> Result<f64, BenchError> {
        let begun = Instant::now();
        for _ in 0..Self::BATCH {
            self.trip().map_err(BenchError::system("go to and fro on a connection"))?;
        }
        let elapsed = begun.elapsed();
        let count = u64::try_from(Self::BATCH).unwrap_or(u64::MAX);
        // A segment each way, and at most as many that only acknowledge.
        sent.add(Passage::Established, 2 * count, 4 * count);
        Ok(each(elapsed, Self::BATCH))
    }
}

/// Single packets from any address, that are heard or not.
#[derive(Debug)]
pub struct Callers {
    socket: Socket,
    receivers: Vec<(u16, UdpSocket)>,
    source_port: AtomicU16,
}

impl Callers {
    /// Packets from one end of `road`, to the destinations of `turns` at the other.
    ///
    /// # Errors
    /// Where a socket is refused.
    pub fn open(road: &Road, turns: &[Ends]) -> Result<Self, BenchError> {
        let (socket, receivers) = (raw(road)?, receivers(road, turns)?);
        Ok(Self { socket, receivers, source_port: AtomicU16::new(0) })
    }

    /// Sends from another port than before, and says whether anything came through by the time that the
    /// call returned.
    fn call(&self, ends: Ends) -> Result<bool, BenchError> {
        let port = 20_000 + self.source_port.fetch_add(1, Ordering::Relaxed) % 40_000;
        let (packet, towards) = packet(ends, port);
        self.socket.send_to(&packet, &towards).map_err(BenchError::system("send a packet"))?;
        let mut buffer = [0; 64];
        let mut receivers = self.receivers.iter().filter(|(port, _)| *port == ends.port);
        Ok(receivers.any(|(_, receiver)| receiver.recv(&mut buffer).is_ok()))
    }

    /// Sends until it is heard.
    ///
    /// # Errors
    /// Where that takes too long: it is denied.
    pub fn call_until_heard(&self, ends: Ends) -> Result<(), BenchError> {
        let begun = Instant::now();
        while !self.call(ends)? {
            if begun.elapsed() > PATIENCE {
                return Err(Self::wrong("an allowed packet", 0, "1"));
            }
        }
        Ok(())
    }

    /// Sends once, and sees that it is not heard.
    ///
    /// # Errors
    /// Where it is.
    pub fn call_unheard(&self, ends: Ends) -> Result<(), BenchError> {
        if self.call(ends)? { Err(Self::wrong("a denied packet", 1, "0")) } else { Ok(()) }
    }

    fn wrong(what: &str, found: u64, expected: &str) -> BenchError {
        BenchError::Path {
            row: "single packets".to_owned(),
            arm: "far end".to_owned(),
            what: what.to_owned(),
            found,
            expected: expected.to_owned(),
        }
    }
}

/// A socket at the near end whose packets carry their own IP header.
fn raw(road: &Road) -> Result<Socket, BenchError> {
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
    road.from.enter(raw)?.map_err(BenchError::system("open a raw socket"))
}

/// Sockets at the far end for all ports of `turns`.
fn receivers(road: &Road, turns: &[Ends]) -> Result<Vec<(u16, UdpSocket)>, BenchError> {
    let mut ports: Vec<u16> = turns.iter().map(|ends| ends.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let listen = |port: u16| {
        let bound = road.to.enter(|| udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
        let bound = bound.map_err(BenchError::system("bind a UDP socket"))?;
        bound.set_nonblocking(true).map_err(BenchError::system("use a UDP socket"))?;
        Ok((port, bound))
    };
    ports.into_iter().map(listen).collect()
}

/// A datagram with its headers, and where to send it.
fn packet(ends: Ends, source_port: u16) -> (Vec<u8>, SockAddr) {
    let (source, destination) = (IpAddr::V4(ends.source), IpAddr::V4(ends.destination));
    let outline = Outline::opening(source, destination, Carried::udp(ends.port), source_port);
    (outline.bytes(1), SockAddr::from(SocketAddr::from((ends.destination, 0))))
}

/// TCP connections that are opened, accepted and broken off. The thread that measures must be in the
/// namespace at the near end, where their sockets are made.
#[derive(Debug)]
pub struct Connections {
    listeners: Vec<(u16, TcpListener)>,
    turns: Vec<Ends>,
    turn: usize,
}

impl Connections {
    const BATCH: usize = 4;

    /// From one end of `road` to the other.
    ///
    /// # Errors
    /// Where a socket is refused.
    pub fn open(road: &Road, turns: &[Ends]) -> Result<Self, BenchError> {
        let mut ports: Vec<u16> = turns.iter().map(|ends| ends.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let listeners = ports
            .into_iter()
            .map(|port| Ok((port, listen(road, port)?)))
            .collect::<Result<_, BenchError>>()?;
        Ok(Self { listeners, turns: turns.to_vec(), turn: 0 })
    }

    /// Makes one, breaks it off, and returns the server's end of it.
    fn one(&mut self) -> io::Result<TcpStream> {
        let ends = self.turns.get(self.turn % self.turns.len()).ok_or(ErrorKind::NotFound)?;
        let lap = self.turn / self.turns.len() % 50_000;
        self.turn += 1;
        let listener = self.listeners.iter().find(|(port, _)| *port == ends.port);
        let (_, listener) = listener.ok_or(ErrorKind::NotFound)?;
        let client = dial(*ends, 10_000 + u16::try_from(lap).unwrap_or(0))?;
        let (server, _) = listener.accept()?;
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        drop(client);
        Ok(server)
    }
}

/// Waits until a connection is known to be broken off: who closes it before sends one packet more.
fn await_reset(mut server: TcpStream) -> io::Result<()> {
    server.set_read_timeout(Some(PATIENCE))?;
    match server.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::InvalidData.into()),
    }
}

impl Traffic for Connections {
    fn batch(&mut self, sent: &mut Packets) -> Result<f64, BenchError> {
        let mut servers = Vec::with_capacity(Self::BATCH);
        let begun = Instant::now();
        for _ in 0..Self::BATCH {
            servers.push(self.one().map_err(BenchError::system("make a connection"))?);
        }
        let elapsed = begun.elapsed();
        for server in servers {
            await_reset(server).map_err(BenchError::system("see a connection broken off"))?;
        }
        let count = u64::try_from(Self::BATCH).unwrap_or(u64::MAX);
        sent.add(Passage::Allowed, count, count);
        // The answer, its acknowledgement, the reset.
        sent.add(Passage::Established, 3 * count, 3 * count);
        Ok(each(elapsed, Self::BATCH))
    }

    fn is_forgetful(&self) -> bool {
        true
    }
}

fn listen(road: &Road, port: u16) -> Result<TcpListener, BenchError> {
    let bound = road.to.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    bound.map_err(BenchError::system("listen"))
}

/// A connection from the near end, made by a thread that is there.
fn dial(ends: Ends, source_port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((ends.source, source_port)).into())?;
    socket.connect(&SocketAddr::from((ends.destination, ends.port)).into())?;
    Ok(socket)
}

fn connect(
    road: &Road,
    ends: Ends,
    listener: &TcpListener,
) -> Result<(TcpStream, TcpStream), BenchError> {
    let failed = || BenchError::system("make a connection");
    let client = road.from.enter(|| dial(ends, 9_999))?.map_err(failed())?;
    let (server, _) = listener.accept().map_err(failed())?;
    Ok((client.into(), server))
}
