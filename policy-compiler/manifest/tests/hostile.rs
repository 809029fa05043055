//! Manifests that somebody wrote to hurt: nested without end, as long as they may be, or with text that
//! means something elsewhere. Each is read or refused within a bound of time that a slow machine keeps.

// The whole crate is tests: what must not fail in one may panic.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use policy_manifest::input::{Loaded, Options, read_from};
use policy_manifest::yaml::{YamlErrorKind, parse};

/// What takes longer grows faster than its input.
const PATIENCE: Duration = Duration::from_secs(30);

fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    println!("{what}: {:?}", begun.elapsed());
    assert!(begun.elapsed() < PATIENCE, "{what} took {:?}", begun.elapsed());
    done
}

fn read(text: &str) -> Loaded {
    in_time("reading", || read_from(&["-"], &Options::default(), &mut text.as_bytes()))
}

#[test]
fn what_is_nested_without_end_is_refused_and_takes_no_stack() {
    let depth = 200_000;
    let indented = |depth: usize| {
        let mut text = String::new();
        for level in 0..depth {
            writeln!(text, "{}a:", " ".repeat(level)).unwrap();
        }
        text
    };
    for (name, text) in [
        ("lists of JSON", "[".repeat(depth)),
        ("closed lists of JSON", "[".repeat(depth) + &"]".repeat(depth)),
        ("mappings of JSON", "{\"a\":".repeat(depth)),
        ("lists of YAML", "- ".repeat(depth)),
        ("flow mappings", "{a: ".repeat(depth)),
        ("an explicit key in a key", "? ".repeat(depth)),
        ("mappings of YAML", indented(3_000)),
        ("an object", format!("{{\"kind\": \"Pod\", \"spec\": {}", "[{\"a\":".repeat(depth))),
    ] {
        let error = in_time(name, || parse(&text)).unwrap_err();
        let kind = &error.kind;
        let refused = matches!(
            kind,
            YamlErrorKind::TooDeep
                | YamlErrorKind::Syntax(_)
                | YamlErrorKind::Json(_)
                | YamlErrorKind::Key
        );
        assert!(refused, "{name}: {kind:?}");
        assert!(error.to_string().len() < 2 * text.len(), "{name}");
    }
}

#[test]
fn ten_thousand_objects_of_one_file_are_read() {
    let mut text = String::new();
    for number in 0..5_000 {
        write!(
            text,
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: x, labels: {{app: a}}}}\n\
             spec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: 10.1.{}.{}}}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: p{number}, namespace: x}}\n\
             spec: {{podSelector: {{matchLabels: {{app: a}}}}, ingress: [{{ports: [{{port: 80}}]}}]}}\n---\n",
            number / 250,
            number % 250
        )
        .unwrap();
    }
    let loaded = read(&text);
    assert!(loaded.unreadable.is_empty());
    assert_eq!((loaded.snapshot.pods.len(), loaded.snapshot.policies.len()), (5_000, 5_000));
}

#[test]
fn long_text_in_places_of_no_account_is_passed_over_and_in_others_refused() {
    let long = "x".repeat(4 << 20);
    let policy = |name: &str, key: &str, value: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: x, annotations: {{a: \"{long}\"}}}}\n\
             spec:\n  podSelector: {{}}\n  ingress:\n  - from: [{{podSelector: {{matchLabels: {{{key}: {value}}}}}}}]\n"
        )
    };
    let loaded = read(&policy("p", "app", "web"));
    assert_eq!(
        (loaded.unreadable.len(), loaded.diagnostics.len()),
        (0, 1),
        "the namespace is noted"
    );
    for text in [policy("p", &long, "web"), policy("p", "app", &long), policy(&long, "app", "web")]
    {
        let loaded = read(&text);
        let told: Vec<String> = loaded
            .unreadable
            .iter()
            .map(ToString::to_string)
            .chain(loaded.diagnostics.iter().map(|one| one.message.clone()))
            .collect();
        assert!(!told.is_empty());
        assert!(
            told.iter().all(|line| line.len() < 2_000),
            "a message of {:?} bytes",
            told.iter().map(String::len).max()
        );
        assert!(loaded.snapshot.policies.values().all(|policy| policy.flawed));
    }
}

#[test]
fn documents_and_keys_by_the_hundred_thousand_are_read() {
    let documents = "---\na: 1\n".repeat(100_000);
    assert_eq!(in_time("documents", || parse(&documents)).unwrap().len(), 100_000);
    let mut keys = String::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n");
    for number in 0..100_000 {
        writeln!(keys, "  k{number}: v").unwrap();
    }
    assert!(read(&keys).unreadable.is_empty());
    let mut labels = String::from(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: x\n  labels:\n",
    );
    for number in 0..100_000 {
        writeln!(labels, "    k{number}: v").unwrap();
    }
    let loaded = read(&labels);
    assert_eq!(
        loaded.snapshot.pods.values().map(|pod| pod.labels.iter().count()).sum::<usize>(),
        100_000
    );
}
