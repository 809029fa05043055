//! The ports that rules allow, as exact sets.
//!
//! Port 0 counts: an item without a port means every number there is, a range never means 0. A name
//! is a set of its own, since it stands for other numbers on every destination; whatever it stands for
//! lies from 1 to 65535.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{PortMatch, PortNumbers, Ports};
use crate::port::{PortName, PortRange, Protocol};

/// A union of `ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortSet {
    /// Every port of every protocol, and protocols that have none.
    everything: bool,
    /// Numbers, each a range with both ends, sorted and apart.
    numbers: BTreeMap<Protocol, Vec<(u16, u16)>>,
    names: BTreeSet<(Protocol, PortName)>,
}

impl PortSet {
    /// Adds what `ports` allow.
    pub(super) fn add(&mut self, ports: &Ports) {
        match ports {
            Ports::Any => self.everything = true,
            Ports::Listed(list) => {
                for port in list {
                    self.add_one(port);
                }
            }
        }
    }

    fn add_one(&mut self, port: &PortMatch) {
        if let PortNumbers::Named(name) = &port.numbers {
            self.names.insert((port.protocol, name.clone()));
        } else if let Some(range) = numbers_of(port) {
            let ranges = self.numbers.entry(port.protocol).or_default();
            ranges.push(range);
            ranges.sort_unstable();
            let mut united: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
            for (first, last) in ranges.drain(..) {
                match united.last_mut() {
                    Some(before) if first <= before.1.saturating_add(1) => {
                        before.1 = before.1.max(last);
                    }
                    _ => united.push((first, last)),
                }
            }
            *ranges = united;
        }
    }

    /// Whether it allows all that `ports` allow, whatever names stand for.
    pub(super) fn includes(&self, ports: &Ports) -> bool {
        match ports {
            Ports::Any => self.everything,
            Ports::Listed(list) => list.iter().all(|port| self.includes_one(port)),
        }
    }

    pub(super) fn includes_one(&self, port: &PortMatch) -> bool {
        if self.everything {
            return true;
        }
        let (first, last) = match &port.numbers {
            PortNumbers::Named(name) if self.names.contains(&(port.protocol, name.clone())) => {
                return true;
            }
            PortNumbers::Named(_) => (1, u16::MAX),
            _ => match numbers_of(port) {
                Some(range) => range,
                None => return false,
            },
        };
        let ranges = self.numbers.get(&port.protocol);
        ranges.into_iter().flatten().any(|range| range.0 <= first && last <= range.1)
    }

    /// Whether it allows `number` of `protocol`, names aside.
    pub(super) fn has_number(&self, protocol: Protocol, number: u16) -> bool {
        let ranges = self.numbers.get(&protocol).into_iter().flatten();
        self.everything || ranges.into_iter().any(|r| (r.0..=r.1).contains(&number))
    }

    /// The names of `protocol` in it.
    pub(super) fn names(&self, protocol: Protocol) -> impl Iterator<Item = &PortName> {
        self.names.iter().filter(move |(of, _)| *of == protocol).map(|(_, name)| name)
    }
}

/// The numbers of an item that is no name.
fn numbers_of(port: &PortMatch) -> Option<(u16, u16)> {
    match &port.numbers {
        PortNumbers::Any => Some((0, u16::MAX)),
        PortNumbers::Range(range) => Some((range.first().get(), range.last().get())),
        PortNumbers::Named(_) => None,
    }
}

/// What both allow, each piece in words: `443/TCP`; none where nothing is known to be in both.
pub(super) fn common(a: &Ports, b: &Ports) -> Vec<String> {
    match (a, b) {
        (Ports::Any, Ports::Any) => vec!["every port".to_owned()],
        (Ports::Any, Ports::Listed(list)) | (Ports::Listed(list), Ports::Any) => {
            list.iter().map(words).collect()
        }
        (Ports::Listed(a), Ports::Listed(b)) => {
            let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
            pairs.filter_map(|(x, y)| common_item(x, y)).map(|port| words(&port)).collect()
        }
    }
}

