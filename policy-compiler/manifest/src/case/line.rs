//! The grammar of a flow line: `FROM[, FROM] -> TO[, TO] on PORT[, PORT]`.
//!
//! Pure syntax: whether the cluster has such ends is asked when the line is expanded.

use policy_compiler::cidr::Family;
use policy_compiler::decode::nearest;
use policy_compiler::flow::{End, ICMP, ICMPV6, Traffic};
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::policy::Direction;
use policy_compiler::port::Protocol;

use super::RuleReference;
use crate::address::{self, NotAnEnd};

/// A flow line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) from: Vec<End>,
    pub(super) to: Vec<End>,
    pub(super) ports: Vec<PortWord>,
}

/// What one word behind `on` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortWord {
    /// A port that nobody mentions, of each protocol, and an echo request.
    Any,
    /// An echo request of the family.
    Ping,
    /// Exactly this.
    Exactly(Traffic),
}

impl PortWord {
    /// The traffic that it stands for in `family`; `unmentioned` is a port that nobody mentions.
    pub(super) fn traffic(self, family: Family, unmentioned: u16) -> Vec<Traffic> {
        match self {
            PortWord::Any => Protocol::ALL
                .into_iter()
                .map(|protocol| Traffic::Port { protocol, port: unmentioned })
                .chain([Traffic::ping(family)])
                .collect(),
            PortWord::Ping => vec![Traffic::ping(family)],
            PortWord::Exactly(traffic) => vec![traffic],
        }
    }
}

/// Why a text is no flow line, or no name of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    #[error("a flow is written `FROM -> TO on PORT`; this has {arrows} arrows (`->`)")]
    Arrow { arrows: usize },
    #[error("nothing stands {place}")]
    Empty { place: &'static str },
    #[error("`{0}` is no end of a flow: write namespace/pod, node/name or an address")]
    End(String),
    #[error("`world` is no end of a flow here: write an address")]
    World,
    #[error("`{text}` is no end of a flow: {reason}")]
    Address { text: String, reason: NotAnEnd },
    #[error("`{text}` is no end of a flow: {reason}")]
    Name { text: String, reason: String },
    #[error(
        "`{text}` is no port: write 80, 80/tcp, 53/udp, 9/sctp, icmp, icmp/135, proto/47 or any"
    )]
    Port { text: String },
    #[error("`{protocol}` is no protocol with ports: tcp, udp or sctp{help}")]
    Protocol { protocol: String, help: String },
    #[error("`{0}` names no rule: write `namespace/policy ingress[0]`")]
    Rule(String),
}

/// Takes a flow line apart.
pub(super) fn line(text: &str) -> Result<Line, LineError> {
    let sides: Vec<&str> = text.split("->").collect();
    let [from, rest] = sides.as_slice() else {
        return Err(LineError::Arrow { arrows: sides.len() - 1 });
    };
    let (to, ports) = match split_on(rest) {
        Some((to, ports)) => (to, list(ports, "behind `on`")?),
        None => (*rest, vec!["any"]),
    };
    Ok(Line {
        from: list(from, "before the arrow")?.into_iter().map(end).collect::<Result<_, _>>()?,
        to: list(to, "behind the arrow")?.into_iter().map(end).collect::<Result<_, _>>()?,
        ports: ports.into_iter().map(port).collect::<Result<_, _>>()?,
    })
}

/// The texts before and behind the word `on`.
fn split_on(text: &str) -> Option<(&str, &str)> {
    text.match_indices("on").find_map(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + 2..]);
        let alone = before.ends_with(char::is_whitespace)
            && (behind.is_empty() || behind.starts_with(char::is_whitespace));
        alone.then_some((before, behind))
    })
}

fn list<'t>(text: &'t str, place: &'static str) -> Result<Vec<&'t str>, LineError> {
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.iter().any(|item| item.is_empty()) {
        return Err(LineError::Empty { place });
    }
    Ok(items)
}

