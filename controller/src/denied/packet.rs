//! Whose packet it is, read from its first bytes.
//!
//! They come from a pod and may be anything, and cut off anywhere: what is not there is not known, and
//! what is no IP packet is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::cidr::Family;
use policy_compiler::flow::{ICMP, ICMPV6, Traffic};
use policy_compiler::port::Protocol;

/// How many headers of IPv6 are read to find what is in a packet.
const HEADERS: usize = 8;

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// Its protocol's number.
    pub protocol: u8,
    /// The destination port, where the protocol has ports; the type, of ICMP.
    pub port: Option<u16>,
    /// Whether it is TCP that opens no connection.
    pub midstream: bool,
}

impl Packet {
    /// Reads the beginning of a packet.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        if self.source.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The protocol in words.
    #[must_use]
    pub fn protocol_name(&self) -> String {
        match (Protocol::from_number(self.protocol), self.protocol) {
            (Some(protocol), _) => protocol.to_string(),
            (None, ICMP) => "ICMP".to_owned(),
            (None, ICMPV6) => "ICMPv6".to_owned(),
            (None, other) => format!("protocol {other}"),
        }
    }

    /// As policies see it. Where the port is not known, none is meant.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        match (Protocol::from_number(self.protocol), self.protocol) {
            (Some(protocol), _) => Traffic::Port { protocol, port: self.port.unwrap_or(0) },
            (None, ICMP | ICMPV6) => {
                let kind = self.port.and_then(|kind| u8::try_from(kind).ok());
                Traffic::Icmp { kind: kind.unwrap_or(u8::MAX) }
            }
            (None, protocol) => Traffic::Other { protocol },
        }
    }

    fn v4(bytes: &[u8]) -> Option<Self> {
        let length = usize::from(bytes.first()? & 0xf) * 4;
        let source = Ipv4Addr::from(part::<4>(bytes, 12)?);
        let destination = Ipv4Addr::from(part::<4>(bytes, 16)?);
        // Three flags, then the place in the packet before it was cut up.
        let is_first = u16::from_be_bytes(part(bytes, 6)?) << 3 == 0;
        let content = bytes.get(length.max(20)..).filter(|_| is_first);
        Some(Self::with(source.into(), destination.into(), *bytes.get(9)?, content))
    }

    fn v6(bytes: &[u8]) -> Option<Self> {
        let source = Ipv6Addr::from(part::<16>(bytes, 8)?);
        let destination = Ipv6Addr::from(part::<16>(bytes, 24)?);
        let mut next = *bytes.get(6)?;
        let mut content = bytes.get(40..);
        for _ in 0..HEADERS {
            let Some(header) = content.filter(|_| matches!(next, 0 | 43 | 44 | 51 | 60)) else {
                break;
            };
            let length = |unit: usize, more: usize| {
                header.get(1).map(|count| (usize::from(*count) + more) * unit)
            };
            let (length, is_first) = match next {
                44 => {
                    let offset = part(header, 2).map_or(0, u16::from_be_bytes) >> 3;
                    (Some(8), offset == 0)
                }
                51 => (length(4, 2), true),
                _ => (length(8, 1), true),
            };
            next = header.first().copied().unwrap_or(next);
            content = length.and_then(|length| header.get(length..)).filter(|_| is_first);
        }
        Some(Self::with(source.into(), destination.into(), next, content))
    }

    fn with(source: IpAddr, destination: IpAddr, protocol: u8, content: Option<&[u8]>) -> Self {
        let content = content.unwrap_or_default();
        let known = Protocol::from_number(protocol);
        let port = match protocol {
            _ if known.is_some() => part(content, 2).map(u16::from_be_bytes),
            ICMP | ICMPV6 => content.first().copied().map(u16::from),
            _ => None,
        };
        let flags = content.get(13).filter(|_| known == Some(Protocol::Tcp));
        // Of SYN, RST, ACK and FIN only the first.
        let midstream = flags.is_some_and(|flags| flags & 0b1_0111 != 0b0_0010);
        Self { source, destination, protocol, port, midstream }
    }
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, fragment: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(content);
        bytes
    }

    fn v6(next: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes.extend([0xfd; 16]);
        bytes.extend([0xfe; 16]);
        bytes.extend(content);
        bytes
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut bytes = vec![0x80, 0, 0, 80];
        bytes.extend([0; 9]);
        bytes.push(flags);
        bytes
    }

    #[test]
    fn protocol_and_port_are_found_behind_every_header() {
        let fragment = |offset: u16| {
            let mut header = vec![17, 0];
            header.extend((offset << 3).to_be_bytes());
            header.extend([0, 0, 0, 1, 0, 0, 0, 53]);
            header
        };
        let options = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[6, 1], &[0; 14], &tcp(2)].concat();
        for (name, bytes, expected) in [
            ("a SYN", v4(6, 0x4000, &tcp(2)), (6, Some(80), false)),
            ("a segment", v4(6, 0, &tcp(0x18)), (6, Some(80), true)),
            ("a later fragment", v4(17, 100, &[0, 1, 0, 53]), (17, None, false)),
            ("a ping", v4(1, 0, &[8]), (1, Some(8), false)),
            ("something else", v4(47, 0, &[0; 8]), (47, None, false)),
            ("cut off", v4(17, 0, &[0, 1, 0]), (17, None, false)),
            ("UDP over IPv6", v6(17, &[0, 1, 0, 53]), (17, Some(53), false)),
            ("the first fragment", v6(44, &fragment(0)), (17, Some(53), false)),
            ("a later one", v6(44, &fragment(9)), (17, None, false)),
            ("behind options", v6(0, &options), (6, Some(80), false)),
            ("neighbours", v6(58, &[135, 0]), (58, Some(135), false)),
        ] {
            let packet = Packet::read(&bytes).unwrap();
            assert_eq!((packet.protocol, packet.port, packet.midstream), expected, "{name}");
            let asked = packet.traffic();
            assert_eq!(asked.ip_protocol(packet.family()), packet.protocol, "{name}: {asked}");
        }
        let packet = Packet::read(&v4(6, 0, &tcp(2))).unwrap();
        assert_eq!(packet.source, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(packet.destination, "10.0.0.2".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn whatever_is_cut_off_or_made_up_ends() {
        let chained = v6(0, &[0; 120]);
        for whole in [v4(6, 0, &tcp(2)), chained, v6(51, &[255; 60]), vec![0x4f; 30]] {
            for length in 0..=whole.len() {
                let _ = Packet::read(&whole[..length]);
            }
        }
        assert_eq!(Packet::read(&[]), None);
        assert_eq!(Packet::read(&[0x45; 19]), None);
        assert_eq!(Packet::read(&[0x50; 60]), None);
        // Bytes of every value in every place.
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..64)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            let _ = Packet::read(&bytes);
        }
    }
}
