//! The exit statuses and the manners of the process.

use std::fs;

use crate::run::{fixtures, policyc, policyc_in, policyc_with};

#[test]
fn exit_statuses_are_as_documented() {
    for (why, line, status) in [
        ("allowed", "can obs/shell deploy/web http -n shop -f shop", 0),
        ("printed", "explain pod shop/cart-0 -f shop", 0),
        ("printed", "render -f shop", 0),
        ("printed", "schema PodExplanation", 0),
        ("denied", "can shop/api-0 shop/cart-0 8080 -f shop", 1),
        ("some replicas are denied", "can sts/cart deploy/half 80 -n shop -f shop half.yaml", 1),
        ("one of two families is denied", "can obs/shell shop/half-6 80 -f shop half.yaml", 1),
        (
            "-4 chooses the one that is allowed",
            "can obs/shell shop/half-6 80 -4 -f shop half.yaml",
            0,
        ),
        (
            "-6 chooses the one that is denied",
            "can obs/shell shop/half-6 80 -6 -f shop half.yaml",
            1,
        ),
        ("cannot tell", "can deploy/web sts/db 5432 -n shop -f templates", 3),
        ("usage", "can shop/api-0", 2),
        ("usage", "frobnicate", 2),
        ("usage", "can obs/shell shop/cart-0 0 -f shop", 2),
        ("usage", "explain pod shop/cart-0 -4 -6 -f shop", 2),
        ("no input", "can obs/shell shop/cart-0 80", 2),
        ("no such file", "explain pod shop/cart-0 -f nowhere.yaml", 2),
        ("no such file besides others", "explain pod shop/cart-0 -f shop nowhere.yaml", 2),
        ("not YAML", "can obs/shell shop/cart-0 80 -f shop broken/bad.yaml", 2),
        ("no Kubernetes object", "explain pod shop/cart-0 -f shop no-object.yaml", 2),
        ("a pod that is not there", "explain pod shop/nobody -f shop", 2),
        ("a workload that is not there", "explain pod deploy/cart -n shop -f shop", 2),
        ("labels that nobody has", "explain pod -l app=nobody -n shop -f shop", 2),
        ("a node that is not there", "can node/nowhere shop/cart-0 80 -f shop", 2),
        ("a port name that is not there", "can obs/shell shop/cart-0 nothing -f shop", 2),
        ("an invalid policy selects the pod", "explain pod shop/web -f invalid", 2),
        ("an invalid policy selects an end", "can shop/cart shop/web 8080 -f invalid", 2),
        ("an invalid policy selects the source", "can shop/web shop/cart 8080 -f invalid", 2),
        ("an invalid policy selects another pod", "explain pod shop/cart -f invalid", 0),
        ("render takes an invalid policy as the node does", "render -f invalid node.yaml", 0),
        ("some addresses outside are denied", "can world shop/cart-0 8080 -4 -f shop", 1),
        ("every address outside is allowed", "can world deploy/web 80 -n shop -f shop", 0),
        ("printed", "who-can shop/cart-0 --egress -f shop", 0),
        ("a node has addresses that are not told", "who-can shop/cart-0 -f shop", 3),
        ("the list is not known in full", "who-can shop/deploy/web --egress -f templates", 3),
        ("a finished pod has no list", "who-can shop/migrate-x1 -f shop", 2),
        ("printed", "explain policy shop/cart-from-web -f shop", 0),
        ("an invalid policy", "explain policy shop/web -f invalid", 2),
        ("a policy that is not there", "explain policy shop/nothing -f shop", 2),
        ("printed, whatever it says", "matrix -f shop", 0),
        ("an invalid policy selects a row", "matrix -f invalid", 2),
        ("a namespace that is not there", "matrix --to ns/nowhere -f shop", 2),
        ("a port by name", "matrix --port http -f shop", 0),
        ("a port that no pod calls so", "matrix --port nothing -f shop", 2),
        ("no pods, and nothing in doubt", "matrix --by pod -f overlaps.yaml", 0),
        ("no pods, and selectors that may meet the same", "matrix -f overlaps.yaml", 3),
        (
            "no pods, and selectors that may meet the same",
            "explain policy shop/db -f overlaps.yaml",
            3,
        ),
        ("no pods, and selectors that may meet the same", "graph -f overlaps.yaml", 3),
        (
            "no pods, and labels that are allowed",
            "can shop/app=web shop/app=db 5432 -f policies.yaml",
            0,
        ),
        (
            "no pods, and labels that are denied",
            "can shop/app=db shop/app=web 8080 -f policies.yaml",
            1,
        ),
        ("no pods, and policies that differ", "diff overlaps.yaml diff/overlaps.yaml", 1),
        ("no pods, and policies that are the same", "diff policies.yaml policies.yaml", 0),
        (
            "no pods, and a port by name where policies differ",
            "diff policies.yaml diff/policies.yaml",
            3,
        ),
        ("no pods, and a port by name", "can obs/app=prom shop/app=db 9090 -f policies.yaml", 3),
        ("no pods, and a port by name", "can shop/app=web shop/app=db http -f policies.yaml", 2),
        ("labels that no pod has", "can shop/app=nobody shop/cart-0 80 -f shop", 2),
        ("no pods, and a port by name", "matrix -f policies.yaml", 3),
        ("no pods, and a selector that is not there", "matrix --to shop/app=x -f overlaps.yaml", 2),
        ("no pods, and a pod by name", "can shop/web shop/db 80 -f overlaps.yaml", 2),
        ("cases passed", "test cases/good.yaml", 0),
        ("a case failed", "test cases/good.yaml cases/wrong.yaml", 1),
        ("a case file that is not there", "test cases/good.yaml cases/nowhere.yaml", 2),
        ("a case file that breaks the format", "test cases/wrong.yaml cases/misspelt.yaml", 2),
        ("2 before 3", "can deploy/web sts/db 5432 -n shop -f templates nowhere.yaml", 2),
        ("2 before 1", "can shop/api-0 shop/cart-0 8080 -f shop nowhere.yaml", 2),
        ("3 before 1", "can deploy/mixed -n shop sts/db 5432 -4 -f templates denied.yaml", 3),
    ] {
        let run = policyc(line);
        assert_eq!(run.status, status, "{why}: {line}\n{}{}", run.stdout, run.stderr);
    }
}

