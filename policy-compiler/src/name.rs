//! Names that Kubernetes would accept, and the keys made of them.
//!
//! Source: Kubernetes "Object Names and IDs", RFC 1123 and RFC 1035 as the API server applies them.

use std::fmt;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Longer than the kind of name allows.
    #[error("must be no more than {limit} characters, has {length}")]
    TooLong {
        /// The most it may have.
        limit: usize,
        /// What it has.
        length: usize,
    },
    /// A character, or a place for one, that the kind of name forbids.
    #[error("`{text}` must consist of {allowed}, and start and end with a letter or a digit")]
    Malformed {
        /// The text.
        text: String,
        /// The characters allowed, in words.
        allowed: &'static str,
    },
}

/// Whether `text` is a DNS label: lower case letters, digits and `-`, letter or digit at both ends.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if inner(a) && inner(z))
        && bytes.iter().all(|&b| inner(b) || b == b'-')
}

fn check_length(text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        length if length > limit => Err(NameError::TooLong { limit, length }),
        _ => Ok(()),
    }
}

/// A text that may share the memory of another that is equal.
pub(crate) trait Shared {
    /// What may be replaced by one that is equal, and by no other.
    fn shared(&mut self) -> &mut Arc<str>;
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// Says which rule of Kubernetes the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Shared for $name {
            fn shared(&mut self) -> &mut Arc<str> {
                &mut self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

fn check_label(text: &str) -> Result<(), NameError> {
    check_length(text, 63)?;
    if is_label(text) {
        Ok(())
    } else {
        Err(NameError::Malformed {
            text: text.to_owned(),
            allowed: "lower case letters, digits and `-`",
        })
    }
}

fn check_subdomain(text: &str) -> Result<(), NameError> {
    check_length(text, 253)?;
    if text.split('.').all(is_label) {
        Ok(())
    } else {
        Err(NameError::Malformed {
            text: text.to_owned(),
            allowed: "lower case letters, digits, `-` and `.`",
        })
    }
}

name_type!(
    /// The name of a namespace: a DNS label of at most 63 characters.
    NamespaceName,
    check_label
);
name_type!(
    /// The name of an object in a namespace: a DNS subdomain of at most 253 characters.
    ObjectName,
    check_subdomain
);
name_type!(
    /// The name of a node: a DNS subdomain of at most 253 characters.
    NodeName,
    check_subdomain
);

/// The name of one of very many objects: without what sharing it takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnName(Box<str>);

impl OwnName {
    /// The name, to be shared.
    pub(crate) fn name(&self) -> ObjectName {
        ObjectName(Arc::from(&*self.0))
    }

    /// The name as text; their order is that of the names.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&ObjectName> for OwnName {
    fn from(name: &ObjectName) -> Self {
        Self(Box::from(name.as_str()))
    }
}

impl fmt::Debug for OwnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Namespace and name, which together name one pod, one policy or one workload.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The name.
    pub name: ObjectName,
}

impl ObjectKey {
    /// The key of `namespace/name`.
    ///
    /// # Errors
    /// Where either is not a valid name.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { namespace: NamespaceName::new(namespace)?, name: ObjectName::new(name)? })
    }
}

impl fmt::Display for ObjectKey {
    /// `namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}/{}\"", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_label_and_an_object_name_a_subdomain() {
        for (text, label, subdomain) in [
            ("shop", true, true),
            ("0web", true, true),
            ("a.b", false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            ("Shop", false, false),
            ("a_b", false, false),
            (&"a".repeat(63), true, true),
            (&"a".repeat(64), false, true),
            (&"a".repeat(254), false, false),
        ] {
            assert_eq!(NamespaceName::new(text).is_ok(), label, "namespace {text:?}");
            assert_eq!(ObjectName::new(text).is_ok(), subdomain, "object {text:?}");
        }
    }
}
