//! Names made of content: hashes over length-prefixed fields, so that no two lists of fields are
//! the same bytes, and a registry that notices when two contents get one name all the same.
//!
//! A name carries 80 bits of SHA-256. Should two contents ever share them, the second is refused,
//! and whoever asked for it must do without, which is to deny.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::ruleset::{Match, Rule, SetName, SetRole, Side, Target};

/// A hash being fed.
pub(super) struct Digest(Sha256);

/// The whole hash of some content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fingerprint([u8; 32]);

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Digest {
    /// A hash of content of this kind: contents of two kinds never meet.
    pub(super) fn new(kind: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.text(kind);
        digest
    }

    /// Feeds one field.
    pub(super) fn text(&mut self, field: &str) -> &mut Self {
        self.number(field.len() as u64);
        self.0.update(field.as_bytes());
        self
    }

    /// Feeds one number, such as the length of the list that follows.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// The hash of all that was fed.
    pub(super) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }

    /// Feeds a rule, its sets without their generation: a set that is made anew does not make
    /// another body.
    pub(super) fn rule(&mut self, rule: &Rule) -> &mut Self {
        self.number(rule.matches.len() as u64);
        for condition in &rule.matches {
            self.condition(condition);
        }
        self.text(rule.comment.as_deref().unwrap_or_default());
        match &rule.target {
            Target::Return => self.text("return"),
            Target::Jump(chain) => self.text("jump").text(chain.as_str()),
            Target::Goto(chain) => self.text("goto").text(chain.as_str()),
            Target::Log(notice) => self.text("log").text(notice.prefix()),
            Target::Deny(action) => self.text("deny").number(*action as u64),
        }
    }

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::InInterface(name) => self.text("in").text(name.as_str()),
            Match::InInterfaces(prefix) => self.text("in any of").text(prefix),
            Match::Bridged => self.text("bridged"),
            Match::Source(net) => self.text("source").text(&net.to_string()),
            Match::Destination(net) => self.text("destination").text(&net.to_string()),
            Match::Protocol(protocol) => self.text("protocol").number(protocol.number().into()),
            Match::Icmpv6Type(kind) => self.text("icmpv6").number((*kind).into()),
            Match::NotSyn => self.text("not syn"),
            Match::DestinationPort(range) => self.text("port").text(&range.to_string()),
            Match::DestinationPorts(ranges) => {
                self.text("ports").number(ranges.len() as u64);
                for range in ranges {
                    self.text(&range.to_string());
                }
                self
            }
            Match::Set { set, side } => self.lookup("set", set, *side),
            Match::NotInSet { set, side } => self.lookup("not in set", set, *side),
            Match::NotEstablished => self.text("not established"),
            Match::Established => self.text("established"),
            Match::New => self.text("new"),
            Match::NotOriginalDestination(address) => {
                self.text("not originally to").text(&address.to_string())
            }
            Match::ToLocal => self.text("to local"),
            Match::ToBroadcast => self.text("to broadcast"),
            Match::FromLocal => self.text("from local"),
        };
    }

    fn lookup(&mut self, how: &str, set: &SetName, side: Side) -> &mut Self {
        self.text(how).set(set);
        self.text(match side {
            Side::Source => "source",
            Side::Destination => "destination",
        })
    }

    fn set(&mut self, set: &SetName) {
        self.text(&set.family.to_string());
        match &set.role {
            SetRole::Pods { hash, .. } => self.text("pods").text(hash.as_str()),
            SetRole::Networks { hash } => self.text("networks").text(hash.as_str()),
            SetRole::Isolated => self.text("isolated"),
            SetRole::Known { .. } => self.text("known"),
        };
    }
}

impl Fingerprint {
    /// The first 80 bits as 16 characters of base32, which is what names carry.
    pub(super) fn short(&self) -> String {
        let mut text = String::with_capacity(16);
        for chunk in self.0[..10].chunks(5) {
            let bits = chunk.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            for i in (0..8).rev() {
                let digit = (bits >> (5 * i)) & 31;
                text.push(char::from(ALPHABET[usize::try_from(digit).unwrap_or(0)]));
            }
        }
        text
    }
}

/// Which content has which name.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    names: BTreeMap<(&'static str, String), Fingerprint>,
    /// How many there were after the first use.
    began_with: usize,
    /// Whether a name was refused since that was last asked.
    refused: bool,
}

/// Two contents have one name; the first keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collision {
    /// The name that both have.
    pub(super) name: String,
}

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// How many names there were when it was settled first.
    pub(super) fn began_with(&self) -> usize {
        self.began_with
    }

    /// All names of this time are taken; whether one was refused.
    pub(super) fn settle(&mut self) -> bool {
        if self.began_with == 0 {
            self.began_with = self.names.len();
        }
        std::mem::take(&mut self.refused)
    }

    /// The short name of some content of a kind.
    ///
    /// # Errors
    /// Where other content of that kind has it.
    pub(super) fn name(
        &mut self,
        kind: &'static str,
        fingerprint: Fingerprint,
    ) -> Result<String, Collision> {
        let name = fingerprint.short();
        let holder = *self.names.entry((kind, name.clone())).or_insert(fingerprint);
        if holder == fingerprint {
            return Ok(name);
        }
        self.refused = true;
        Err(Collision { name })
    }
}

#[cfg(test)]
impl Registry {
    /// Gives a name to content that nothing else has.
    pub(super) fn take(&mut self, kind: &'static str, name: &str) {
        self.names.insert((kind, name.to_owned()), Fingerprint([0; 32]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> Fingerprint {
        let mut digest = Digest::new("test");
        for field in fields {
            digest.text(field);
        }
        digest.finish()
    }

    #[test]
    fn a_name_is_sixteen_characters_of_base32() {
        let name = of(&["shop", "web"]).short();
        assert_eq!(name.len(), 16);
        assert!(name.bytes().all(|b| ALPHABET.contains(&b)), "{name}");
    }

    #[test]
    fn fields_that_read_alike_when_joined_have_names_of_their_own() {
        assert_ne!(of(&["team1", "0web"]), of(&["team10", "web"]));
        assert_ne!(of(&["a", ""]), of(&["", "a"]));
        let long = "a".repeat(252);
        assert_ne!(
            of(&["x", &format!("{long}b")]).short(),
            of(&["x", &format!("{long}c")]).short()
        );
    }

    #[test]
    fn a_collision_is_noticed_and_the_first_keeps_the_name() {
        let (mut one, mut two) = ([7; 32], [7; 32]);
        (one[31], two[31]) = (1, 2);
        let mut registry = Registry::default();
        let name = Fingerprint(one).short();
        assert_eq!(registry.name("E", Fingerprint(one)), Ok(name.clone()));
        assert_eq!(registry.name("E", Fingerprint(two)), Err(Collision { name: name.clone() }));
        assert_eq!(registry.name("E", Fingerprint(one)), Ok(name.clone()));
        assert_eq!(registry.name("I", Fingerprint(two)), Ok(name));
    }
}
