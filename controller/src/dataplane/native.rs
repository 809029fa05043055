//! Table `filter` of `nf_tables` where iptables cannot show it: others have put rules of `nft`'s own
//! into it.
//!
//! iptables then writes as ever, but prints nothing of the table. So the kernel is asked over netlink
//! for what a start over must know: the names of all chains, and which rules of the built-in chains
//! lead to ours. Such a rule's words are not known, and it is deleted by its number. What our rules say
//! cannot be compared.
//!
//! An answer that fails or does not come in time fails the reading as a whole.

use std::io;

use netlink_packet_core::NlasIterator;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use policy_compiler::cidr::Family;
use policy_compiler::ruleset::ChainName;

use super::above::Position;
use super::engines::PolicyEngine;
use super::iptables::{FoundHook, FoundTable, HOOKS};
use super::netlink::bound;
use crate::health::Note;

/// `NFNL_SUBSYS_NFTABLES << 8`, with `NFT_MSG_GETCHAIN` and `NFT_MSG_GETRULE`.
const GET_CHAIN: u16 = (10 << 8) | 4;
const GET_RULE: u16 = (10 << 8) | 7;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x1 | 0x300;
/// `NLMSG_ERROR`, `NLMSG_DONE`, and `NLM_F_DUMP_INTR`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const INTERRUPTED: u16 = 0x10;
/// A message's header, and the part that all of netfilter's share.
const HEADER: usize = 16;
const COMMON: usize = 4;
/// How often a list is asked for anew that changed while it was told.
const TRIES: usize = 20;

mod attribute {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CHAIN: u16 = 2;
}

/// Reads it.
///
/// # Errors
/// Where the kernel does not tell.
pub(super) fn read(family: Family) -> io::Result<FoundTable> {
    let mut found = FoundTable { hidden: true, ..FoundTable::default() };
    for chain in ask(family, GET_CHAIN, &[(attribute::TABLE, "filter")])? {
        if text(&chain, attribute::TABLE).as_deref() != Some("filter") {
            continue;
        }
        let Some(name) = text(&chain, attribute::CHAIN_NAME) else { continue };
        found.chains.extend(ChainName::new(&name));
        found.engines.extend(PolicyEngine::of_chain(&name));
    }
    for hook in HOOKS {
        let wanted = [(attribute::TABLE, "filter"), (attribute::RULE_CHAIN, hook.builtin())];
        let rules = ask(family, GET_RULE, &wanted)?;
        let ours = hooks(rules.iter().map(|rule| target(rule)));
        if let Some(first) = ours.first() {
            found.positions.insert(hook, Position::numbered(first.position));
            found.hooks.insert(hook, ours);
        }
    }
    Ok(found)
}

/// Those of a built-in chain's rules that lead to ours, each with the number under which it is deleted
/// once those before it are.
fn hooks(targets: impl Iterator<Item = Option<String>>) -> Vec<FoundHook> {
    let ours = targets.enumerate().filter_map(|(index, target)| {
        Some((index + 1, target.filter(|target| target.starts_with(ChainName::PREFIX))?))
    });
    let hook = |(deleted, (position, target)): (usize, (usize, String))| FoundHook {
        position,
        target,
        words: (position - deleted).to_string(),
    };
    ours.enumerate().map(hook).collect()
}

/// The chain that a rule leads to, whatever else it says.
fn target(rule: &[u8]) -> Option<String> {
    let expressions = nested(rule, attribute::RULE_EXPRESSIONS)?;
    let elements = NlasIterator::new(&expressions[..]).filter_map(Result::ok);
    let mut immediate = elements.filter(|element| {
        let name = text(element.value(), attribute::EXPRESSION_NAME);
        element.kind() == attribute::LIST_ELEMENT && name.as_deref() == Some("immediate")
    });
    immediate.find_map(|element| {
        let data = nested(element.value(), attribute::EXPRESSION_DATA)?;
        let value = nested(&data, attribute::IMMEDIATE_DATA)?;
        text(&nested(&value, attribute::DATA_VERDICT)?, attribute::VERDICT_CHAIN)
    })
}

