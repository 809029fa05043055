//! The NFLOG group to which the rules tell packets that are denied, or would be.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigMode, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy_compiler::ruleset::{LOG_GROUP, Notice};

use super::flows::Flow;
use super::packet::Packet;
use crate::dataplane::netlink::messages;

/// How much of a packet is asked for; the rules say the same.
const FIRST_BYTES: u32 = 128;
/// What the kernel may hold for us, in bytes; what does not fit is lost.
const BUFFER: usize = 1 << 20;
/// How many messages are taken at a time.
const AT_A_TIME: usize = 256;
/// How long the kernel may take to answer that we listen.
const ANSWER: Duration = Duration::from_secs(2);

/// Why the group cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    /// The netlink socket failed.
    #[error("cannot listen for denied packets")]
    Socket(#[source] io::Error),
    /// The kernel says no: another process listens, or it has no NFLOG.
    #[error("the kernel does not let us listen on NFLOG group {LOG_GROUP}")]
    Refused(#[source] io::Error),
    /// The kernel says nothing.
    #[error("the kernel does not answer about NFLOG group {LOG_GROUP}")]
    Unanswered,
}

/// The group, listened to.
#[derive(Debug)]
pub(super) struct Group {
    socket: Socket,
}

impl Group {
    /// Listens, in the network namespace of the caller.
    pub(super) fn listen() -> Result<Self, GroupError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(GroupError::Socket)?;
        socket.bind_auto().map_err(GroupError::Socket)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(GroupError::Socket)?;
        socket.set_non_blocking(true).map_err(GroupError::Socket)?;
        // A smaller buffer only loses more under a flood.
        let _ = socket.set_rx_buf_sz(BUFFER);
        let group = Self { socket };
        let mode = ConfigMode::new_packet(FIRST_BYTES);
        let mut question = config_request(
            NetfilterProtoFamily::Unspec,
            LOG_GROUP,
            vec![ConfigCmd::Bind.into(), mode.into()],
        );
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        group.socket.send(&bytes, 0).map_err(GroupError::Socket)?;
        let (_, answer) = group.receive_all(ANSWER)?;
        match answer {
            Some(Ok(())) => Ok(group),
            Some(Err(error)) => Err(GroupError::Refused(error)),
            None => Err(GroupError::Unanswered),
        }
    }

    /// The packets that were told of since, for which it waits so long.
    pub(super) fn receive(&self, wait: Duration) -> Result<Vec<Flow>, GroupError> {
        Ok(self.receive_all(wait)?.0)
    }

    fn receive_all(&self, wait: Duration) -> Result<Received, GroupError> {
        let mut flows = Vec::new();
        let mut answer = None;
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok((flows, answer)),
            Ok(_) => {}
            Err(errno) => return Err(GroupError::Socket(errno.into())),
        }
        for _ in 0..AT_A_TIME {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => read(&bytes, &mut flows, &mut answer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The kernel had no room: some are lost, and the next ones come.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(GroupError::Socket(error)),
            }
        }
        Ok((flows, answer))
    }
}

/// Packets, and what the kernel answered to a question if it did.
type Received = (Vec<Flow>, Option<io::Result<()>>);

/// Reads the messages of one datagram; one that cannot be read ends it.
fn read(bytes: &[u8], flows: &mut Vec<Flow>, answer: &mut Option<io::Result<()>>) {
    for message in messages::<NetfilterMessage>(bytes).map_while(Result::ok) {
        match message.payload {
            NetlinkPayload::Error(error) => {
                *answer = Some(if error.code.is_none() { Ok(()) } else { Err(error.to_io()) });
            }
            NetlinkPayload::InnerMessage(NetfilterMessage {
                inner: NetfilterMessageInner::ULog(ULogMessage::Packet(parts)),
                ..
            }) => flows.extend(flow(&parts)),
            _ => {}
        }
    }
}

fn flow(parts: &[PacketNla]) -> Option<Flow> {
    let notice = parts.iter().find_map(|part| match part {
        PacketNla::Prefix(prefix) => {
            let is = |notice: &Notice| prefix.as_bytes() == notice.prefix().as_bytes();
            Notice::ALL.into_iter().find(is)
        }
        _ => None,
    })?;
    let packet = parts.iter().find_map(|part| match part {
        PacketNla::Payload(bytes) => Packet::read(bytes),
        _ => None,
    })?;
    Some((notice, packet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{config, damaged};
    use policy_compiler::policy::Direction;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A packet from 10.0.0.1 to 10.0.0.2, TCP port 80, as the kernel tells of it.
    fn told() -> Vec<u8> {
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        ip.extend([0x80, 0, 0, 80]);
        ip.extend([0; 16]);
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        // NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET; NFULA_PREFIX and NFULA_PAYLOAD.
        let body = [vec![2, 0, 0, 0], attribute(10, b"NPC-I\0"), attribute(9, &ip)].concat();
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(0x400_u16.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn flows(datagram: &[u8]) -> Vec<Flow> {
        let (mut flows, mut answer) = (Vec::new(), None);
        read(datagram, &mut flows, &mut answer);
        flows
    }

    #[test]
    fn a_packet_that_the_kernel_tells_of_is_read() {
        let [(notice, packet)] = flows(&told())[..] else { panic!("{:?}", flows(&told())) };
        assert_eq!((notice, packet.port), (Notice::Denied(Direction::Ingress), Some(80)));
        assert_eq!(flows(&[told(), told()].concat()).len(), 2);
    }

    proptest! {
        #![proptest_config(config(2_000))]

        #[test]
        fn whatever_the_kernel_tells_is_read(
            datagram in prop_oneof![
                vec(any::<u8>(), 0..200),
                damaged(told()),
                damaged([told(), told()].concat()),
            ],
        ) {
            prop_assert!(flows(&datagram).len() <= datagram.len() / 16 + 1);
        }
    }
}