#[test]
fn several_replicas_that_fare_differently_are_partly_allowed() {
    let run = policyc("can sts/cart deploy/half 80 -n shop -f shop half.yaml");
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(
        run.stdout.ends_with("\nPARTLY ALLOWED in all: 1 allowed, 1 denied\n"),
        "{}",
        run.stdout
    );
}

#[test]
fn what_is_left_out_or_skipped_makes_every_answer_one_about_less() {
    let shop = fixtures().join("shop");
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: Shop}\nspec: {podSelector: {}}\n";
    let template = "metadata:\n  name: {{ .Values.name }}\n";
    for text in [policy, template] {
        for question in
            ["explain pod shop/cart-0", "can obs/shell deploy/web http -n shop", "render"]
        {
            let line = format!("{question} -f {} -f -", shop.display());
            let run = policyc_with(&line, text, &[]);
            assert_eq!(run.status, 2, "{line}\n{text}{}", run.stderr);
            assert!(!run.stdout.is_empty() && run.stderr.contains("--> -:"), "{}", run.stderr);
        }
    }
    let run = policyc_with("explain pod shop/cart-0 -f shop -f -", template, &[]);
    assert!(run.stderr.starts_with("warning: this is a Helm template"), "{}", run.stderr);
}

#[test]
fn whoever_names_manifests_as_arguments_is_told_how_to() {
    for line in ["lint shop", "explain pod shop/cart-0 shop", "can shop/a shop/b 80 shop"] {
        let run = policyc(line);
        assert_eq!(run.status, 2, "{line}");
        let tip = "\n  tip: manifests are named with `-f shop`\n";
        assert!(run.stderr.contains(tip), "{line}\n{}", run.stderr);
    }
    let run = policyc("lint nowhere.yaml");
    assert!(!run.stderr.contains("manifests are named"), "{}", run.stderr);
}

