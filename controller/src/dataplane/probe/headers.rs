//! The headers of our sets: what they are and how many members they have, without the members.
//!
//! A member that was swapped for another does not show here. What the kernel of the day adds to a header
//! is passed over, and so is a count where an older one gives none.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{DefaultNla, NLM_F_DUMP, Nla, NlasIterator};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    NetfilterSubsystem,
};
use policy_compiler::cidr::Family;

use super::netfilter::{Netfilter, ProbeError};
use crate::dataplane::ipset::prefix;
use crate::dataplane::verify::reading::CAPACITY;

/// Of the kernel's `ip_set` over netlink.
const SUBSYSTEM: u8 = 6;
const COMMAND_LIST: u8 = 7;
/// The oldest protocol that every kernel still speaks.
const PROTOCOL: u8 = 6;
/// Without members.
const LIST_HEADER: u32 = 1 << 2;
/// What a number of an attribute may have besides: that it is nested, and in which order its bytes are.
const KIND: u16 = 0x3fff;

mod attribute {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const TYPE: u16 = 3;
    pub(super) const FAMILY: u16 = 5;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const DATA: u16 = 7;
    /// Within the data.
    pub(super) const TIMEOUT: u16 = 6;
    pub(super) const EXTENSIONS: u16 = 8;
    pub(super) const CAPACITY: u16 = 19;
    pub(super) const NETMASK: u16 = 20;
    pub(super) const ELEMENTS: u16 = 24;
}

/// The header of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::dataplane) struct Header {
    /// Its type, such as `hash:ip`.
    pub(in crate::dataplane) kind: String,
    /// How many members it has, where the kernel tells.
    pub(in crate::dataplane) elements: Option<u32>,
    /// Whether it is of the other family, smaller than ours are made, or has an option that none of ours
    /// has.
    pub(in crate::dataplane) foreign: bool,
}

/// Headers by the names of sets.
pub(in crate::dataplane) type Headers = BTreeMap<String, Header>;

/// Reads those of our sets, by family; takes a fifth of a millisecond where there are few.
pub(super) fn read(netfilter: &mut Netfilter) -> Result<[Headers; 2], ProbeError> {
    let attributes = vec![
        DefaultNla::new(attribute::PROTOCOL, vec![PROTOCOL]),
        DefaultNla::new(attribute::FLAGS, LIST_HEADER.to_be_bytes().to_vec()),
    ];
    let question = NetfilterMessageInner::Other {
        subsys: NetfilterSubsystem::Other(SUBSYSTEM),
        message_type: COMMAND_LIST,
        attributes,
    };
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
    let mut found = Family::ALL.map(|family| (family, Headers::new()));
    netfilter.ask(NetfilterMessage::new(header, question), NLM_F_DUMP, |part| {
        if let NetfilterMessageInner::Other { attributes, .. } = part {
            let name = text(&attributes, attribute::NAME).unwrap_or_default();
            for (family, headers) in &mut found {
                if name.starts_with(prefix(*family)) {
                    headers.insert(name.clone(), header_of(*family, &attributes)?);
                }
            }
        }
        Ok(())
    })?;
    Ok(found.map(|(_, headers)| headers))
}

fn header_of(family: Family, attributes: &[DefaultNla]) -> Result<Header, ProbeError> {
    let unreadable = |what: &str| ProbeError::Answer(format!("a set has no {what}"));
    let data = value(attributes, attribute::DATA).ok_or_else(|| unreadable("header"))?;
    let data: Vec<DefaultNla> = NlasIterator::new(data.as_slice())
        .map(|part| part.and_then(|part| netlink_packet_core::Parseable::parse(&part)))
        .collect::<Result<_, _>>()
        .map_err(|error| ProbeError::Answer(error.to_string()))?;
    let address_family = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    let odd = [attribute::TIMEOUT, attribute::EXTENSIONS, attribute::NETMASK];
    let foreign = value(attributes, attribute::FAMILY) != Some(vec![address_family])
        || number(&data, attribute::CAPACITY).is_some_and(|most| u64::from(most) < CAPACITY)
        || odd.iter().any(|kind| value(&data, *kind).is_some());
    Ok(Header {
        kind: text(attributes, attribute::TYPE).ok_or_else(|| unreadable("type"))?,
        elements: number(&data, attribute::ELEMENTS),
        foreign,
    })
}

