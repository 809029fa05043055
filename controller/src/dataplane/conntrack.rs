//! The connections that the kernel has let through and goes on to let through: read, and forgotten
//! one by one.
//!
//! Over netlink, in the network namespace of the thread that opened the [`Table`]. A connection is
//! forgotten by its original tuple and its number, so that one that has come after it with the same
//! tuple is never hit. Reading holds nothing up: packets go on meanwhile, and what changes under the
//! reader may be missed or seen twice; who must not miss anything reads again.
//!
//! An answer that fails, breaks off, or does not come in time fails the request as a whole. What it
//! had brought until then is still true, and what else it would have brought is not known.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, DoneMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, Nla,
};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as IpProtocol, Status,
    Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use policy_compiler::cidr::Family;
use policy_compiler::flow::{ICMP, ICMPV6, Traffic};
use policy_compiler::port::Protocol;

use super::netlink::{bound, messages};

/// The attributes that the kernel knows and the library does not name.
mod attribute {
    pub(super) const ID: u16 = 12;
    pub(super) const TUPLE_MASTER: u16 = 14;
    pub(super) const ZONE: u16 = 18;
    /// Within a tuple's protocol.
    pub(super) const ICMP_TYPE: u16 = 5;
    pub(super) const ICMPV6_TYPE: u16 = 8;
}

/// Why the connections cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// The socket.
    #[error("cannot ask the kernel for its connections")]
    Socket(#[from] io::Error),
    /// What came back was no answer.
    #[error("cannot read the kernel's answer about connections: {0}")]
    Answer(String),
    /// It refuses.
    #[error("the kernel refuses to {operation}")]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who opened it.
    pub from: IpAddr,
    /// To whom its first packet was sent.
    pub sent_to: IpAddr,
    /// Who answers: the same, unless the destination was translated.
    pub to: IpAddr,
    /// What it carries, with the port of who answers.
    pub traffic: Traffic,
    /// Whether it belongs to another connection that brought it about.
    pub related: bool,
    /// What names it to the kernel.
    name: Vec<ConntrackAttribute>,
}

/// The way to the kernel and back, a datagram at a time.
pub trait Wire: Send {
    /// Sends a request.
    ///
    /// # Errors
    /// Where the kernel does not take it.
    fn send(&mut self, request: &[u8]) -> io::Result<()>;

    /// Waits for what comes next of the answer.
    ///
    /// # Errors
    /// Where something of it was lost, or nothing comes in time.
    fn receive(&mut self) -> io::Result<Vec<u8>>;
}

impl Wire for Socket {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        Socket::send(self, request, 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.recv_from_full()?.0)
    }
}

/// The connections of a network namespace.
pub struct Table {
    wire: Box<dyn Wire>,
    sequence: u32,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl Table {
    /// The table of the caller's network namespace.
    ///
    /// # Errors
    /// Where the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, ConntrackError> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        bound(&socket)?;
        Ok(Self::over(Box::new(socket)))
    }

    /// The table at the other end of `wire`.
    #[must_use]
    pub fn over(wire: Box<dyn Wire>) -> Self {
        Self { wire, sequence: 0 }
    }