fn end(text: &str) -> Result<End, LineError> {
    if let Some(address) = address::end(text) {
        let wrong = |reason| LineError::Address { text: text.to_owned(), reason };
        return address.map(End::Address).map_err(wrong);
    }
    let named = |reason: String| LineError::Name { text: text.to_owned(), reason };
    match text.split_once('/') {
        Some(("node", name)) => {
            NodeName::new(name).map(End::Node).map_err(|e| named(e.to_string()))
        }
        Some((namespace, name)) => {
            ObjectKey::new(namespace, name).map(End::Pod).map_err(|e| named(e.to_string()))
        }
        None if text == "world" => Err(LineError::World),
        None => Err(LineError::End(text.to_owned())),
    }
}

fn port(text: &str) -> Result<PortWord, LineError> {
    let lower = text.to_ascii_lowercase();
    let wrong = || LineError::Port { text: text.to_owned() };
    let (first, second) = match lower.split_once('/') {
        Some((first, second)) => (first.trim(), Some(second.trim())),
        None => (lower.as_str(), None),
    };
    match (first, second) {
        ("any", None) => Ok(PortWord::Any),
        ("icmp", None) => Ok(PortWord::Ping),
        ("icmp", Some(kind)) => {
            let kind = kind.parse().map_err(|_| wrong())?;
            Ok(PortWord::Exactly(Traffic::Icmp { kind }))
        }
        ("proto", Some(number)) => {
            let number: u8 = number.parse().map_err(|_| wrong())?;
            Ok(PortWord::Exactly(by_number(number).ok_or_else(wrong)?))
        }
        (number, protocol) => {
            let port: u16 = number.parse().ok().filter(|n| *n != 0).ok_or_else(wrong)?;
            let protocol = protocol.map_or(Ok(Protocol::Tcp), transport)?;
            Ok(PortWord::Exactly(Traffic::Port { protocol, port }))
        }
    }
}

/// The traffic of an IP protocol number; `None` where there is a better way to write it.
fn by_number(protocol: u8) -> Option<Traffic> {
    let better = [ICMP, ICMPV6].contains(&protocol) || Protocol::from_number(protocol).is_some();
    (!better).then_some(Traffic::Other { protocol })
}

fn transport(text: &str) -> Result<Protocol, LineError> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        other => Err(LineError::Protocol {
            protocol: other.to_owned(),
            help: nearest(other, &["tcp", "udp", "sctp"])
                .map(|word| format!(" (did you mean `{word}`?)"))
                .unwrap_or_default(),
        }),
    }
}

