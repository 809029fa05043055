//! Inputs as they come: dumps of clusters, files of other systems, templates, and nothing at all.

use std::fmt::Write as _;
use std::fs;

use crate::fixture;
use crate::run::{Run, policyc_in};

/// Two pods, `a` and `b`.
fn pods() -> String {
    fixture::pods([("a", "10.0.0.1"), ("b", "10.0.0.2")])
}

/// Pods `a` accept pods `b`, on port 80.
fn from_b() -> String {
    format!("{}    ports: [{{port: 80}}]\n", fixture::policy("p", "a", "b"))
}

/// Runs `line` where `FILE` stands for a file with `text`.
fn on(name: &str, text: &str, line: &str) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(name), text).expect("a file");
    policyc_in(directory.path(), &line.replace("FILE", name), "", &[])
}

/// That `text` means the two pods and their policy: 80 is allowed and 81 is not.
fn means_both(what: &str, name: &str, text: &str) {
    for (port, status) in [(80, 0), (81, 1)] {
        let run = on(name, text, &format!("can x/b x/a {port} -f FILE"));
        assert_eq!(run.status, status, "{what}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn however_it_is_written_it_means_the_same() {
    let plain = format!("{}{}", pods(), from_b());
    means_both("several documents", "a.yaml", &plain);
    means_both("the line ends of Windows", "a.yaml", &plain.replace('\n', "\r\n"));
    means_both("a byte order mark", "a.yaml", &format!("\u{feff}{plain}"));
    means_both(
        "documents of comments",
        "a.yaml",
        &format!("# one\n---\n# two\n---\n{plain}---\n# three\n"),
    );
    means_both("both marks at once", "a.yaml", &format!("\u{feff}{}", plain.replace('\n', "\r\n")));
    let anchors = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: &meta {name: a, namespace: x, labels: {app: a}}
  status: &status {phase: Running, podIP: 10.0.0.1}
- apiVersion: v1
  kind: Pod
  metadata: {<<: *meta, name: b, labels: {app: b}}
  status: {<<: *status, podIP: 10.0.0.2}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: p, namespace: x}
  spec:
    podSelector: {matchLabels: {app: a}}
    ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}]
";
    means_both("anchors and merge keys in a List", "a.yaml", anchors);
}

#[test]
fn what_kubectl_prints_is_read() {
    let pod = |name: &str, address: &str, typed: &str| {
        format!(
            "{{{typed}\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"x\",\"labels\":{{\"app\":\"{name}\"}},\
             \"managedFields\":[{{\"manager\":\"kubectl\",\"fieldsV1\":{{\"f:metadata\":{{}}}}}}]}},\
             \"status\":{{\"phase\":\"Running\",\"podIP\":\"{address}\",\"podIPs\":[{{\"ip\":\"{address}\"}}]}}}}"
        )
    };
    let policy = |typed: &str| {
        format!(
            "{{{typed}\"metadata\":{{\"name\":\"p\",\"namespace\":\"x\"}},\"spec\":{{\"podSelector\":\
             {{\"matchLabels\":{{\"app\":\"a\"}}}},\"ingress\":[{{\"from\":[{{\"podSelector\":{{\"matchLabels\":\
             {{\"app\":\"b\"}}}}}}],\"ports\":[{{\"port\":80,\"protocol\":\"TCP\"}}]}}]}}}}"
        )
    };
    let v1 = "\"apiVersion\":\"v1\",\"kind\":\"Pod\",";
    let net = "\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\",";
    let list = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"metadata\":{{\"resourceVersion\":\"\"}},\"items\":[{},{},{}]}}",
        pod("a", "10.0.0.1", v1),
        pod("b", "10.0.0.2", v1),
        policy(net)
    );
    means_both("kubectl get pods,netpol -o json", "a.json", &list);
    let typed = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"PodList\",\"items\":[{},{}]}}\n{{\"apiVersion\":\
         \"networking.k8s.io/v1\",\"kind\":\"NetworkPolicyList\",\"items\":[{}]}}",
        pod("a", "10.0.0.1", ""),
        pod("b", "10.0.0.2", ""),
        policy("")
    );
    means_both("lists of one kind, one after the other", "a.json", &typed);
}

