//! A text to a [`CaseFile`].

use std::collections::BTreeSet;
use std::path::Path;

use policy_compiler::cidr::Family;
use policy_compiler::config::PodNetworks;
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::{Location, Node, Value};
use policy_compiler::flow::{Flow, Traffic, Wire};
use policy_compiler::verdict::Decision;

use super::cluster::{self, Description};
use super::flows::Expansion;
use super::line::{self, Line, PortWord};
use super::reader::{Reader, Section};
use super::{Because, Case, CaseError, CaseFile, Certainty, Expectation, ExpectedDiagnostic};
use crate::input::{InputError, Loaded};
use crate::source::Sources;
use crate::yaml::{self, Dialect};

/// The lists of flow lines and what they expect.
const VERDICTS: [(&str, Decision); 3] =
    [("allow", Decision::Allowed), ("deny", Decision::Denied), ("unknown", Decision::Unknown)];

/// The list of flow lines that pass, and that policies which are audited only would deny.
const AUDIT: &str = "audit";

/// The keys that only a case has.
const CASE_KEYS: [&str; 12] = [
    "name",
    "description",
    "allow",
    "deny",
    "unknown",
    AUDIT,
    "families",
    "wire",
    "certainty",
    "because",
    "diagnostics",
    "kernel",
];

const WIRES: [(&str, Wire); 4] = [
    ("routed", Wire::Routed),
    ("bridged", Wire::Bridged),
    ("translated", Wire::Translated),
    ("spoofed", Wire::Spoofed),
];

/// A case whose lines are taken apart, but not yet expanded.
struct Draft {
    name: String,
    location: Location,
    description: Description,
    lines: Vec<(Expected, WrittenLine)>,
    because: Vec<(WrittenLine, Vec<super::RuleReference>)>,
    families: Option<Vec<Family>>,
    wire: Wire,
    certainty: Option<Certainty>,
    expected_diagnostics: Option<Vec<ExpectedDiagnostic>>,
    kernel: bool,
}

/// What a list expects of its lines.
#[derive(Clone, Copy)]
struct Expected {
    decision: Decision,
    audited: Option<bool>,
}

struct WrittenLine {
    text: String,
    location: Location,
    line: Line,
}

pub(super) fn read(name: &str, text: &str, directory: &Path) -> Result<CaseFile, CaseError> {
    let mut reader = Reader::new(name, text);
    let mut sources = Sources::default();
    sources.insert(reader.file.clone(), text.into());
    // A format of our own need not have the traps of YAML 1.1.
    let documents = yaml::parse_as(text, Dialect::Core).map_err(|error| CaseError::Unreadable {
        errors: vec![InputError::Yaml { file: reader.file.clone(), error }],
    })?;
    let mut unreadable = Vec::new();
    let (description, base, drafts) = match documents.as_slice() {
        [root] => read_root(&mut reader, root, directory, &mut unreadable),
        other => {
            let at = other.get(1).and_then(|node| node.position);
            let message = format!("a case file is one YAML document, this has {}", other.len());
            reader.error(at, message);
            (None, Description::default(), Vec::new())
        }
    };
    if !unreadable.is_empty() {
        return Err(CaseError::Unreadable { errors: unreadable });
    }
    let mentioned = mentioned_ports(&drafts);
    let mut cases = Vec::new();
    for draft in drafts {
        let layers = [&base, &draft.description];
        let pod_networks = cluster::pod_networks(&layers);
        let loaded = cluster::lay(&reader, &layers);
        sources.extend(loaded.sources.clone());
        let case = finish(&mut reader, draft, loaded, &mentioned)?;
        cases.push(Case { pod_networks, ..case });
    }
    if reader.diagnostics.is_empty() {
        return Ok(CaseFile { name: reader.file, description, cases, sources });
    }
    reader.diagnostics.sort();
    reader.diagnostics.dedup();
    Err(CaseError::Invalid { diagnostics: reader.diagnostics, sources })
}

