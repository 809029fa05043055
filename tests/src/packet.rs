//! Packets made and read byte by byte, so that every protocol, source address and header is the
//! lab's to choose.
//!
//! Each carries a token that is found again at the receiver, and for TCP and echo requests in the
//! answer too. Checksums are right: conntrack calls a packet with a wrong one invalid.

use std::net::IpAddr;

use policy_compiler::flow::Traffic;
use policy_compiler::port::Protocol;

/// What a packet of the lab's looks like before its token is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outline {
    /// Source address in the header.
    pub source: IpAddr,
    /// Destination address in the header; of the same family.
    pub destination: IpAddr,
    /// What it carries.
    pub traffic: Traffic,
    /// Source port of TCP, UDP and SCTP, identifier of an echo request.
    pub source_port: u16,
    /// Flags of a TCP segment.
    pub segment: Segment,
}

/// Which TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// SYN: it opens a connection.
    #[default]
    Opening,
    /// ACK alone: it claims to belong to one.
    Midstream,
}

/// What a packet that was seen says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sighting {
    /// The packet with this token.
    Sent(u32),
    /// The receiver's answer to the packet with this token.
    Answer(u32),
}

/// Marks payloads as the lab's.
const MAGIC: [u8; 4] = *b"npcL";

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

impl Outline {
    /// The first packet of a connection from `source` to `destination`.
    #[must_use]
    pub fn opening(
        source: IpAddr,
        destination: IpAddr,
        traffic: Traffic,
        source_port: u16,
    ) -> Self {
        Self { source, destination, traffic, source_port, segment: Segment::Opening }
    }

    /// The packet with its IP header.
    #[must_use]
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        let (protocol, body) = self.body(token);
        let mut packet = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = u16::try_from(20 + body.len()).unwrap_or(u16::MAX);
                let mut header = vec![0x45, 0];
                header.extend(length.to_be_bytes());
                header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&[&header]);
                header.splice(10..12, sum.to_be_bytes());
                header
            }
            (source, destination) => {
                let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length.to_be_bytes());
                // Neighbour discovery is only taken with a hop limit of 255.
                header.extend([protocol, 255]);
                header.extend(octets(source));
                header.extend(octets(destination));
                header
            }
        };
        packet.extend(body);
        packet
    }

    /// The protocol's number and everything behind the IP header.
    fn body(&self, token: u32) -> (u8, Vec<u8>) {
        match self.traffic {
            Traffic::Port { protocol: Protocol::Tcp, port } => (TCP, self.tcp(port, token)),
            Traffic::Port { protocol: Protocol::Udp, port } => (UDP, self.udp(port, token)),
            Traffic::Port { protocol: Protocol::Sctp, port } => (SCTP, self.sctp(port, token)),
            Traffic::Icmp { kind } => self.icmp(kind, token),
            // The zeros in front are a plain GRE header, should the protocol be that.
            Traffic::Other { protocol } => (protocol, payload(&[0; 4], token)),
        }
    }

    fn tcp(&self, port: u16, token: u32) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20);
        segment.extend(self.source_port.to_be_bytes());
        segment.extend(port.to_be_bytes());
        segment.extend(token.to_be_bytes());
        match self.segment {
            Segment::Opening => segment.extend([0, 0, 0, 0, 0x50, TCP_SYN]),
            Segment::Midstream => segment.extend([0, 0, 0, 1, 0x50, TCP_ACK]),
        }
        segment.extend([0xff, 0xff, 0, 0, 0, 0]);
        self.sum(TCP, &mut segment, 16);
        segment
    }

    fn udp(&self, port: u16, token: u32) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(16);
        datagram.extend(self.source_port.to_be_bytes());
        datagram.extend(port.to_be_bytes());
        datagram.extend([0, 16, 0, 0]);
        let mut datagram = payload(&datagram, token);
        self.sum(UDP, &mut datagram, 6);
        datagram
    }

    /// An INIT chunk; RFC 9260, section 3.3.2. Its tag must not be zero.
    fn sctp(&self, port: u16, token: u32) -> Vec<u8> {
        let mut packet = Vec::with_capacity(32);
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend([1, 0, 0, 20]);
        packet.extend((token | 1 << 31).to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 1, 0, 1]);
        packet.extend(token.to_be_bytes());
        let sum = crc32c(&packet);
        packet.splice(8..12, sum.to_le_bytes());
        packet
    }

    fn icmp(&self, kind: u8, token: u32) -> (u8, Vec<u8>) {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.source_port.to_be_bytes());
        message.extend([0, 1]);
        if !matches!(kind, 8 | 128) {
            message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            if let (135 | 136, IpAddr::V6(target)) = (kind, self.destination) {
                message.extend(target.octets());
            }
        }
        let mut message = payload(&message, token);
        if self.destination.is_ipv4() {
            let sum = checksum(&[&message]);
            message.splice(2..4, sum.to_be_bytes());
            (ICMP, message)
        } else {
            self.sum(ICMPV6, &mut message, 2);
            (ICMPV6, message)
        }
    }

    /// Writes the checksum over pseudo header and `body` at `place`.
    fn sum(&self, protocol: u8, body: &mut Vec<u8>, place: usize) {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let source = octets(self.source);
        let destination = octets(self.destination);
        let sum = checksum(&[&source, &destination, &length, &[0, 0, 0, protocol], body]);
        // UDP takes zero for "not computed".
        let sum = if sum == 0 && protocol == UDP { 0xffff } else { sum };
        body.splice(place..place + 2, sum.to_be_bytes());
    }
}