#[test]
fn cases_are_read_from_standard_input_and_their_diagnostics_are_shown_once() {
    let cases = "policies: {x/p: {podSelector: {}, ingress: [{form: []}]}}\npods: {x/a: {}, x/b: {}}\ncases:\n- {name: one, EXPECTED deny: [x/a -> x/b]}\n- {name: two, EXPECTED deny: [x/b -> x/a]}\n";
    let run = policyc_with("test -", &cases.replace("EXPECTED", ""), &[]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("-\n  ✓ one"), "{}", run.stdout);
    assert_eq!(run.stderr.matches("--> -:1:").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("unknown field"), "{}", run.stderr);
    let expected = cases.replace("EXPECTED", "diagnostics: [unknown field],");
    let run = policyc_with("test -", &expected, &[]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
}

#[test]
fn an_address_that_is_nobodys_is_refused_and_one_inside_ipv6_is_that_of_ipv4() {
    for address in ["0.0.0.0", "::", "127.0.0.53", "::1"] {
        let run = policyc(&format!("can {address} shop/cart-0 8080 -f shop"));
        assert_eq!(run.status, 2, "{address}");
        let error = format!("error: `{address}` is no end of a connection: it ");
        assert!(run.stderr.starts_with(&error), "{}", run.stderr);
    }
    let mapped = policyc("can ::ffff:203.0.113.7 shop/cart-0 8080 -f shop");
    assert_eq!(mapped.stdout, policyc("can 203.0.113.7 shop/cart-0 8080 -f shop").stdout);
}

#[test]
fn a_finished_pod_is_not_mistaken_for_the_heir_of_its_address() {
    let pod = |name: &str, phase: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x}}\nstatus: {{phase: {phase}, podIP: 10.0.0.1}}\n"
        )
    };
    let text = format!("{}---\n{}", pod("a", "Running"), pod("done", "Succeeded"));
    let run = policyc_with("can x/done 203.0.113.7 443 -f -", &text, &[]);
    let note = "note: x/done has finished; 10.0.0.1 is x/a's now\n";
    assert!(run.stdout.ends_with(note), "{}", run.stdout);
    let json = policyc_with("can 203.0.113.7 x/done 443 -f - -o json", &text, &[]).stdout;
    assert!(json.contains("\"notes\": [\n    \"x/done has finished; 10.0.0.1"), "{json}");
    let alone = policyc_with("can x/done 203.0.113.7 443 -f -", &pod("done", "Failed"), &[]);
    let note = "note: x/done has finished: no policy applies to it\n";
    assert!(alone.stdout.ends_with(note), "{}", alone.stdout);
}

#[test]
fn finished_pods_are_left_out_of_workloads_and_labels_unless_there_are_no_others() {
    let pod = |name: &str, phase: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: x\n  labels: {{job: sync}}\n  \
             ownerReferences: [{{apiVersion: batch/v1, kind: Job, name: sync, uid: u, controller: true}}]\n\
             status: {{phase: {phase}}}\n---\n"
        )
    };
    let deny = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: x}\n\
                spec: {podSelector: {}, policyTypes: [Egress]}\n---\n";
    let both = format!("{deny}{}{}", pod("sync-a", "Succeeded"), pod("sync-b", "Running"));
    let alone = format!("{deny}{}", pod("sync-a", "Succeeded"));
    for subject in ["x/job/sync", "x/job=sync"] {
        let asked = format!("can {subject} 203.0.113.7 443 -f -");
        let run = policyc_with(&asked, &both, &[]);
        assert_eq!(run.status, 1, "the one that runs may not: {}", run.stdout);
        assert!(!run.stdout.contains("finished"), "{}", run.stdout);
        let run = policyc_with(&asked, &alone, &[]);
        let note = "note: x/sync-a has finished: no policy applies to it\n";
        assert!(run.stdout.ends_with(note), "{}", run.stdout);
    }
}

#[test]
fn the_nearest_miss_is_no_replica_of_the_pod_itself() {
    let pod = |name: &str, app: &str, owner: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: x\n  labels: {{app: {app}}}\n  \
             ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: {owner}, uid: u, controller: true}}]\n---\n"
        )
    };
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec:\n  podSelector: {matchLabels: {app: db}}\n  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]\n";
    let replicas = [pod("db-0", "db", "db"), pod("db-1", "db", "db")].concat();
    let run = policyc_with("explain pod x/db-0 -f -", &format!("{replicas}{policy}"), &[]);
    assert!(run.stdout.contains("Everything else is dropped.\n"), "{}", run.stdout);
    let others = [pod("api-0", "api", "api"), pod("api-1", "api", "api")].concat();
    let text = format!("{replicas}{others}{policy}");
    let run = policyc_with("explain pod x/db-0 -f -", &text, &[]);
    let miss = "Nearest miss: x/api ×2 have app=api, p ingress[0].from[0] wants";
    assert!(run.stdout.contains(miss), "{}", run.stdout);
}

#[test]
fn an_invalid_policy_is_reported_and_the_answer_printed_all_the_same() {
    let run = policyc("can shop/cart shop/web 8080 -f invalid");
    assert!(run.stdout.contains("ALLOWED by shop/web ingress[1]"), "{}", run.stdout);
    assert!(run.stderr.contains("policy.yaml:17:5"), "{}", run.stderr);
    assert!(run.stderr.contains("did you mean `from`"), "{}", run.stderr);
}