/// Takes `shop/web ingress[0]` apart.
pub(super) fn rule(text: &str) -> Result<RuleReference, LineError> {
    let parsed = || {
        let (policy, place) = text.trim().split_once(char::is_whitespace)?;
        let (namespace, name) = policy.split_once('/')?;
        let (direction, index) = place.trim().strip_suffix(']')?.split_once('[')?;
        let direction = match direction {
            "ingress" => Direction::Ingress,
            "egress" => Direction::Egress,
            _ => return None,
        };
        let policy = ObjectKey::new(namespace, name).ok()?;
        Some(RuleReference { policy, direction, index: index.parse().ok()? })
    };
    parsed().ok_or_else(|| LineError::Rule(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> End {
        let (namespace, name) = text.split_once('/').unwrap();
        End::Pod(ObjectKey::new(namespace, name).unwrap())
    }

    #[test]
    fn a_line_has_sources_destinations_and_ports() {
        assert_eq!(
            line(
                "x/a,node/n1 ->  203.0.113.7, fd00::1 on 80, 53/UDP, 9/sctp, icmp, icmp/135, proto/47, any"
            ),
            Ok(Line {
                from: vec![pod("x/a"), End::Node(NodeName::new("n1").unwrap())],
                to: vec![
                    End::Address("203.0.113.7".parse().unwrap()),
                    End::Address("fd00::1".parse().unwrap())
                ],
                ports: vec![
                    PortWord::Exactly(Traffic::tcp(80)),
                    PortWord::Exactly(Traffic::udp(53)),
                    PortWord::Exactly(Traffic::sctp(9)),
                    PortWord::Ping,
                    PortWord::Exactly(Traffic::Icmp { kind: 135 }),
                    PortWord::Exactly(Traffic::Other { protocol: 47 }),
                    PortWord::Any,
                ],
            })
        );
    }

    #[test]
    fn without_ports_any_is_meant() {
        assert_eq!(line("x/a->on/on").unwrap().ports, [PortWord::Any]);
        assert_eq!(line("x/a -> x/on on any").unwrap().to, [pod("x/on")]);
    }

    #[test]
    fn any_is_one_port_of_each_protocol_and_an_echo_request() {
        assert_eq!(
            PortWord::Any.traffic(Family::V6, 7),
            [Traffic::tcp(7), Traffic::udp(7), Traffic::sctp(7), Traffic::Icmp { kind: 128 }]
        );
    }

    #[test]
    fn what_is_no_line_is_told_with_the_word_that_is_wrong() {
        for (text, expected) in [
            ("x/a x/b", LineError::Arrow { arrows: 0 }),
            ("x/a -> x/b -> x/c", LineError::Arrow { arrows: 2 }),
            (" -> x/b", LineError::Empty { place: "before the arrow" }),
            ("x/a -> on 80", LineError::Empty { place: "behind the arrow" }),
            ("x/a -> x/b on", LineError::Empty { place: "behind `on`" }),
            ("x/a -> x/b on 80,", LineError::Empty { place: "behind `on`" }),
            ("web -> x/b", LineError::End("web".to_owned())),
            ("world -> x/b", LineError::World),
            ("x/a -> x/b on http", LineError::Port { text: "http".to_owned() }),
            ("x/a -> x/b on 0", LineError::Port { text: "0".to_owned() }),
            ("x/a -> x/b on 65536", LineError::Port { text: "65536".to_owned() }),
            ("x/a -> x/b on icmp/256", LineError::Port { text: "icmp/256".to_owned() }),
            ("x/a -> x/b on proto/6", LineError::Port { text: "proto/6".to_owned() }),
            (
                "x/a -> x/b on 80/tpc",
                LineError::Protocol {
                    protocol: "tpc".to_owned(),
                    help: " (did you mean `tcp`?)".to_owned(),
                },
            ),
        ] {
            assert_eq!(line(text), Err(expected), "{text:?}");
        }
        assert!(matches!(line("X/a -> x/b"), Err(LineError::Name { .. })));
        assert!(matches!(line("node/ -> x/b"), Err(LineError::Name { .. })));
    }

    #[test]
    fn an_address_of_ipv4_in_ipv6_is_that_of_ipv4_and_some_are_nobodys() {
        let to = |text: &str| line(text).map(|line| line.to);
        let v4 = End::Address("203.0.113.7".parse().unwrap());
        assert_eq!(to("x/a -> ::ffff:203.0.113.7"), Ok(vec![v4]));
        for (address, reason) in [
            ("0.0.0.0", NotAnEnd::Unspecified),
            ("::", NotAnEnd::Unspecified),
            ("127.0.0.53", NotAnEnd::Loopback),
            ("::1", NotAnEnd::Loopback),
            ("::ffff:127.0.0.1", NotAnEnd::Loopback),
        ] {
            let wrong = LineError::Address { text: address.to_owned(), reason };
            assert_eq!(to(&format!("x/a -> {address} on 80")), Err(wrong));
        }
    }

    #[test]
    fn a_rule_is_named_by_policy_direction_and_place() {
        let reference = rule("shop/web  egress[12]").unwrap();
        assert_eq!(reference.to_string(), "shop/web egress[12]");
        for text in [
            "shop/web",
            "web ingress[0]",
            "shop/web ingress",
            "shop/web from[0]",
            "shop/web ingress[-1]",
        ] {
            assert_eq!(rule(text), Err(LineError::Rule(text.to_owned())));
        }
    }
}
