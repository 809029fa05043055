//! What is wrong inside objects, each told once.
//!
//! A finding is the same wherever its line has moved to. Of one file so many are told at a time: a
//! generated file with one mistake throughout must not drown what else the log has to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy_compiler::diagnostic::{Diagnostic, ObjectRef, Severity};
use tracing::{debug, error, warn};

/// How many findings of one file are told at a time.
const TOLD: usize = 20;

/// What makes a finding that one: all but its line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    severity: Severity,
    file: Option<Arc<str>>,
    object: Option<ObjectRef>,
    field: String,
    message: String,
}

impl Identity {
    fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            severity: diagnostic.severity,
            file: diagnostic.location.file.clone(),
            object: diagnostic.object.clone(),
            field: diagnostic.field.clone(),
            message: diagnostic.message.clone(),
        }
    }
}

/// The findings that stand.
#[derive(Debug, Default)]
pub struct Findings {
    standing: BTreeSet<Identity>,
}

/// What is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
struct News<'a> {
    told: Vec<&'a Diagnostic>,
    /// How many more there are, by file.
    more: BTreeMap<String, usize>,
}

impl Findings {
    /// Logs those of the findings that did not stand before.
    pub fn report<'a>(&mut self, now: impl Iterator<Item = &'a Diagnostic>) {
        let News { told, more } = self.news(now);
        for diagnostic in told {
            match diagnostic.severity {
                Severity::Error => error!(%diagnostic, "invalid, taken in the way that denies"),
                Severity::Warning => warn!(%diagnostic, "questionable"),
                Severity::Note => debug!(%diagnostic, "note"),
            }
        }
        for (file, more) in more {
            warn!(file, more, "and more findings like these");
        }
    }

    fn news<'a>(&mut self, now: impl Iterator<Item = &'a Diagnostic>) -> News<'a> {
        let mut diagnostics: BTreeMap<Identity, &Diagnostic> = BTreeMap::new();
        for diagnostic in now {
            diagnostics.entry(Identity::of(diagnostic)).or_insert(diagnostic);
        }
        let mut news = News::default();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        // The gravest first: they must not be among those that are only counted.
        for (identity, diagnostic) in diagnostics.iter().rev() {
            if self.standing.contains(identity) {
                continue;
            }
            let file = identity.file.as_deref().unwrap_or_default().to_owned();
            let count = counts.entry(file.clone()).or_default();
            *count += 1;
            if *count <= TOLD || identity.severity == Severity::Note {
                news.told.push(diagnostic);
            } else {
                *news.more.entry(file).or_default() += 1;
            }
        }
        news.told.sort();
        self.standing = diagnostics.into_keys().collect();
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::document::{Location, Position};

    fn finding(file: &str, line: u32, field: &str) -> Diagnostic {
        Diagnostic {
            location: Location {
                file: Some(Arc::from(file)),
                position: Some(Position { line, column: 1 }),
            },
            object: None,
            field: field.to_owned(),
            severity: Severity::Error,
            message: "unknown field".to_owned(),
            help: None,
        }
    }

    #[test]
    fn a_finding_whose_line_moved_is_no_news_and_one_that_comes_back_is() {
        let (before, after) = (finding("a.yaml", 3, "spec.x"), finding("a.yaml", 9, "spec.x"));
        let mut findings = Findings::default();
        assert_eq!(findings.news([&before].into_iter()).told, [&before]);
        assert_eq!(findings.news([&after].into_iter()), News::default());
        assert_eq!(findings.news([].into_iter()), News::default());
        assert_eq!(findings.news([&after].into_iter()).told, [&after]);
    }

    #[test]
    fn of_a_file_with_one_mistake_throughout_the_rest_is_counted() {
        let mut all: Vec<Diagnostic> =
            (0..50).map(|n| finding("a.yaml", n, &format!("spec.{n}"))).collect();
        all.push(finding("b.yaml", 1, "spec.x"));
        let mut findings = Findings::default();
        let news = findings.news(all.iter());
        assert_eq!(news.told.len(), TOLD + 1);
        assert_eq!(news.more, BTreeMap::from([("a.yaml".to_owned(), 50 - TOLD)]));
        assert_eq!(findings.news(all.iter()), News::default());
    }
}