#[test]
fn helm_templates_are_named_as_such_and_skipped_with_a_warning() {
    let policy = |name: &str, value: &str, cidr: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\n  \
             namespace: x\nspec:\n  podSelector:\n    matchLabels:\n      app: {value}\n  ingress:\n  - from:\n    \
             - ipBlock: {{cidr: {cidr}}}\n"
        )
    };
    for (why, template) in [
        ("a bare value", policy("q", "{{ .Values.app }}", "10.0.0.0/8")),
        ("a quoted name, which is YAML", policy("\"{{ .Release.Name }}-q\"", "a", "10.0.0.0/8")),
        ("a quoted label", policy("q", "'{{ .Values.app }}'", "10.0.0.0/8")),
        ("a quoted block", policy("q", "a", "\"{{ .Values.cidr }}\"")),
        (
            "a directive",
            format!("{{{{- if .Values.on }}}}{}{{{{- end }}}}\n", policy("q", "a", "10.0.0.0/8")),
        ),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("a.yaml"), format!("{}{}", pods(), from_b()))
            .expect("a file");
        fs::write(directory.path().join("t.yaml"), &template).expect("a file");
        let run = policyc_in(directory.path(), "can x/b x/a 80 -f a.yaml t.yaml", "", &[]);
        assert_eq!(run.status, 2, "{why}: something was skipped\n{}", run.stderr);
        assert!(
            run.stderr.starts_with("warning: this is a Helm template"),
            "{why}: {}",
            run.stderr
        );
        assert!(run.stderr.contains("--> t.yaml:"), "{why}: {}", run.stderr);
        assert!(run.stdout.contains("ALLOWED by x/p ingress[0]"), "{why}: {}", run.stdout);
    }
    // Braces that another program fills in while the pod runs are none of Helm's.
    let annotated = fixture::pod("c", "10.0.0.3")
        .replace("labels:", "annotations: {inject: \"{{ with secret }}\"}, labels:");
    let run = on("a.yaml", &format!("{}{annotated}{}", pods(), from_b()), "can x/b x/a 80 -f FILE");
    assert_eq!((run.status, &*run.stderr), (0, ""));
}

#[test]
fn of_two_objects_with_one_name_both_are_named_and_the_last_counts() {
    let text = format!("{}{}---\n{}", pods(), from_b(), from_b().replace("80", "81"));
    let run = on("a.yaml", &text, "can x/b x/a 81 -f FILE");
    assert_eq!(run.status, 0, "{}", run.stdout);
    assert!(
        run.stderr.contains("NetworkPolicy x/p: defined again at a.yaml:20:1"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("NetworkPolicy x/p: defined before at a.yaml:11:1"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_namespace_that_no_object_declares_is_there_with_its_name() {
    let policy = from_b().replace(
        "from: [{podSelector: {matchLabels: {app: b}}}]",
        "from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}]",
    );
    means_both("no Namespace objects", "a.yaml", &format!("{}{policy}", pods()));
    let run = on("a.yaml", &format!("{}{policy}", pods()), "can x/b x/a 80 -f FILE -v");
    assert!(run.stderr.contains("no object declares this namespace"), "{}", run.stderr);
}

#[test]
fn without_objects_there_is_nothing_to_say_and_without_pods_little() {
    for text in ["", "# nothing\n", "---\n---\n# nothing\n"] {
        let run = on("a.yaml", text, "lint -f FILE");
        assert_eq!((run.status, &*run.stdout, &*run.stderr), (0, "no findings\n", ""), "{text:?}");
        let run = on("a.yaml", text, "can x/b x/a 80 -f FILE");
        assert_eq!(run.status, 2);
        assert!(run.stderr.contains("the input has no pods at all"), "{}", run.stderr);
    }
    // What depends on pods that are not given is unchecked, and no defect.
    let run = on("a.yaml", &from_b(), "lint -f FILE");
    assert_eq!(run.status, 0, "{}", run.stdout);
    assert!(
        run.stdout.contains("unchecked PC010: the input has no pods of namespace x"),
        "{}",
        run.stdout
    );
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("old.yaml"), from_b()).expect("a file");
    fs::write(directory.path().join("new.yaml"), from_b().replace("80", "443")).expect("a file");
    let run = policyc_in(directory.path(), "diff old.yaml new.yaml", "", &[]);
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.stdout.contains("ports: − 80/TCP, + 443/TCP"), "{}", run.stdout);
    assert!(run.stdout.contains("x/app=b   x/app=a   + 443/TCP"), "{}", run.stdout);
    let run = policyc_in(directory.path(), "diff old.yaml old.yaml", "", &[]);
    assert_eq!(run.status, 0, "{}", run.stdout);
}

#[test]
fn fifty_megabytes_are_read_and_more_than_a_manifest_can_be_is_refused() {
    // What a dump is mostly made of: objects that are passed over, with much text in them.
    let config = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"c\"}},\"data\":{{\"k\":\"{}\"}}}}\n",
        "x".repeat(1 << 20)
    );
    let mut text = String::new();
    for _ in 0..50 {
        let _ = write!(text, "{config}");
    }
    text.push_str(
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"namespace\":\"x\"},\"status\":{\"podIP\":\"10.0.0.1\"}}\n",
    );
    let run = on("a.json", &text, "explain pod x/a -f FILE -v");
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stderr.contains("passed over: 50 ConfigMap"), "{}", run.stderr);
    let directory = tempfile::tempdir().expect("a directory");
    let huge = fs::File::create(directory.path().join("a.yaml")).expect("a file");
    huge.set_len(65 << 20).expect("a length");
    let run = policyc_in(directory.path(), "explain pod x/a -f a.yaml", "", &[]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("a.yaml: larger than 64 MiB"), "{}", run.stderr);
}