/// Reads a packet that begins with its IP header. `None`: it is not the lab's.
#[must_use]
pub fn sighting(packet: &[u8]) -> Option<Sighting> {
    let (protocol, body) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            (*packet.get(9)?, packet.get(header..)?)
        }
        6 => (*packet.get(6)?, packet.get(40..)?),
        _ => return None,
    };
    match protocol {
        TCP => {
            let flags = *body.get(13)?;
            match flags {
                // The answer to SYN acknowledges one beyond the token, with SYN or RST.
                _ if flags & TCP_ACK != 0 && flags & !TCP_ACK != 0 => {
                    Some(Sighting::Answer(word(body, 8)?.wrapping_sub(1)))
                }
                _ => Some(Sighting::Sent(word(body, 4)?)),
            }
        }
        UDP => token_behind(body, 8).map(Sighting::Sent),
        SCTP => (*body.get(12)? == 1).then(|| word(body, 28)).flatten().map(Sighting::Sent),
        ICMP | ICMPV6 => match (protocol, *body.first()?) {
            (ICMP, 0) | (ICMPV6, 129) => token_behind(body, 8).map(Sighting::Answer),
            (ICMPV6, 135 | 136) => token_behind(body, 24).map(Sighting::Sent),
            _ => token_behind(body, 8).map(Sighting::Sent),
        },
        _ => token_behind(body, 4).map(Sighting::Sent),
    }
}

fn payload(header: &[u8], token: u32) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend(MAGIC);
    bytes.extend(token.to_be_bytes());
    bytes
}

fn token_behind(body: &[u8], header: usize) -> Option<u32> {
    (body.get(header..header + 4)? == MAGIC).then(|| word(body, header + 4)).flatten()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The internet checksum (RFC 1071) over parts of even length, the last excepted.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// `CRC32c` (Castagnoli), as SCTP has it: RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::cidr::Family;

    fn all_traffic(family: Family) -> Vec<Traffic> {
        vec![
            Traffic::tcp(80),
            Traffic::udp(53),
            Traffic::sctp(9),
            Traffic::ping(family),
            Traffic::Icmp { kind: 13 },
            Traffic::Icmp { kind: 135 },
            Traffic::Other { protocol: 47 },
            Traffic::Other { protocol: 253 },
        ]
    }

    #[test]
    fn a_token_is_found_again_in_every_kind_of_packet() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
            .map(|(a, b)| (a.parse::<IpAddr>().unwrap(), b.parse::<IpAddr>().unwrap()))
        {
            for traffic in all_traffic(Family::of(source)) {
                let packet =
                    Outline::opening(source, destination, traffic, 4000).bytes(0x0102_0304);
                assert_eq!(sighting(&packet), Some(Sighting::Sent(0x0102_0304)), "{traffic}");
            }
        }
    }

    #[test]
    fn the_checksums_are_those_of_the_rfcs() {
        // RFC 1071, section 3: the sum of these is ddf2, its complement the checksum.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        // RFC 3720, appendix B.4: 32 bytes of zeros.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
