//! Labels as Kubernetes validates them: keys are qualified names, values short words or nothing.
//!
//! Source: Kubernetes "Labels and Selectors", `IsQualifiedName` and `IsValidLabelValue`.

use super::report::{Field, Mapping, Report};
use crate::labels::Labels;
use crate::name::ObjectName;

/// Whether `text` is 1 to 63 characters of letters, digits, `-`, `_` and `.`, with a letter or a
/// digit at both ends.
fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = matches!((bytes.first(), bytes.last()), (Some(a), Some(z))
        if a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric());
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    ends && bytes.len() <= 63 && bytes.iter().all(inner)
}

/// Why `key` is no label key; `None` where it is one.
pub(super) fn key_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(Err(error)) = prefix.map(ObjectName::new) {
        return Some(format!(
            "`{key}` is no label key: what stands before `/` {}",
            rule_of(&error)
        ));
    }
    (!is_word(name)).then(|| {
        format!(
            "`{key}` is no label key: it must have 1 to 63 letters, digits, `-`, `_` and `.`, begin and end with \
             a letter or a digit, and may have a DNS name and `/` before that"
        )
    })
}

fn rule_of(error: &crate::name::NameError) -> String {
    use crate::name::NameError;
    match error {
        NameError::Malformed { .. } => "must be a DNS name in lower case".to_owned(),
        NameError::Empty | NameError::TooLong { .. } => error.to_string(),
    }
}

/// Why `value` is no label value; `None` where it is one.
pub(super) fn value_problem(value: &str) -> Option<String> {
    (!value.is_empty() && !is_word(value)).then(|| {
        format!(
            "`{value}` is no label value: it must be empty, or have at most 63 letters, digits, `-`, `_` and `.`, \
             and begin and end with a letter or a digit"
        )
    })
}

/// The labels at `field`. What is invalid is reported and left out.
pub(super) fn labels(field: &Field<'_>, report: &mut Report<'_>) -> Labels {
    let mapping = report.open(field);
    mapping.map(|mapping| pairs(&mapping, report).into_iter().collect()).unwrap_or_default()
}

/// The valid pairs of a mapping of labels. What is invalid is reported and left out.
pub(super) fn pairs<'n>(mapping: &Mapping<'n>, report: &mut Report<'_>) -> Vec<(&'n str, &'n str)> {
    let mut pairs = Vec::new();
    for (entry, field) in mapping.entries() {
        if let Some(problem) = key_problem(&entry.key) {
            report.error(&field, problem, None);
        }
        let Some(value) = report.text(&field) else { continue };
        match value_problem(value) {
            Some(problem) => report.error(&field, problem, None),
            None => pairs.push((entry.key.as_str(), value)),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_key_is_a_qualified_name() {
        let long = "a".repeat(63);
        let prefix = format!("{}.{}.{}.{}", long, long, long, "a".repeat(61));
        for key in [
            "app",
            "App_1.x-y",
            "0",
            "app.kubernetes.io/name",
            "a/b",
            long.as_str(),
            &format!("{prefix}/{long}"),
        ] {
            assert_eq!(key_problem(key), None, "{key}");
        }
        for key in [
            "",
            "-a",
            "a-",
            "a.",
            "_a",
            "a b",
            "ä",
            "a/",
            "/a",
            "a/b/c",
            "A/b",
            "a..b/c",
            "a_b/c",
            &format!("{long}a"),
            &format!("{prefix}a/b"),
        ] {
            assert!(key_problem(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_label_value_is_a_short_word_or_nothing() {
        for value in ["", "web", "Web_1.2-3", "0", &"a".repeat(63)] {
            assert_eq!(value_problem(value), None, "{value}");
        }
        for value in ["-", "a-", ".a", "a b", "a/b", "ä", " ", &"a".repeat(64)] {
            assert!(value_problem(value).is_some(), "{value}");
        }
    }
}
