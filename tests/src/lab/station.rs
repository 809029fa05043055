//! A station: a namespace with sockets in it that send any packet and see every packet that comes in.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::packet::{Sighting, sighting};
use crate::rtnetlink::Addresses;

/// Which station of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StationId(pub(super) usize);

/// A namespace that packets are sent from and seen in.
#[derive(Debug)]
pub struct Station {
    /// For people.
    pub name: String,
    /// The namespace.
    pub namespace: Namespace,
    /// Its further addresses.
    pub addresses: Addresses,
    interface: u32,
    raw4: Socket,
    raw6: Socket,
    taps: [Socket; 2],
}

const IPPROTO_RAW: i32 = 255;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

impl Station {
    /// Opens the sockets in `namespace`. `interface` is the device of link-local destinations.
    ///
    /// # Errors
    /// Where a socket is refused.
    pub(super) fn open(
        name: &str,
        namespace: Namespace,
        interface: &str,
    ) -> Result<Self, LabError> {
        let sockets = namespace.enter(|| {
            Ok((
                if_nametoindex(interface).unwrap_or(0),
                raw(Domain::IPV4)?,
                raw(Domain::IPV6)?,
                [tap(ETH_P_IP)?, tap(ETH_P_IPV6)?],
            ))
        })?;
        let (interface, raw4, raw6, taps) = sockets.map_err(|source| LabError::Socket {
            operation: format!("open raw sockets in {name}"),
            source,
        })?;
        let addresses = Addresses::of(&namespace)?;
        Ok(Self { name: name.to_owned(), namespace, addresses, interface, raw4, raw6, taps })
    }

    /// Sends a packet with its header as it is, by way of where `towards` would be sent.
    ///
    /// # Errors
    /// Where the kernel refuses; `PermissionDenied` is a rule in this namespace's OUTPUT.
    pub fn send(&self, packet: &[u8], towards: IpAddr) -> io::Result<()> {
        let (socket, to) = match towards {
            IpAddr::V4(_) => (&self.raw4, SocketAddr::new(towards, 0)),
            IpAddr::V6(a) => {
                let local = a.is_multicast() || a.is_unicast_link_local();
                let scope = if local { self.interface } else { 0 };
                (&self.raw6, SocketAddrV6::new(a, 0, 0, scope).into())
            }
        };
        socket.send_to(packet, &to.into()).map(drop)
    }

    /// The sockets that see what comes in, IPv4 first.
    #[must_use]
    pub fn taps(&self) -> &[Socket; 2] {
        &self.taps
    }

    /// Reads everything that has come in, and hands on what is the lab's.
    ///
    /// # Errors
    /// Where a socket fails.
    pub fn drain(&self, mut seen: impl FnMut(Sighting)) -> Result<(), LabError> {
        let mut buffer = [0_u8; 2048];
        for mut tap in &self.taps {
            loop {
                match tap.read(&mut buffer) {
                    Ok(length) => {
                        if let Some(sighting) = buffer.get(..length).and_then(sighting) {
                            seen(sighting);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A device went down or up; packets are none the worse for it.
                    Err(error) if error.raw_os_error() == Some(nix::libc::ENETDOWN) => {}
                    Err(source) => {
                        let operation = format!("read packets in {}", self.name);
                        return Err(LabError::Socket { operation, source });
                    }
                }
            }
        }
        Ok(())
    }
}

/// A socket whose packets carry their own IP header.
fn raw(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    if domain == Domain::IPV4 {
        socket.set_broadcast(true)?;
    }
    Ok(socket)
}

/// A socket that sees the packets of one protocol that come in. Those that go out are shown only to
/// sockets for all protocols.
fn tap(protocol: u16) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::PACKET,
        Type::DGRAM,
        Some(Protocol::from(i32::from(protocol.to_be()))),
    )?;
    socket.set_nonblocking(true)?;
    // The kernel caps it; the default would do, since the reader never lags by more than a burst.
    socket.set_recv_buffer_size(4 << 20)?;
    let mut rest = [MaybeUninit::uninit(); 1];
    while socket.recv(&mut rest).is_ok() {}
    Ok(socket)
}
