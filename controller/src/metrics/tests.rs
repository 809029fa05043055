use std::collections::BTreeSet;

use policy_compiler::diagnostic::ObjectRef;
use policy_compiler::document::Location;
use policy_compiler::ruleset::{
    AddressSet, Chain, ChainName, Member, Rule, SetName, SetRole, Target,
};

use super::*;
use crate::dataplane::{Changes, WriteError};

fn ruleset() -> Ruleset {
    let mut ruleset = Ruleset::default();
    let rule = Rule { matches: Vec::new(), comment: None, target: Target::Return };
    let v4 = ruleset.family_mut(Family::V4);
    for (name, rules) in [("NPC-FORWARD", 2), ("NPC-INGRESS", 1)] {
        let chain = Chain { rules: vec![rule.clone(); rules] };
        v4.chains.insert(ChainName::new(name).unwrap(), chain.into());
    }
    let isolated = SetName { family: Family::V4, role: SetRole::Isolated };
    let members = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|a| Member::address(a.parse().unwrap()));
    v4.sets.insert(isolated, AddressSet { members: members.into() });
    ruleset
}

fn wrong(severity: Severity, kind: &str, name: &str) -> Diagnostic {
    Diagnostic {
        location: Location::default(),
        object: Some(ObjectRef {
            kind: kind.to_owned(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        }),
        field: "spec".to_owned(),
        severity,
        message: format!("{severity} of {name}"),
        help: None,
    }
}

fn refused_type() -> WriteError {
    WriteError::AnotherKind { set: "npc4-iso".to_owned(), kind: "hash:mac".to_owned() }
}

/// Everything happened, at `now`.
fn filled(now: Instant) -> Metrics {
    let metrics = Metrics::without_process();
    metrics.writes_to(Backend::Nft);
    metrics.ready(true);
    metrics.in_force(3, 2, &ruleset());
    metrics.diagnosed(
        &[
            wrong(Severity::Error, "NetworkPolicy", "web"),
            wrong(Severity::Error, "NetworkPolicy", "web"),
            wrong(Severity::Error, "NetworkPolicy", "db"),
            wrong(Severity::Warning, "NetworkPolicy", "cache"),
            wrong(Severity::Error, "Pod", "web-0"),
        ],
        &[],
    );
    metrics.enforced(Kind::Pod, Duration::from_micros(90));
    metrics.enforced(Kind::Policy, Duration::from_millis(20));
    let took = Duration::from_millis(500);
    metrics.written(Family::V4, &Outcome::Written(Changes::default()), took);
    metrics.written(Family::V6, &Outcome::Failed(refused_type()), took);
    metrics.drift_repaired(Family::V4, Drift::Rules);
    metrics.problems(4);
    metrics.refused(5);
    metrics.denied(Family::V6, Direction::Egress, 8);
    metrics.audited(Family::V4, Direction::Ingress, 6);
    let standing = |kind, listed, failing| Standing { kind, listed, failing };
    metrics.standing(&standing(Kind::Pod, true, None));
    let away = (now.checked_sub(Duration::from_secs(90)).unwrap(), "away".to_owned());
    metrics.standing(&standing(Kind::Policy, false, Some(away)));
    metrics.concerns([ConcernKind::ForwardingOff, ConcernKind::BridgeUnfiltered]);
    metrics.concerns([ConcernKind::BridgeUnfiltered; 2]);
    metrics.processes(7);
    metrics.processes(9);
    metrics.told(Told::Published);
    let received = metrics.received(Kind::Pod);
    received.objects.inc_by(12);
    received.bytes.inc_by(34_567);
    metrics.watches(Watches { node: 1, namespace: 3, labels: 2, all: 0 });
    metrics
}

/// The text, with what is not the same tomorrow replaced: the time of day, the version.
fn text_of(metrics: &Metrics, now: Instant) -> String {
    let name = "policyd_last_success_timestamp_seconds{family=\"ipv4\"} ";
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    let text = metrics.encode_at(now).replacen(version, "version=\"OURS\"", 1);
    let hide = |line: &str| {
        let is_time =
            line.strip_prefix(name).is_some_and(|time| time.parse::<f64>().unwrap() > 1e9);
        if is_time { format!("{name}NOW\n") } else { format!("{line}\n") }
    };
    text.lines().map(hide).collect()
}

#[test]
fn everything_is_written_out_as_expected() {
    let now = Instant::now();
    let text = text_of(&filled(now), now);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/golden/filled.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn a_family_that_stays_in_step_succeeds_and_one_that_is_absent_does_not() {
    let success = |outcome: Outcome| {
        let metrics = Metrics::without_process();
        metrics.written(Family::V4, &outcome, Duration::ZERO);
        let name = "policyd_apply_duration_seconds_count{family=\"ipv4\",outcome=\"written\"} ";
        let text = metrics.encode_at(Instant::now());
        let count: u64 =
            text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap();
        (metrics.writes.last_success.of(["ipv4"]).get() > 0.0, count)
    };
    assert_eq!(success(Outcome::Unchanged), (true, 0), "no write took any time");
    assert_eq!(success(Outcome::Written(Changes::default())), (true, 1));
    assert_eq!(success(Outcome::Failed(refused_type())), (false, 0));
    assert_eq!(success(Outcome::Absent), (false, 0));
}

/// Name, type and labels of what a registry shows. The bound of a bucket belongs to its type.
fn shown(text: &str) -> BTreeSet<(String, String, BTreeSet<String>)> {
    let mut shown = BTreeSet::new();
    let mut described = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            described = (format!("{name}{suffix}"), kind.to_owned());
        } else if !line.starts_with('#') {
            let labels =
                line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let labels = labels.split(',').filter(|label| !label.is_empty());
            let names = labels.map(|label| label.split_once('=').unwrap().0.to_owned());
            let (name, kind) = described.clone();
            shown.insert((name, kind, names.filter(|name| name != "le").collect()));
        }
    }
    shown
}

#[test]
fn the_documentation_lists_exactly_what_there_is() {
    let now = Instant::now();
    let mut metrics = filled(now);
    metrics.registry.register_collector(Box::new(Process));
    let document = include_str!("../../docs/metrics.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<(String, String, BTreeSet<String>)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`'));
            let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
            assert!(!cells[4].is_empty(), "{row}");
            (cells[1].trim_matches('`').to_owned(), cells[2].to_owned(), labels.collect())
        })
        .collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "each is listed once");
    assert_eq!(unique, shown(&metrics.encode_at(now)));
    let overview = include_str!("../../../README.md");
    for (name, ..) in unique.iter().filter(|(name, ..)| name.starts_with("policyd_")) {
        assert!(overview.contains(&format!("| `{name}` |")), "the README lacks {name}");
    }
    for kind in ConcernKind::ALL.map(ConcernKind::label) {
        assert!(document.contains(&format!("`{kind}`")), "`{kind}` is not explained");
    }
    let examples = document.lines().filter(|line| line.starts_with("    "));
    for word in examples.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')) {
        let name = word.trim_end_matches("_bucket");
        let known = unique.iter().any(|(listed, _, _)| listed == name);
        assert!(known || !word.starts_with("policyd_"), "`{word}` is no metric");
    }
}
