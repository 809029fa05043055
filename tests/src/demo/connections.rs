//! Connections as programs make them: TCP handshakes with listeners, datagrams to bound sockets.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy_compiler::cidr::Family;
use policy_compiler::flow::End;
use policy_compiler::name::ObjectKey;
use policy_compiler::port::Protocol;
use socket2::{Domain, Socket, Type};

use super::matrix::Cell;
use crate::error::LabError;
use crate::lab::{Lab, StationId};

/// Who connects.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) end: End,
    pub(super) station: StationId,
    pub(super) addresses: Vec<IpAddr>,
}

/// Who is connected to.
pub(super) struct Service {
    pub(super) label: String,
    pub(super) pod: ObjectKey,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) station: StationId,
    pub(super) addresses: Vec<IpAddr>,
}

/// A socket that a pod serves with; it lies in the pod's namespace.
pub(super) enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// How long a handshake may take; a dropped SYN would be sent again after a second.
const PATIENCE: Duration = Duration::from_millis(900);

/// Opens every service.
pub(super) fn listen(lab: &Lab, services: &[Service]) -> Result<Vec<Listener>, LabError> {
    let open = |service: &Service| -> Result<Listener, LabError> {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), service.port);
        let made = lab.station(service.station).namespace.enter(|| {
            Ok(if service.protocol == Protocol::Udp {
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                Listener::Udp(socket)
            } else {
                let listener = TcpListener::bind(any)?;
                listener.set_nonblocking(true)?;
                Listener::Tcp(listener)
            })
        })?;
        made.map_err(|source| failed(format!("serve {}", service.label), source))
    };
    services.iter().map(open).collect()
}

/// One try.
struct Attempt {
    client: usize,
    service: usize,
    family: Family,
    socket: Socket,
    done: Option<bool>,
}

/// Connects every client with every service over every family that both have, all at once.
pub(super) fn connect_all(
    lab: &Lab,
    clients: &[Client],
    services: &[Service],
    listeners: &[Listener],
) -> Result<Vec<Vec<Cell>>, LabError> {
    let mut attempts = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let namespace = &lab.station(client.station).namespace;
        let made = namespace.enter(|| begin_all(index, client, services))?;
        attempts.extend(
            made.map_err(|source| failed(format!("connect from {}", client.name), source))?,
        );
    }
    wait(&mut attempts)?;
    let datagrams = receive(listeners);
    for attempt in &mut attempts {
        if services.get(attempt.service).is_some_and(|s| s.protocol == Protocol::Udp) {
            let token = token(attempt.client, attempt.service, attempt.family);
            attempt.done = Some(datagrams.contains(&token));
        }
    }
    let cell = |client: usize, service: usize| {
        let open = attempts.iter().filter(|a| a.client == client && a.service == service);
        Cell::of(open.map(|attempt| attempt.done == Some(true)))
    };
    let row = |client: usize| (0..services.len()).map(|service| cell(client, service)).collect();
    Ok((0..clients.len()).map(row).collect())
}

fn begin_all(index: usize, client: &Client, services: &[Service]) -> io::Result<Vec<Attempt>> {
    let mut attempts = Vec::new();
    for (number, service) in services.iter().enumerate() {
        if client.end == End::Pod(service.pod.clone()) {
            continue;
        }
        for to in &service.addresses {
            let family = Family::of(*to);
            let from = client.addresses.iter().find(|a| Family::of(**a) == family);
            if let Some(from) = from {
                let token = token(index, number, family);
                let socket = begin(*from, *to, service, &token)?;
                attempts.push(Attempt {
                    client: index,
                    service: number,
                    family,
                    socket,
                    done: None,
                });
            }
        }
    }
    Ok(attempts)
}

/// What a datagram says, so that its receiver knows it.
fn token(client: usize, service: usize, family: Family) -> String {
    format!("{client} to {service} over {family}")
}

fn begin(from: IpAddr, to: IpAddr, service: &Service, token: &str) -> io::Result<Socket> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let datagram = service.protocol == Protocol::Udp;
    let socket = Socket::new(domain, if datagram { Type::DGRAM } else { Type::STREAM }, None)?;
    if to.is_ipv6() {
        // A pod's address is a route of its namespace, not an address of a device.
        socket.set_freebind_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&SocketAddr::new(to, service.port).into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    if datagram {
        // What a rule of the sender's own node refuses is a denial.
        let _ = socket.send(token.as_bytes());
    }
    Ok(socket)
}

/// Waits until every handshake is made or out of time.
fn wait(attempts: &mut [Attempt]) -> Result<(), LabError> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let mut open: Vec<&mut Attempt> =
            attempts.iter_mut().filter(|attempt| attempt.done.is_none()).collect();
        if open.is_empty() {
            break;
        }
        let ready: Vec<bool> = {
            let mut watched: Vec<PollFd<'_>> = open
                .iter()
                .map(|attempt| PollFd::new(attempt.socket.as_fd(), PollFlags::POLLOUT))
                .collect();
            let time = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut watched, time) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(failed("wait".to_owned(), errno.into())),
            }
            watched.iter().map(|fd| fd.any() == Some(true)).collect()
        };
        for (attempt, ready) in open.iter_mut().zip(ready) {
            if ready {
                attempt.done = Some(matches!(attempt.socket.take_error(), Ok(None)));
            }
        }
    }
    Ok(())
}

/// Takes what has come to the services: datagrams by their text; connections are just ended.
fn receive(listeners: &[Listener]) -> BTreeSet<String> {
    let mut datagrams = BTreeSet::new();
    for listener in listeners {
        match listener {
            Listener::Tcp(listener) => while listener.accept().is_ok() {},
            Listener::Udp(socket) => {
                let mut buffer = [0_u8; 128];
                while let Ok(length) = socket.recv(&mut buffer) {
                    let text = buffer.get(..length).unwrap_or_default();
                    datagrams.insert(String::from_utf8_lossy(text).into_owned());
                }
            }
        }
    }
    datagrams
}

fn failed(operation: String, source: io::Error) -> LabError {
    LabError::Socket { operation, source }
}
