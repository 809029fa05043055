//! The rules by their stable ids, and the page that explains each.

use std::fmt;
use std::str::FromStr;

use crate::decode::nearest;
use crate::diagnostic::Severity;

/// One rule of the lint. Its id never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// PC000.
    Suppression,
    /// PC001.
    Invalid,
    /// PC002.
    HostBits,
    /// PC003.
    InertRules,
    /// PC004.
    TypesOmitted,
    /// PC005.
    EmptyEgress,
    /// PC006.
    ProtocolOmitted,
    /// PC007.
    Duplicate,
    /// PC008.
    Indentation,
    /// PC010.
    SelectsNoPod,
    /// PC011.
    NoSuchNamespace,
    /// PC012.
    NoSuchPeer,
    /// PC013.
    UnresolvedPort,
    /// PC014.
    ServicePort,
    /// PC015.
    ServiceRange,
    /// PC016.
    PodAddresses,
    /// PC017.
    ExceptUndone,
    /// PC018.
    HostNetwork,
    /// PC020.
    NoDns,
    /// PC021.
    AllowAll,
    /// PC022.
    Shadowed,
    /// PC023.
    NoDefaultDeny,
    /// PC024.
    OpenToWorld,
    /// PC025.
    OneSided,
    /// PC026.
    AuditOnly,
}

/// What is written about a rule.
struct Entry {
    rule: Rule,
    id: &'static str,
    title: &'static str,
    severity: Severity,
    page: &'static str,
    wrong: &'static str,
    right: &'static str,
}

macro_rules! entries {
    ($($rule:ident $id:literal $severity:ident $title:literal;)*) => {
        const ENTRIES: &[Entry] = &[$(Entry {
            rule: Rule::$rule,
            id: $id,
            title: $title,
            severity: Severity::$severity,
            page: include_str!(concat!("pages/", $id, ".md")),
            wrong: include_str!(concat!("pages/", $id, "-wrong.yaml")),
            right: include_str!(concat!("pages/", $id, "-right.yaml")),
        }),*];
        impl Rule {
            /// All of them, in the order of their ids.
            pub const ALL: &'static [Rule] = &[$(Rule::$rule),*];
        }
    };
}

entries! {
    Suppression "PC000" Warning "a suppression comment is wrong or suppresses nothing";
    Invalid "PC001" Error "invalid, as the API server would say it";
    HostBits "PC002" Warning "a network with host bits or leading zeros";
    InertRules "PC003" Warning "rules of a type that policyTypes lacks";
    TypesOmitted "PC004" Warning "policyTypes is omitted";
    EmptyEgress "PC005" Warning "`egress: []` without the type does not isolate egress";
    ProtocolOmitted "PC006" Warning "protocol is omitted where TCP is hardly meant";
    Duplicate "PC007" Warning "two policies of one name";
    Indentation "PC008" Warning "one peer or two: the indentation of a selector";
    SelectsNoPod "PC010" Warning "the policy selects no pod";
    NoSuchNamespace "PC011" Warning "a peer's namespace is not there";
    NoSuchPeer "PC012" Warning "a peer selects no pod";
    UnresolvedPort "PC013" Warning "a port name that no destination declares";
    ServicePort "PC014" Warning "a Service's port where the target port counts";
    ServiceRange "PC015" Warning "an ipBlock covers addresses of Services";
    PodAddresses "PC016" Warning "an ipBlock covers addresses of pods";
    ExceptUndone "PC017" Warning "an except that another rule undoes";
    HostNetwork "PC018" Warning "the policy selects a pod of the host's network";
    NoDns "PC020" Warning "egress is isolated and DNS is not allowed";
    AllowAll "PC021" Warning "an allow-all overrides a restrictive policy";
    Shadowed "PC022" Warning "a rule that allows nothing which others do not";
    NoDefaultDeny "PC023" Note "a namespace without default deny";
    OpenToWorld "PC024" Warning "ingress is open to the world";
    OneSided "PC025" Warning "an allowance that the other end denies";
    AuditOnly "PC026" Note "the policy is only audited";
}

impl Rule {
    fn entry(self) -> &'static Entry {
        // Every rule has its entry: both come from one list.
        ENTRIES.iter().find(|entry| entry.rule == self).unwrap_or(&ENTRIES[0])
    }

    /// Its id: `PC013`.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.entry().id
    }

    /// What it finds, in a line.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// How much its findings matter. A finding that is milder or worse than most says so itself.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.entry().severity
    }

    /// What it finds, why that is wrong and how it is mended: Markdown.
    #[must_use]
    pub fn page(self) -> &'static str {
        self.entry().page.trim_end()
    }

    /// Manifests in which it finds something.
    #[must_use]
    pub fn wrong(self) -> &'static str {
        self.entry().wrong
    }

    /// The same, mended.
    #[must_use]
    pub fn right(self) -> &'static str {
        self.entry().right
    }

    /// The whole explanation as Markdown: the page, and both examples.
    #[must_use]
    pub fn explanation(self) -> String {
        format!(
            "## {}: {}\n\nSeverity: {}.\n\n{}\n\nWrong:\n\n```yaml\n{}```\n\nRight:\n\n```yaml\n{}```\n",
            self.id(),
            self.title(),
            self.severity(),
            self.page(),
            self.wrong(),
            self.right()
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// A text that is no rule's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no rule `{text}`")]
pub struct UnknownRule {
    /// The text.
    pub text: String,
    /// The id that it is nearest to, where one is near.
    pub nearest: Option<&'static str>,
}

impl FromStr for Rule {
    type Err = UnknownRule;

    /// By its id, in either case.
    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        let known = ENTRIES.iter().find(|entry| entry.id.eq_ignore_ascii_case(text));
        known.map(|entry| entry.rule).ok_or_else(|| UnknownRule {
            text: text.to_owned(),
            nearest: nearest(text, &ENTRIES.iter().map(|entry| entry.id).collect::<Vec<_>>())
                .filter(|_| text.len() >= 4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_in_order_and_read_back() {
        let ids: Vec<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        for rule in Rule::ALL {
            assert_eq!(rule.id().to_lowercase().parse(), Ok(*rule));
            assert_eq!(rule.entry().rule, *rule);
        }
        assert_eq!(Rule::ALL.len(), ENTRIES.len());
    }

    #[test]
    fn a_text_that_is_no_id_is_refused() {
        for text in ["PC009", "PC019", "PC1", "", "PC0133"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
