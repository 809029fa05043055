//! The framing of netlink, for all who ask the kernel: a datagram holds several messages.

use std::io;
use std::iter::from_fn;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkMessage};
use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// How many seconds an answer may take, which the kernel mostly gives before a request returns.
const LIMIT: i64 = 5;

/// Has whoever reads from a socket wait for the kernel no longer than it may take.
pub(crate) fn bound(socket: &Socket) -> io::Result<()> {
    let limit = TimeVal::seconds(LIMIT);
    setsockopt(socket, sockopt::ReceiveTimeout, &limit).map_err(io::Error::from)
}

/// The messages of a datagram, in order. One that cannot be read is the last.
pub(crate) fn messages<I: NetlinkDeserializable>(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<I>, DecodeError>> + '_ {
    let mut rest = datagram;
    from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(rest);
        rest = message.as_ref().ok().map_or(&[][..], |message| {
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            // Messages begin at multiples of four bytes; the last need not be filled up.
            rest.get(length.saturating_add(3) & !3..).unwrap_or_default()
        });
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{DoneMessage, NetlinkHeader, NetlinkPayload};
    use netlink_packet_route::RouteNetlinkMessage;

    fn done(sequence: u32) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.sequence_number = sequence;
        let payload = NetlinkPayload::<RouteNetlinkMessage>::Done(DoneMessage::default());
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn sequences(datagram: &[u8]) -> Vec<Option<u32>> {
        messages::<RouteNetlinkMessage>(datagram)
            .map(|message| Some(message.ok()?.header.sequence_number))
            .collect()
    }

    #[test]
    fn all_messages_of_a_datagram_are_read_and_a_broken_one_is_the_last() {
        let two = [done(7), done(8)].concat();
        assert_eq!(sequences(&two), [Some(7), Some(8)]);
        assert_eq!(sequences(&two[..two.len() - 3]), [Some(7), None]);
        assert_eq!(sequences(&[]), []);
        assert_eq!(sequences(&[0; 64]), [None], "a length of nothing leads nowhere");
    }
}