    fn receive(&mut self) -> Result<Vec<u8>, ConntrackError> {
        loop {
            match self.wire.receive() {
                Ok(answer) if answer.is_empty() => {
                    return Err(ConntrackError::Answer("it is empty".to_owned()));
                }
                Ok(answer) => return Ok(answer),
                // A signal came in between; the answer is still to come.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let late = io::Error::new(io::ErrorKind::TimedOut, "no answer came in time");
                    return Err(late.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Shows each connection of a family to `each`. One that is of no use to policy, since it has no
    /// addresses or is about to end, is passed over.
    ///
    /// # Errors
    /// Where the kernel cannot be asked or answers with something else.
    pub fn read(
        &mut self,
        family: Family,
        mut each: impl FnMut(Entry),
    ) -> Result<(), ConntrackError> {
        let sequence =
            self.send(family, ConntrackMessage::Get(Vec::new()), NLM_F_REQUEST | NLM_F_DUMP)?;
        loop {
            let answer = self.receive()?;
            for message in messages::<NetfilterMessage>(&answer) {
                let message = message.map_err(unreadable)?;
                if message.header.sequence_number != sequence {
                    // What an earlier reading that failed has left behind.
                    continue;
                }
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(ConntrackError::Answer("it changed under the reader".to_owned()));
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(NetfilterMessage {
                        inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
                        ..
                    }) => {
                        if let Some(entry) = entry(attributes) {
                            each(entry);
                        }
                    }
                    NetlinkPayload::Done(done) => return ended(&done),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        let (operation, source) = ("list connections", error.to_io());
                        return Err(ConntrackError::Refused { operation, source });
                    }
                    _ => {}
                }
            }
        }
    }

    /// Forgets a connection; says whether it was still there.
    ///
    /// # Errors
    /// Where the kernel refuses for any other reason than that it is gone.
    pub fn forget(&mut self, entry: &Entry) -> Result<bool, ConntrackError> {
        let family = if entry.from.is_ipv4() { Family::V4 } else { Family::V6 };
        let request = ConntrackMessage::Delete(entry.name.clone());
        let sequence = self.send(family, request, NLM_F_REQUEST | NLM_F_ACK)?;
        loop {
            let answer = self.receive()?;
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(&answer);
            let message = message.map_err(unreadable)?;
            if message.header.sequence_number != sequence {
                continue;
            }
            return match message.payload {
                NetlinkPayload::Error(error) => match error.code {
                    None => Ok(true),
                    Some(_) if error.to_io().kind() == io::ErrorKind::NotFound => Ok(false),
                    Some(_) => Err(ConntrackError::Refused {
                        operation: "forget a connection",
                        source: error.to_io(),
                    }),
                },
                other => Err(ConntrackError::Answer(format!("{other:?} is no acknowledgement"))),
            };
        }
    }

    fn send(
        &mut self,
        family: Family,
        message: ConntrackMessage,
        flags: u16,
    ) -> Result<u32, ConntrackError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let family = match family {
            Family::V4 => NetfilterProtoFamily::IPv4,
            Family::V6 => NetfilterProtoFamily::IPv6,
        };
        let payload = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.wire.send(&bytes)?;
        Ok(self.sequence)
    }
}

/// How a listing ended: the kernel says in its last message why it broke off, if it did.
fn ended(done: &DoneMessage) -> Result<(), ConntrackError> {
    if done.code == 0 {
        return Ok(());
    }
    let source = io::Error::from_raw_os_error(done.code.saturating_neg());
    Err(ConntrackError::Refused { operation: "list connections", source })
}

/// For `map_err`, which hands over what it has.
#[allow(clippy::needless_pass_by_value, reason = "map_err gives its error away")]
fn unreadable(error: DecodeError) -> ConntrackError {
    ConntrackError::Answer(error.to_string())
}

/// What is known of one side of a connection.
#[derive(Default)]
struct Side {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<IpProtocol>,
    source_port: u16,
    icmp_type: Option<u8>,
}

fn side(tuples: &[Tuple]) -> Side {
    let mut side = Side::default();
    for tuple in tuples {
        match tuple {
            Tuple::Ip(parts) => {
                for part in parts {
                    match part {
                        IPTuple::SourceAddress(address) => side.source = Some(*address),
                        IPTuple::DestinationAddress(address) => side.destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(protocol) => side.protocol = Some(*protocol),
                        ProtoTuple::SourcePort(port) => side.source_port = *port,
                        ProtoTuple::Other(other)
                            if [attribute::ICMP_TYPE, attribute::ICMPV6_TYPE]
                                .contains(&other.kind()) =>
                        {
                            let mut value = vec![0; other.value_len()];
                            other.emit_value(&mut value);
                            side.icmp_type = value.first().copied();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    side
}

pub(super) fn entry(attributes: Vec<ConntrackAttribute>) -> Option<Entry> {
    let (mut original, mut reply) = (Side::default(), Side::default());
    let (mut related, mut name) = (false, Vec::new());
    for attribute in attributes {
        match &attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => original = side(tuples),
            ConntrackAttribute::CtaTupleReply(tuples) => {
                reply = side(tuples);
                continue;
            }
            ConntrackAttribute::CtaStatus(status) => {
                if status.contains(Status::Dying) {
                    return None;
                }
                related |= status.contains(Status::Expected);
                continue;
            }
            ConntrackAttribute::Other(other) => match other.kind() {
                attribute::ID | attribute::ZONE => {}
                attribute::TUPLE_MASTER => {
                    related = true;
                    continue;
                }
                _ => continue,
            },
            _ => continue,
        }
        name.push(attribute);
    }
    let number = u8::from(original.protocol?);
    let traffic = match (Protocol::from_number(number), number) {
        (Some(protocol), _) => Traffic::Port { protocol, port: reply.source_port },
        (None, ICMP | ICMPV6) => Traffic::Icmp { kind: original.icmp_type? },
        (None, protocol) => Traffic::Other { protocol },
    };
    let (from, sent_to, to) = (original.source?, original.destination?, reply.source?);
    Some(Entry { from, sent_to, to, traffic, related, name })
}

#[cfg(test)]
mod tests;
