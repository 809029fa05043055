//! What sets are called, and what that says of them.
//!
//! A name takes no more room than its text would, and nothing beside it: every edit of a set finds the set by
//! its name.

use std::fmt;

use crate::cidr::Family;

/// The name of a set of ours, at most 31 characters.
///
/// A set of pods carries a generation, and so does that of known addresses: to change members and
/// rules together, the set is made anew under the next one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName {
    /// The family of its addresses.
    pub family: Family,
    /// What it holds.
    pub role: SetRole,
}

/// What tells a set from others of its role. It lies in the name itself: names are compared with every edit of
/// a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetHash([u8; Self::LIMIT]);

impl SetHash {
    /// The most characters that a name has room for.
    pub const LIMIT: usize = 16;

    /// Takes a hash. `None` where it is empty, too long, or has characters besides letters and digits.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let ok = (1..=Self::LIMIT).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric());
        ok.then(|| Self::of(text))
    }

    /// The same of a text of which that is known. What is too long is left out.
    pub(crate) fn of(text: &str) -> Self {
        debug_assert!(text.len() <= Self::LIMIT, "`{text}` is no hash of a set");
        let mut bytes = [0; Self::LIMIT];
        for (place, byte) in bytes.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Self(bytes)
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::LIMIT);
        str::from_utf8(&self.0[..length]).unwrap_or_default()
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a set holds, and so how it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetRole {
    /// The addresses of pods that a definition selects: `npc4-p-<hash>-<generation>`.
    Pods {
        /// Hash of the canonical definition.
        hash: SetHash,
        /// Counts the times that it was made anew.
        generation: Generation,
    },
    /// The networks of ipBlocks, named by their content and never edited: `npc4-n-<hash>`.
    Networks {
        /// Hash of the content.
        hash: SetHash,
    },
    /// The local addresses isolated in any direction: `npc4-iso`.
    Isolated,
    /// The addresses in the node's pod networks whose owner is known: `npc4-known-<generation>`. Rules
    /// deny what is not in it, so that a member that is added opens.
    Known {
        /// Counts the times that it was made anew.
        generation: Generation,
    },
}

impl SetRole {
    /// The generation, of a set that has one.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        match self {
            SetRole::Pods { generation, .. } | SetRole::Known { generation } => Some(*generation),
            SetRole::Networks { .. } | SetRole::Isolated => None,
        }
    }

    /// The same in that generation, if it has one.
    #[must_use]
    pub fn in_generation(&self, generation: Generation) -> Self {
        match self {
            SetRole::Pods { hash, .. } => SetRole::Pods { hash: *hash, generation },
            SetRole::Known { .. } => SetRole::Known { generation },
            SetRole::Networks { .. } | SetRole::Isolated => self.clone(),
        }
    }
}

/// The generation of a set. Written in base 36, at most 6 characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The greatest whose notation still fits a set's name.
    pub const LIMIT: u32 = 36_u32.pow(6) - 1;

    /// The next one; after the greatest comes 0 again.
    #[must_use]
    pub fn next(self) -> Self {
        Self(if self.0 >= Self::LIMIT { 0 } else { self.0 + 1 })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::new();
        let mut rest = self.0;
        loop {
            digits.push(char::from_digit(rest % 36, 36).unwrap_or('0'));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        f.write_str(&digits.into_iter().rev().collect::<String>())
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "npc4",
            Family::V6 => "npc6",
        };
        let text = match &self.role {
            SetRole::Pods { hash, generation } => format!("{family}-p-{hash}-{generation}"),
            SetRole::Networks { hash } => format!("{family}-n-{hash}"),
            SetRole::Isolated => format!("{family}-iso"),
            SetRole::Known { generation } => format!("{family}-known-{generation}"),
        };
        f.pad(&text)
    }
}

impl SetName {
    /// The same in that generation, if it has one.
    #[must_use]
    pub fn in_generation(&self, generation: Generation) -> Self {
        Self { family: self.family, role: self.role.in_generation(generation) }
    }
}

impl fmt::Debug for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_it_was_made_of_and_has_its_order() {
        let texts = ["2", "a", "ab", "abcdefghijklmno", "abcdefghijklmnop", "b"];
        let hashes = texts.map(|text| SetHash::new(text).unwrap());
        assert_eq!(hashes.map(|hash| hash.to_string()), texts);
        assert!(hashes.is_sorted_by(|one, other| one < other));
        for text in ["", "abcdefghijklmnopq", "a-b", "a\0", "ä"] {
            assert_eq!(SetHash::new(text), None, "{text:?}");
        }
    }
}