fn nested(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).filter_map(Result::ok);
    all.find(|nla| nla.kind() == kind).map(|nla| nla.value().to_vec())
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    let bytes = nested(attributes, kind)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    String::from_utf8(bytes.to_vec()).ok()
}

/// The attributes of each object in a list.
fn ask(family: Family, kind: u16, wanted: &[(u16, &str)]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    bound(&socket)?;
    for _ in 0..TRIES {
        socket.send(&question(family, kind, wanted), 0)?;
        if let Some(objects) = answer(&socket)? {
            return Ok(objects);
        }
    }
    Err(io::Error::other("the list changes whenever it is told"))
}

fn question(family: Family, kind: u16, wanted: &[(u16, &str)]) -> Vec<u8> {
    // NFPROTO_IPV4 and NFPROTO_IPV6, which are AF_INET and AF_INET6.
    let family = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    let mut body = vec![family, 0, 0, 0];
    for (attribute, value) in wanted {
        let length = u16::try_from(4 + value.len() + 1).unwrap_or(u16::MAX);
        body.extend(length.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(value.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// What the kernel tells, or nothing where that changed meanwhile.
fn answer(socket: &Socket) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut objects = Vec::new();
    let mut interrupted = false;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let (message, behind) =
                split(rest).ok_or_else(|| io::Error::other("a broken answer"))?;
            interrupted |= message.flags & INTERRUPTED != 0;
            match message.kind {
                DONE => return Ok((!interrupted).then_some(objects)),
                ERROR => return Err(refusal(message.body)),
                _ => objects.push(message.body.get(COMMON..).unwrap_or_default().to_vec()),
            }
            rest = behind;
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

/// The first message of a datagram, and what is behind it.
fn split(datagram: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let word = |at: usize| Some(u16::from_ne_bytes(datagram.get(at..at + 2)?.try_into().ok()?));
    let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    let body = datagram.get(HEADER..length)?;
    let behind = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Message { kind: word(4)?, flags: word(6)?, body }, behind))
}

fn refusal(body: &[u8]) -> io::Error {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    io::Error::from_raw_os_error(code.unwrap_or_default().saturating_neg())
}

/// What is told of a family whose table is hidden so.
pub(super) fn note(family: Family) -> (String, Note) {
    let text = format!(
        "{family}: table filter holds rules of `nft`'s own, so that iptables cannot show it: our rules are in \
         force, their names and hooks are watched, and what they say is not compared"
    );
    (format!("native nft rules, {family}"), Note { text, since: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_deleted_by_the_number_that_is_left_to_them() {
        let targets = [None, Some("NPC-FORWARD"), Some("DOCKER"), Some("NPC-OLD"), Some("NPC-OLD")];
        let found = hooks(targets.into_iter().map(|target| target.map(str::to_owned)));
        let hook = |position, target: &str, words: &str| FoundHook {
            position,
            target: target.to_owned(),
            words: words.to_owned(),
        };
        let expected =
            [hook(2, "NPC-FORWARD", "2"), hook(4, "NPC-OLD", "3"), hook(5, "NPC-OLD", "3")];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_broken_answer_is_no_message() {
        let whole = question(Family::V4, GET_CHAIN, &[(attribute::TABLE, "filter")]);
        assert!(split(&whole).is_some_and(|(message, behind)| {
            message.kind == GET_CHAIN
                && behind.is_empty()
                && message.body.len() == whole.len() - HEADER
        }));
        for cut in 0..whole.len() {
            assert!(split(&whole[..cut]).is_none(), "{cut}");
        }
        assert!(split(&[0; 64]).is_none(), "a length of nothing leads nowhere");
    }
}
