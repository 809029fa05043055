//! The port of a question: by number, by the destination's own name for it, or none (ICMP).

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Pod, Service, ServicePort, Snapshot, TargetPort};
use policy_compiler::flow::{End, Traffic};
use policy_compiler::port::{PortName, Protocol};

use crate::error::CommandError;
use crate::{suggest, text};

/// What is asked of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// A number.
    Number(u16, Protocol),
    /// A name that the destination's containers declare, of that protocol if one is said.
    Name(PortName, Option<Protocol>),
    /// An echo request.
    Icmp,
}

impl Port {
    /// Reads `8080`, `8080/TCP`, `http`, `dns/UDP`, `icmp`.
    ///
    /// # Errors
    /// Where the text is none of these.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let wrong = || {
            CommandError::usage(
                format!("`{text}` is no port"),
                "write a number from 1 to 65535 or the name of a container port, then /TCP, /UDP or \
                 /SCTP if it is not TCP; or `icmp`",
            )
        };
        if text.eq_ignore_ascii_case("icmp") {
            return Ok(Port::Icmp);
        }
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => {
                let known = Protocol::ALL
                    .into_iter()
                    .find(|known| known.to_string().eq_ignore_ascii_case(protocol));
                (port, Some(known.ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        if port.bytes().all(|b| b.is_ascii_digit()) {
            let number: u16 = port.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
            return Ok(Port::Number(number, protocol.unwrap_or_default()));
        }
        let name = PortName::new(port).map_err(|_| wrong())?;
        Ok(Port::Name(name, protocol))
    }

    /// As it was asked, the protocol added where it is known.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Port::Number(number, protocol) => format!("{number}/{protocol}"),
            Port::Name(name, Some(protocol)) => format!("{name}/{protocol}"),
            Port::Name(name, None) => name.to_string(),
            Port::Icmp => "icmp".to_owned(),
        }
    }

    /// The port on the pods behind `service` to which this one, of the Service, leads.
    ///
    /// # Errors
    /// Where the Service has no such port.
    pub fn through(&self, service: &Service) -> Result<Port, CommandError> {
        let asked = |port: &&ServicePort| match self {
            Port::Number(number, protocol) => {
                port.port.get() == *number && port.protocol == *protocol
            }
            Port::Name(name, protocol) => {
                port.name.as_deref() == Some(name.as_str())
                    && protocol.is_none_or(|protocol| protocol == port.protocol)
            }
            Port::Icmp => false,
        };
        let Some(found) = service.ports.iter().find(asked) else {
            let has: Vec<String> = service
                .ports
                .iter()
                .map(|port| match &port.name {
                    Some(name) => format!("{}/{} ({name})", port.port, port.protocol),
                    None => format!("{}/{}", port.port, port.protocol),
                })
                .collect();
            let message = format!("Service {} has no port {}", service.key, self.text());
            return Err(CommandError::usage(
                message,
                format!("it has {}", text::join(&has, "and")),
            ));
        };
        Ok(match &found.target {
            None => Port::Number(found.port.get(), found.protocol),
            Some(TargetPort::Number(number)) => Port::Number(number.get(), found.protocol),
            Some(TargetPort::Named(name)) => Port::Name(name.clone(), Some(found.protocol)),
        })
    }

    /// What is sent to `to` in `family`: several where a name means several numbers there.
    ///
    /// # Errors
    /// Where the name means nothing there.
    pub fn traffic(
        &self,
        to: &End,
        family: Family,
        snapshot: &Snapshot,
    ) -> Result<Vec<Traffic>, CommandError> {
        let (name, wanted) = match self {
            Port::Number(port, protocol) => {
                return Ok(vec![Traffic::Port { protocol: *protocol, port: *port }]);
            }
            Port::Icmp => return Ok(vec![Traffic::ping(family)]),
            Port::Name(name, protocol) => (name, protocol),
        };
        let pod = pod_at(to, snapshot);
        let mut all: Vec<Traffic> = pod
            .into_iter()
            .flat_map(|pod| &pod.ports)
            .filter(|port| port.name.as_ref() == Some(name))
            .filter(|port| wanted.is_none_or(|wanted| wanted == port.protocol))
            .map(|port| Traffic::Port { protocol: port.protocol, port: port.number.get() })
            .collect();
        all.sort();
        all.dedup();
        if all.is_empty() { Err(self.unknown(to, name, pod)) } else { Ok(all) }
    }

    fn unknown(&self, to: &End, name: &PortName, pod: Option<&Pod>) -> CommandError {
        let names: Vec<String> = pod
            .into_iter()
            .flat_map(|pod| &pod.ports)
            .filter_map(|port| port.name.as_ref().map(|n| format!("{n}/{}", port.protocol)))
            .collect();
        let bare = names.iter().filter_map(|n| n.split('/').next()).map(str::to_owned);
        let nearest = suggest::nearest(name.as_str(), bare);
        let help = match (pod, names.as_slice()) {
            (None, _) => format!("{to} is no pod, so ask by number"),
            (Some(_), []) => format!("the containers of {to} name no ports; ask by number"),
            (Some(_), names) => {
                format!("the containers of {to} name {}", text::join(names, "and"))
            }
        };
        CommandError::Usage {
            message: format!("`{to}` declares no port called `{}`", self.text()),
            help: match nearest.first() {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => Some(help),
            },
        }
    }
}

/// The pod that an end is.
pub(super) fn pod_at<'a>(end: &End, snapshot: &'a Snapshot) -> Option<&'a Pod> {
    match end {
        End::Pod(key) => snapshot.pods.get(key),
        End::Address(address) => snapshot
            .pods
            .values()
            .find(|pod| pod.is_live() && pod.addresses.iter().any(|own| own == *address)),
        End::Node(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_people_write_them() {
        let name = |text| PortName::new(text).expect(text);
        for (text, port) in [
            ("8080", Port::Number(8080, Protocol::Tcp)),
            ("53/udp", Port::Number(53, Protocol::Udp)),
            ("9/SCTP", Port::Number(9, Protocol::Sctp)),
            ("http", Port::Name(name("http"), None)),
            ("dns/UDP", Port::Name(name("dns"), Some(Protocol::Udp))),
            ("icmp", Port::Icmp),
        ] {
            assert_eq!(Port::parse(text).expect(text), port, "{text}");
        }
        for text in ["0", "65536", "80/foo", "", "Http", "a--b"] {
            assert!(Port::parse(text).is_err(), "{text:?}");
        }
    }
}