fn value(attributes: &[DefaultNla], kind: u16) -> Option<Vec<u8>> {
    let found = attributes.iter().find(|attribute| attribute.kind() & KIND == kind)?;
    let mut value = vec![0; found.value_len()];
    found.emit_value(&mut value);
    Some(value)
}

fn number(attributes: &[DefaultNla], kind: u16) -> Option<u32> {
    value(attributes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

fn text(attributes: &[DefaultNla], kind: u16) -> Option<String> {
    let bytes = value(attributes, kind)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Whether the sets may be others than those that were made: `wanted` are their names, types and
/// numbers of members. What the kernel has not let go of yet may be there besides.
pub(in crate::dataplane) fn differ<'a>(
    wanted: impl Iterator<Item = (String, &'a str, usize)>,
    given_up: &BTreeSet<String>,
    found: &Headers,
) -> bool {
    let mut known = 0;
    for (name, kind, members) in wanted {
        let Some(header) = found.get(&name) else { return true };
        known += 1;
        let as_many = |elements: u32| usize::try_from(elements) == Ok(members);
        if header.foreign || header.kind != kind || !header.elements.is_none_or(as_many) {
            return true;
        }
    }
    // A name that is wanted is none that is given up.
    known + given_up.iter().filter(|name| found.contains_key(*name)).count() != found.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: &str, elements: Option<u32>) -> Header {
        Header { kind: kind.to_owned(), elements, foreign: false }
    }

    fn headers(all: &[(&str, Header)]) -> Headers {
        all.iter().map(|(name, header)| ((*name).to_owned(), header.clone())).collect()
    }

    #[test]
    fn a_header_differs_by_name_type_options_and_number_of_members() {
        let wanted = || {
            [("npc4-iso", "hash:ip", 2), ("npc4-n-a", "hash:net", 1)]
                .map(|(name, kind, members)| (name.to_owned(), kind, members))
                .into_iter()
        };
        let iso = |header: Header| {
            [("npc4-iso", header), ("npc4-n-a", self::header("hash:net", Some(1)))]
        };
        let same = iso(header("hash:ip", Some(2)));
        let foreign = Header { foreign: true, ..header("hash:ip", Some(2)) };
        let with = |name: &'static str| [&same[..], &[(name, header("hash:ip", None))]].concat();
        let given_up = BTreeSet::from(["npc4-p-a-0".to_owned(), "npc4-p-gone-0".to_owned()]);
        for (name, found, expected) in [
            ("the same", same.to_vec(), false),
            ("no count", iso(header("hash:ip", None)).to_vec(), false),
            ("a member less", iso(header("hash:ip", Some(1))).to_vec(), true),
            ("another type", iso(header("hash:net", Some(2))).to_vec(), true),
            ("another option", iso(foreign).to_vec(), true),
            ("a set less", same[..1].to_vec(), true),
            ("a set more", with("npc4-p-b-0"), true),
            ("one that is given up", with("npc4-p-a-0"), false),
        ] {
            assert_eq!(differ(wanted(), &given_up, &headers(&found)), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_header() {
        let named = DefaultNla::new(attribute::TYPE, b"hash:ip\0".to_vec());
        let broken = DefaultNla::new(attribute::DATA, vec![3, 0, 1]);
        for attributes in [vec![], vec![named.clone()], vec![named, broken]] {
            assert!(header_of(Family::V4, &attributes).is_err(), "{attributes:?}");
        }
    }
}