fn read_root(
    reader: &mut Reader,
    root: &Node,
    directory: &Path,
    unreadable: &mut Vec<InputError>,
) -> (Option<String>, Description, Vec<Draft>) {
    let known = [&["description", "cases"][..], &cluster::KEYS].concat();
    let section = reader.section(root, "a case file", &known);
    let text = section.get("description").and_then(|n| reader.text(n, "`description`"));
    let base = Description::read(reader, section, directory, unreadable);
    let items = section.map("cases", |n| reader.list(n, "`cases`")).unwrap_or_default();
    if items.is_empty() {
        reader.error(root.position, "a case file has a list `cases` with at least one case");
    }
    let drafts = items.iter().map(|item| read_case(reader, item, directory, unreadable)).collect();
    (text.map(str::to_owned), base, drafts)
}

fn read_case(
    reader: &mut Reader,
    item: &Node,
    directory: &Path,
    unreadable: &mut Vec<InputError>,
) -> Draft {
    let known = [&CASE_KEYS[..], &cluster::KEYS].concat();
    let section = reader.section(item, "a case", &known);
    let name = section.get("name").and_then(|n| reader.text(n, "`name`"));
    if name.is_none_or(|name| name.trim().is_empty()) {
        reader.error(item.position, "a case has a `name` that says what it shows");
    }
    if let Some(node) = section.get("description") {
        reader.text(node, "`description`");
    }
    let lines = read_lines(reader, section);
    let expected_diagnostics = read_diagnostics(reader, section);
    let because = read_because(reader, section);
    let mut keys = VERDICTS.iter().map(|(key, _)| *key).chain([AUDIT]);
    if keys.all(|key| section.get(key).is_none()) && expected_diagnostics.is_none() {
        let message = "this case expects nothing: it has no allow, deny, unknown or audit";
        reader.error(item.position, message);
    }
    let certainty = section.get("certainty").and_then(|node| {
        let place = reader.word(node, "certainty", &["specified", "undefined"])?;
        Some(if place == 0 { Certainty::Specified } else { Certainty::Undefined })
    });
    let wire = section.get("wire").and_then(|node| {
        reader.word(node, "wire", &WIRES.map(|(word, _)| word)).map(|place| WIRES[place].1)
    });
    Draft {
        name: name.unwrap_or_default().to_owned(),
        location: reader.location(item.position),
        lines,
        because,
        families: read_families(reader, section),
        wire: wire.unwrap_or_default(),
        certainty,
        expected_diagnostics,
        kernel: section.get("kernel").and_then(|n| reader.flag(n, "`kernel`")).unwrap_or(true),
        description: Description::read(reader, section, directory, unreadable),
    }
}

/// The flow lines. Where a case has a list of what audits would deny, what it allows none may.
fn read_lines(reader: &mut Reader, section: Section<'_>) -> Vec<(Expected, WrittenLine)> {
    let audits = section.get(AUDIT).is_some();
    let lists = VERDICTS.map(|(key, decision)| {
        let audited = (audits && decision == Decision::Allowed).then_some(false);
        (key, Expected { decision, audited })
    });
    let audit = (AUDIT, Expected { decision: Decision::Allowed, audited: Some(true) });
    let mut lines = Vec::new();
    for (key, expected) in lists.into_iter().chain([audit]) {
        let what = format!("`{key}`");
        let texts = section.map(key, |n| reader.texts(n, &what)).unwrap_or_default();
        for (node, text) in texts {
            lines.extend(written_line(reader, node, text).map(|line| (expected, line)));
        }
    }
    lines
}

fn written_line(reader: &mut Reader, node: &Node, text: &str) -> Option<WrittenLine> {
    match line::line(text) {
        Ok(line) => {
            let location = reader.location(node.position);
            Some(WrittenLine { text: text.to_owned(), location, line })
        }
        Err(error) => {
            reader.error(node.position, error);
            None
        }
    }
}

fn read_families(reader: &mut Reader, section: Section<'_>) -> Option<Vec<Family>> {
    let node = section.get("families")?;
    let mut families = BTreeSet::new();
    let items = match &node.value {
        Value::String(_) => std::slice::from_ref(node),
        _ => reader.list(node, "`families`"),
    };
    for item in items {
        let place = reader.word(item, "family", &["ipv4", "ipv6"]);
        families.extend(place.map(|place| Family::ALL[place]));
    }
    if families.is_empty() {
        reader.error(node.position, "`families` names at least one: ipv4, ipv6");
        return None;
    }
    Some(families.into_iter().collect())
}

