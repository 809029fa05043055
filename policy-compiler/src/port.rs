//! Ports, their names and protocols.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::name::Shared;

/// The transport protocols that a policy can name. Every other protocol is matched only by rules
/// without `ports`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default where none is written.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them, in canonical order.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The one that has this number in the IP header; none for protocols without ports.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for Protocol {
    /// As Kubernetes writes it: `TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// The name of a container port.
///
/// At most 15 characters of `[a-z0-9-]`, at least one letter, no `--`, no `-` at either end
/// (Kubernetes `IsValidPortName`, RFC 6335).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(Arc<str>);

/// Why a text is no port name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no port name: at most 15 characters of a-z, 0-9 and `-`, at least one letter, no `--`, no `-` at an end"
)]
pub struct PortNameError(String);

impl PortName {
    /// Parses a port name.
    ///
    /// # Errors
    /// Where the text breaks the rule above.
    pub fn new(text: &str) -> Result<Self, PortNameError> {
        let ok = (1..=15).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.bytes().any(|b| b.is_ascii_lowercase())
            && !text.contains("--")
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok { Ok(Self(Arc::from(text))) } else { Err(PortNameError(text.to_owned())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Shared for PortName {
    fn shared(&mut self) -> &mut Arc<str> {
        &mut self.0
    }
}

/// Port numbers from `first` to `last`, both included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// The range, or `None` where `last` is below `first`.
    #[must_use]
    pub fn new(first: NonZeroU16, last: NonZeroU16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The range of one port.
    #[must_use]
    pub fn single(port: NonZeroU16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port.
    #[must_use]
    pub fn first(self) -> NonZeroU16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub fn last(self) -> NonZeroU16 {
        self.last
    }

    /// Whether `port` lies within. Port 0 lies in no range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first.get()..=self.last.get()).contains(&port)
    }
}

impl fmt::Display for PortRange {
    /// `80`, or `8000-8010`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}