#[test]
fn what_is_read_is_answered_beside_what_is_not() {
    let run = policyc("explain pod shop/cart-0 -f shop nowhere.yaml");
    assert!(run.stdout.starts_with("Pod shop/cart-0"), "{}", run.stdout);
    assert!(run.stderr.starts_with("error: nowhere.yaml: no such file"), "{}", run.stderr);
}

#[test]
fn standard_input_is_a_file_too() {
    let text = fs::read_to_string(fixtures().join("invalid/policy.yaml")).expect("the fixture");
    let run = policyc_with("explain pod shop/cart -f -", &text, &[]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("Pod shop/cart   10.0.0.2"), "{}", run.stdout);
}

#[test]
fn a_junit_report_goes_to_a_file_beside_the_text() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("report.xml");
    let run = policyc(&format!("test cases/wrong.yaml --junit {}", path.display()));
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert_eq!(run.stdout, policyc("test cases/wrong.yaml").stdout);
    let written = fs::read_to_string(path).expect("the report");
    assert_eq!(written, policyc("test cases/wrong.yaml -o junit").stdout);
    let run = policyc("test cases/good.yaml --junit nowhere/report.xml");
    assert_eq!(run.status, 2);
    assert!(run.stderr.starts_with("error: cannot write the JUnit report nowhere/report.xml: "));
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let escape = |line: &str, environment: &[(&str, &str)]| {
        policyc_with(line, "", environment).stdout.contains('\u{1b}')
    };
    let line = "explain pod shop/cart-0 -f shop";
    assert!(!escape(line, &[]), "a pipe is no terminal");
    assert!(escape(&format!("{line} --color always"), &[]), "asked for");
    assert!(!escape(&format!("{line} --color never"), &[("CLICOLOR_FORCE", "1")]), "refused");
    assert!(!escape(line, &[("NO_COLOR", "1")]), "NO_COLOR");
}

#[test]
fn no_line_is_wider_than_the_page() {
    for line in [
        "explain pod shop/cart-0 -f shop",
        "explain pod deploy/web -n shop -f shop",
        "explain pod sts/db -n shop -f templates",
        "can shop/web-5d9c7-h7x2p shop/cart-0 9090/udp -f shop",
    ] {
        for row in policyc(line).stdout.lines() {
            assert!(row.chars().count() <= 100, "{line}: {row}");
        }
        for columns in ["60", "80"] {
            let run = policyc_with(line, "", &[("COLUMNS", columns)]);
            let width: usize = columns.parse().expect("a number");
            for row in run.stdout.lines() {
                assert!(row.chars().count() <= width, "{line} in {columns}: {row}");
            }
        }
    }
}

#[test]
fn the_order_of_the_input_changes_nothing() {
    let one = policyc("explain pod shop/cart-0 -f shop/cluster.yaml shop/policies.yaml");
    let other = policyc("explain pod shop/cart-0 -f shop/policies.yaml -f shop/cluster.yaml");
    assert_eq!(one.stdout, other.stdout);
}

#[test]
fn every_command_has_an_example_and_every_shell_a_completion() {
    for command in [
        "explain pod",
        "explain policy",
        "can",
        "who-can",
        "matrix",
        "render",
        "test",
        "schema",
        "completions",
    ] {
        let help = policyc(&format!("{command} --help"));
        assert_eq!(help.status, 0);
        assert!(help.stdout.contains("Example"), "{command}: {}", help.stdout);
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = policyc(&format!("completions {shell}"));
        assert_eq!(script.status, 0);
        assert!(script.stdout.contains("explain"), "{shell}");
    }
}

/// Whether a question reads the cluster of a kubeconfig; `live.rs` asks such ones.
fn needs_a_cluster(line: &str) -> bool {
    let questions = ["explain", "can", "who-can", "matrix", "render"];
    questions.iter().any(|q| line.starts_with(q))
        && (line.contains("--live") || !line.contains("-f "))
}

#[test]
fn the_examples_of_the_help_work() {
    let root = fixtures().join("../../../..");
    let mut tried = 0;
    for command in ["explain pod", "can", "matrix", "render", "test", "schema"] {
        let help = policyc(&format!("{command} --help")).stdout;
        let examples = help.lines().filter_map(|line| line.trim().strip_prefix("policyc "));
        for line in examples.filter(|line| !line.contains(['*', '>'])) {
            let line = line.split(" #").next().unwrap_or(line);
            if needs_a_cluster(line) {
                continue;
            }
            let run = policyc_in(&root, line, "", &[]);
            assert!(run.status < 2, "{line}\n{}", run.stderr);
            tried += 1;
        }
    }
    assert!(tried >= 8, "only {tried} examples");
}
