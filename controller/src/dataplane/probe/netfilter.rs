//! Questions to netfilter that the kernel answers at once.
//!
//! The socket never waits: the kernel has answered by the time a question is sent, and makes the next
//! part of a long answer as the last one is taken. After a failure the next question has a new socket,
//! since the rest of the old answer may still be in the old one.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use crate::dataplane::netlink::messages;

/// Why the kernel has not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// The socket, or its buffer.
    #[error("cannot ask the kernel")]
    Socket(#[from] io::Error),
    /// What came back was no answer.
    #[error("cannot read the kernel's answer: {0}")]
    Answer(String),
    /// It does not know the question, or does not let us ask it.
    #[error("the kernel does not answer")]
    Refused(#[source] io::Error),
}

/// Where questions go, in the network namespace of the thread that asks the first.
#[derive(Default)]
pub(super) struct Netfilter {
    socket: Option<Socket>,
    sequence: u32,
}

impl std::fmt::Debug for Netfilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netfilter").finish_non_exhaustive()
    }
}

impl Netfilter {
    /// Shows each part of the answer to `each`, which may say that it is none. `flags` make the answer
    /// end: with an acknowledgement, or as a list does.
    pub(super) fn ask(
        &mut self,
        question: NetfilterMessage,
        flags: u16,
        each: impl FnMut(NetfilterMessageInner) -> Result<(), ProbeError>,
    ) -> Result<(), ProbeError> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open().map_err(ProbeError::Refused)?,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        socket.send(&bytes, 0)?;
        let answer = take(&socket, self.sequence, each);
        // The kernel's no is a whole answer.
        if matches!(answer, Ok(()) | Err(ProbeError::Refused(_))) {
            self.socket = Some(socket);
        }
        answer
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn take(
    socket: &Socket,
    sequence: u32,
    mut each: impl FnMut(NetfilterMessageInner) -> Result<(), ProbeError>,
) -> Result<(), ProbeError> {
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for message in messages::<NetfilterMessage>(&datagram) {
            let message = message.map_err(|error| ProbeError::Answer(error.to_string()))?;
            if message.header.sequence_number != sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(part) => each(part.inner)?,
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(()),
                        Some(_) => Err(ProbeError::Refused(error.to_io())),
                    };
                }
                NetlinkPayload::Done(_) => return Ok(()),
                _ => {}
            }
        }
    }
}
