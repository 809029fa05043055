//! The report as SARIF 2.1.0, for code scanning.
//!
//! Results that comments suppress are there with a suppression, what could not be told as notifications
//! of the run. What has no file, as objects of a live cluster, has a logical location alone.

use std::fmt::Write as _;

use policy_compiler::diagnostic::Severity;
use policy_compiler::document::Location;
use policy_compiler::lint::{Finding, Report, Rule};
use serde_json::{Value, json};

use crate::live::LIVE;

/// The log of one run.
pub(super) fn log(report: &Report) -> Value {
    let suppressed = report.suppressed.iter().map(|finding| {
        let mut result = result(finding);
        result["suppressions"] = json!([{"kind": "inSource"}]);
        result
    });
    let results: Vec<Value> = report.findings.iter().map(result).chain(suppressed).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "policyc",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Rule::ALL.iter().map(|rule| descriptor(*rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications": notifications(report),
            }],
            "results": results,
        }],
    })
}

fn descriptor(rule: Rule) -> Value {
    json!({
        "id": rule.id(),
        "shortDescription": {"text": rule.title()},
        "fullDescription": {"text": rule.page().split("\n\n").next().unwrap_or_default()},
        "help": {"text": rule.explanation(), "markdown": rule.explanation()},
        "defaultConfiguration": {"level": level(rule.severity())},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn result(finding: &Finding) -> Value {
    let index = Rule::ALL.iter().position(|rule| *rule == finding.rule);
    let object = finding.object.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut text = finding.message.clone();
    if let Some(fix) = &finding.fix {
        text = format!("{text}\nFix: {fix}");
    }
    let mut result = json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": {"text": text},
        "locations": [location(&finding.location, &object, &finding.field)],
        // Lines move; the object, the field and the rule stay.
        "partialFingerprints": {
            "policyc/v1": format!("{} {object} {}", finding.rule, finding.field),
        },
    });
    if !finding.related.is_empty() {
        let related = finding.related.iter().enumerate().map(|(id, related)| {
            let mut place = location(&related.location, "", "");
            place["id"] = Value::from(id);
            place["message"] = json!({"text": related.message});
            place
        });
        result["relatedLocations"] = related.collect();
    }
    result
}

/// What the input did not tell.
fn notifications(report: &Report) -> Vec<Value> {
    let spots = report
        .unchecked
        .iter()
        .flat_map(|unchecked| unchecked.at.iter().map(move |spot| (unchecked, spot)));
    spots
        .map(|(unchecked, spot)| {
            json!({
                "descriptor": {"id": unchecked.rule.id()},
                "associatedRule": {"id": unchecked.rule.id()},
                "level": "note",
                "message": {"text": format!("unchecked: {}", unchecked.reason)},
                "locations": [location(&spot.location, &spot.object.to_string(), &spot.field)],
            })
        })
        .collect()
}

fn location(location: &Location, object: &str, field: &str) -> Value {
    let mut value = json!({});
    if let Some(file) = location.file.as_deref().filter(|file| *file != LIVE && *file != "-") {
        value["physicalLocation"] = json!({"artifactLocation": {"uri": uri(file)}});
        if let Some(position) = location.position {
            value["physicalLocation"]["region"] =
                json!({"startLine": position.line, "startColumn": position.column});
        }
    }
    if !object.is_empty() {
        let name = if field.is_empty() { object.to_owned() } else { format!("{object} {field}") };
        value["logicalLocations"] = json!([{"fullyQualifiedName": name, "kind": "object"}]);
    }
    value
}

/// A path as a URI reference: what such may not hold is percent-encoded. Relative paths stay relative.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn a_path_becomes_a_uri() {
        for (path, said) in [
            ("a/b.yaml", "a/b.yaml"),
            ("./a b.yaml", "a%20b.yaml"),
            ("/etc/p#1.yaml", "file:///etc/p%231.yaml"),
            ("ä:1.yaml", "%C3%A4%3A1.yaml"),
        ] {
            assert_eq!(uri(path), said);
        }
    }
}