fn read_diagnostics(reader: &mut Reader, section: Section<'_>) -> Option<Vec<ExpectedDiagnostic>> {
    let node = section.get("diagnostics")?;
    let texts = reader.texts(node, "`diagnostics`");
    let expected = |(node, text): (&Node, &str)| ExpectedDiagnostic {
        text: text.to_owned(),
        location: reader.location(node.position),
    };
    Some(texts.into_iter().map(expected).collect())
}

fn read_because(
    reader: &mut Reader,
    section: Section<'_>,
) -> Vec<(WrittenLine, Vec<super::RuleReference>)> {
    let entries = section.map("because", |n| reader.entries(n, "`because`")).unwrap_or_default();
    let mut because = Vec::new();
    for entry in entries {
        let key = Node { value: Value::String(entry.key.clone()), position: entry.position };
        let mut rules = Vec::new();
        for (node, text) in reader.texts(&entry.node, "the rules of `because`") {
            match line::rule(text) {
                Ok(rule) => rules.push(rule),
                Err(error) => reader.error(node.position, error),
            }
        }
        because.extend(written_line(reader, &key, &entry.key).map(|line| (line, rules)));
    }
    because
}

/// The ports that lines of the file spell out.
fn mentioned_ports(drafts: &[Draft]) -> BTreeSet<u16> {
    let lines = drafts.iter().flat_map(|draft| {
        draft.lines.iter().map(|(_, line)| line).chain(draft.because.iter().map(|(line, _)| line))
    });
    let port = |word: &PortWord| match word {
        PortWord::Exactly(Traffic::Port { port, .. }) => Some(*port),
        _ => None,
    };
    lines.flat_map(|written| &written.line.ports).filter_map(port).collect()
}

/// Expands the lines of a case over its cluster; what is wrong with them goes to `reader`.
fn finish(
    reader: &mut Reader,
    draft: Draft,
    loaded: Loaded,
    mentioned: &BTreeSet<u16>,
) -> Result<Case, CaseError> {
    let mut diagnostics = loaded.diagnostics;
    let mut unreadable = Vec::new();
    for error in loaded.unreadable {
        match error {
            // Being no object may be just what a case is about.
            InputError::NotAnObject { diagnostic } if draft.expected_diagnostics.is_some() => {
                diagnostics.push(*diagnostic);
            }
            error => unreadable.push(error),
        }
    }
    if !unreadable.is_empty() {
        return Err(CaseError::Unreadable { errors: unreadable });
    }
    if draft.expected_diagnostics.is_none() {
        reader.diagnostics.extend(loaded.left_out);
        reader.diagnostics.extend(diagnostics.iter().filter(|d| is_unexpected(d)).cloned());
    }
    let expansion = Expansion::new(&loaded.snapshot, draft.families, draft.wire, mentioned);
    let mut expand = |written: &WrittenLine| -> Option<Vec<Flow>> {
        match expansion.flows(&written.line) {
            Ok(flows) => Some(flows),
            Err(error) => {
                reader.error(written.location.position, error);
                None
            }
        }
    };
    let mut expectations = Vec::new();
    for (Expected { decision, audited }, written) in draft.lines {
        let Some(flows) = expand(&written) else { continue };
        let WrittenLine { text, location, .. } = written;
        expectations.push(Expectation { text, location, decision, audited, flows });
    }
    let mut because = Vec::new();
    for (written, rules) in draft.because {
        let Some(flows) = expand(&written) else { continue };
        because.push(Because { text: written.text, location: written.location, flows, rules });
    }
    Ok(Case {
        name: draft.name,
        location: draft.location,
        snapshot: loaded.snapshot,
        pod_networks: PodNetworks::new(),
        diagnostics,
        expectations,
        certainty: draft.certainty,
        because,
        expected_diagnostics: draft.expected_diagnostics,
        kernel: draft.kernel,
    })
}

/// Whether a finding is an error about something else than a policy: no case wants a cluster that is
/// not what the file says, unless it says so.
fn is_unexpected(diagnostic: &Diagnostic) -> bool {
    let policy = diagnostic.object.as_ref().is_some_and(|object| object.kind == "NetworkPolicy");
    diagnostic.severity == Severity::Error && !policy
}
