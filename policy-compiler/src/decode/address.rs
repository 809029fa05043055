//! Addresses and networks in the notations that stored Kubernetes objects may have.
//!
//! Source: Kubernetes `ParseIPSloppy` and `ParseCIDRSloppy`: zeros in front of a decimal number are
//! ignored, host bits are masked off. IPv4-mapped IPv6 is refused, since nobody can tell which family
//! was meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Something that was read, and what is odd about the way in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) oddities: Vec<&'static str>,
}

/// Why a text is no address or network, and how it might have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

const LEADING_ZEROS: &str = "has zeros in front of a number, which are ignored";
const HOST_BITS: &str = "has bits set behind its prefix, which are ignored";

/// An address.
pub(super) fn address(text: &str) -> Result<Read<IpAddr>, Unread> {
    let unread = |message: String| Unread { message, help: None };
    let (address, zeros) =
        sloppy(text).ok_or_else(|| unread(format!("`{text}` is no IP address")))?;
    if is_mapped(address) {
        return Err(mapped(text));
    }
    if address.is_unspecified() {
        return Err(unread(format!("`{text}` is the unspecified address, which nobody has")));
    }
    Ok(Read { value: address, oddities: if zeros { vec![LEADING_ZEROS] } else { Vec::new() } })
}

/// A network in CIDR notation, masked.
pub(super) fn network(text: &str) -> Result<Read<IpNet>, Unread> {
    let no_cidr = || Unread {
        message: format!("`{text}` is no network in CIDR notation"),
        help: Some("write an address, `/` and the length of the prefix: 10.0.0.0/8".to_owned()),
    };
    let Some((base, length)) = text.split_once('/') else {
        return Err(match sloppy(text) {
            Some((address, _)) => Unread {
                message: format!("`{text}` is no network in CIDR notation"),
                help: Some(format!("one address is `{}`", IpNet::from(address))),
            },
            None => no_cidr(),
        });
    };
    let (address, zeros) = sloppy(base).ok_or_else(no_cidr)?;
    let (length, length_zeros) = decimal(length).ok_or_else(no_cidr)?;
    let net = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
    let net = net.ok_or_else(|| Unread {
        message: format!("`{text}` is no network: the prefix is longer than the address"),
        help: None,
    })?;
    if is_mapped(address) {
        return Err(mapped(text));
    }
    let mut oddities = Vec::new();
    if zeros || length_zeros {
        oddities.push(LEADING_ZEROS);
    }
    if net.trunc() != net {
        oddities.push(HOST_BITS);
    }
    Ok(Read { value: net.trunc(), oddities })
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn mapped(text: &str) -> Unread {
    Unread {
        message: format!("`{text}` is an IPv4 address written as IPv6, which is ambiguous"),
        help: Some("write it as IPv4".to_owned()),
    }
}

/// The address, and whether its decimal numbers have zeros in front.
fn sloppy(text: &str) -> Option<(IpAddr, bool)> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(|v6| (IpAddr::V6(v6), false));
    }
    let mut octets = [0; 4];
    let mut zeros = false;
    let mut parts = text.split('.');
    for octet in &mut octets {
        let (number, has_zeros) = decimal(parts.next()?)?;
        *octet = u8::try_from(number).ok()?;
        zeros |= has_zeros;
    }
    parts.next().is_none().then(|| (IpAddr::V4(Ipv4Addr::from(octets)), zeros))
}

/// A decimal number, and whether it has zeros in front.
fn decimal(text: &str) -> Option<(u32, bool)> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    Some((number, text.len() > 1 && text.starts_with('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_masked_and_its_oddities_are_named() {
        for (text, net, oddities) in [
            ("10.0.0.0/8", "10.0.0.0/8", vec![]),
            ("0.0.0.0/0", "0.0.0.0/0", vec![]),
            ("10.1.2.3/8", "10.0.0.0/8", vec![HOST_BITS]),
            ("010.0.0.0/8", "10.0.0.0/8", vec![LEADING_ZEROS]),
            ("10.0.0.0/08", "10.0.0.0/8", vec![LEADING_ZEROS]),
            ("010.1.2.3/8", "10.0.0.0/8", vec![LEADING_ZEROS, HOST_BITS]),
            ("::/0", "::/0", vec![]),
            ("2001:0db8::1/32", "2001:db8::/32", vec![HOST_BITS]),
            ("::ffff/112", "::/112", vec![HOST_BITS]),
        ] {
            let value = net.parse().unwrap();
            assert_eq!(network(text), Ok(Read { value, oddities }), "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0.0/8",
            "256.0.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            " 10.0.0.0/8",
            "10.0.0.0/8/9",
            "::/129",
            "fe80::1%eth0/64",
            "::ffff:10.0.0.0/104",
            "::ffff:a00:0/104",
            "web",
        ] {
            assert!(network(text).is_err(), "{text}");
        }
        let lone = network("10.0.0.1").unwrap_err();
        assert_eq!(lone.help.as_deref(), Some("one address is `10.0.0.1/32`"));
    }

    #[test]
    fn an_address_is_one_that_somebody_can_have() {
        let read = |text: &str| address(text).ok().map(|read| read.value.to_string());
        assert_eq!(read("010.1.2.3").as_deref(), Some("10.1.2.3"));
        assert_eq!(read("fd00::0001").as_deref(), Some("fd00::1"));
        for text in ["0.0.0.0", "::", "::ffff:10.0.0.1", "10.0.0.1/32", "None", "10.0.0"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