fn common_item(a: &PortMatch, b: &PortMatch) -> Option<PortMatch> {
    if a.protocol != b.protocol {
        return None;
    }
    let numbers = match (&a.numbers, &b.numbers) {
        (PortNumbers::Any, other) | (other, PortNumbers::Any) => other.clone(),
        (PortNumbers::Range(x), PortNumbers::Range(y)) => {
            let range = PortRange::new(x.first().max(y.first()), x.last().min(y.last()))?;
            PortNumbers::Range(range)
        }
        (PortNumbers::Named(x), PortNumbers::Named(y)) if x == y => PortNumbers::Named(x.clone()),
        _ => return None,
    };
    Some(PortMatch { numbers, ..a.clone() })
}

/// `443/TCP`, `every UDP port`.
pub(super) fn words(port: &PortMatch) -> String {
    match &port.numbers {
        PortNumbers::Any => format!("every {} port", port.protocol),
        _ => port.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::prelude::*;

    use super::*;
    use crate::document::Location;

    fn item(protocol: Protocol, numbers: PortNumbers) -> PortMatch {
        PortMatch { protocol, numbers, location: Location::default() }
    }

    fn range(first: u16, last: u16) -> PortNumbers {
        let number = |n| NonZeroU16::new(n).unwrap();
        PortNumbers::Range(PortRange::new(number(first), number(last)).unwrap())
    }

    fn named(name: &str) -> PortNumbers {
        PortNumbers::Named(PortName::new(name).unwrap())
    }

    fn set(items: Vec<PortMatch>) -> PortSet {
        let mut set = PortSet::default();
        set.add(&Ports::Listed(items));
        set
    }

    #[test]
    fn ranges_that_touch_are_one_and_a_name_is_only_in_itself_or_all() {
        use Protocol::{Tcp, Udp};
        let touching = set(vec![item(Tcp, range(1, 79)), item(Tcp, range(80, 65535))]);
        let tcp = set(vec![item(Tcp, PortNumbers::Any)]);
        let http = set(vec![item(Tcp, named("http"))]);
        for (set, inner, included) in [
            (&touching, item(Tcp, range(70, 90)), true),
            (&touching, item(Tcp, named("http")), true),
            (&touching, item(Tcp, PortNumbers::Any), false),
            (&touching, item(Udp, range(80, 80)), false),
            (&tcp, item(Tcp, PortNumbers::Any), true),
            (&tcp, item(Tcp, named("http")), true),
            (&tcp, item(Udp, named("http")), false),
            (&http, item(Tcp, named("http")), true),
            (&http, item(Tcp, named("https")), false),
            (&http, item(Tcp, range(80, 80)), false),
        ] {
            assert_eq!(set.includes_one(&inner), included, "{inner} in {set:?}");
        }
        assert!(!touching.includes(&Ports::Any) && !tcp.includes(&Ports::Any));
    }

    proptest! {
        #[test]
        fn inclusion_is_what_trying_all_numbers_says(
            items in proptest::collection::vec((1..20_u16, 0..6_u16), 0..5),
            first in 1..20_u16,
            more in 0..6_u16,
        ) {
            let items = items.iter().map(|(f, m)| item(Protocol::Tcp, range(*f, f + m))).collect();
            let set = set(items);
            let all = (first..=first + more).all(|n| set.has_number(Protocol::Tcp, n));
            prop_assert_eq!(set.includes_one(&item(Protocol::Tcp, range(first, first + more))), all);
        }
    }

    #[test]
    fn what_two_allow_in_common_is_named() {
        use Protocol::{Tcp, Udp};
        let listed = Ports::Listed;
        for (a, b, both) in [
            (Ports::Any, Ports::Any, vec!["every port"]),
            (Ports::Any, listed(vec![item(Tcp, range(443, 443))]), vec!["443/TCP"]),
            (
                listed(vec![item(Tcp, range(1, 500)), item(Udp, PortNumbers::Any)]),
                listed(vec![item(Tcp, range(443, 900)), item(Udp, named("dns"))]),
                vec!["443-500/TCP", "dns/UDP"],
            ),
            (listed(vec![item(Tcp, range(1, 5))]), listed(vec![item(Tcp, range(6, 9))]), vec![]),
            (listed(vec![item(Tcp, named("a"))]), listed(vec![item(Tcp, range(1, 9))]), vec![]),
        ] {
            assert_eq!(common(&a, &b), both);
        }
    }
}
