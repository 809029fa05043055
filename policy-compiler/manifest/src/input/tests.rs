use std::fs;
use std::path::{Path, PathBuf};

use policy_compiler::diagnostic::Severity;
use proptest::prelude::*;

use super::*;

const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec: {podSelector: {}}\n";

fn pod(namespace: &str, name: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n")
}

fn labelled(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {label}}}}}\n")
}

fn parse(text: &str) -> ParsedFile {
    parse_file("a.yaml", text, &Options::default())
}

/// Kind, namespace and name of every object, in order.
fn names(parsed: &ParsedFile) -> Vec<String> {
    parsed.objects.iter().map(|o| o.reference().to_string()).collect()
}

fn messages(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

fn errors(errors: &[InputError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn load(path: &Path) -> Loaded {
    read(&[path], &Options::default())
}

#[test]
fn objects_come_from_documents_and_from_lists_of_any_kind() {
    let text = format!(
        "{}---\n{}",
        pod("a", "one"),
        r#"{"apiVersion":"v1","kind":"List","items":[
            {"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"two"}}]},
            {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b"}},
            {"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicyList","items":[
                {"metadata":{"name":"p","namespace":"b"},"spec":{"podSelector":{}}}]},
            {"apiVersion":"apps/v1","kind":"DeploymentList","items":null}]}"#
    );
    let parsed = parse(&text);
    assert_eq!(
        names(&parsed),
        ["Pod a/one", "Pod default/two", "Namespace b", "NetworkPolicy b/p"]
    );
    assert!(parsed.is_sound());
    assert_eq!(messages(&parsed.diagnostics), Vec::<String>::new());
}

#[test]
fn an_object_without_namespace_is_in_the_one_of_the_command_line() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: x}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: c}\n";
    let parsed = parse_file("a.yaml", text, &Options::in_namespace("shop").unwrap());
    assert_eq!(names(&parsed), ["Pod shop/a", "Pod x/b", "Namespace c"]);
    assert!(Options::in_namespace("no such").is_err());
}

#[test]
fn other_kinds_are_counted_and_other_projects_policies_are_named() {
    let calico = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\n";
    let parsed = parse(&format!(
        "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: ConfigMap\n---\n{calico}"
    ));
    assert_eq!(
        parsed.ignored,
        BTreeMap::from([("ConfigMap".to_owned(), 2), ("NetworkPolicy".to_owned(), 1)])
    );
    assert_eq!(parsed.diagnostics.len(), 1);
    assert!(parsed.is_sound());
}

#[test]
fn a_document_that_is_no_object_is_an_error_and_the_others_count() {
    let parsed = parse(&format!("just text\n---\n{}---\nname: x\n", pod("a", "one")));
    assert_eq!(names(&parsed), ["Pod a/one"]);
    let errors = errors(&parsed.errors);
    assert_eq!(errors.len(), 2);
    assert!(errors[0].starts_with("a.yaml:1:1: "), "{errors:?}");
    assert!(errors[1].starts_with("a.yaml:7:1: "), "{errors:?}");
    assert!(!parsed.is_sound());
}

#[test]
fn text_that_is_not_yaml_is_quoted() {
    let parsed = parse("kind: Pod\n bad: [\n");
    assert!(parsed.objects.is_empty() && !parsed.is_sound());
    let message = parsed.errors[0].to_string();
    assert!(message.starts_with("a.yaml:2:"), "{message}");
    assert!(message.contains("\n 2 |  bad: ["), "{message}");
}

#[test]
fn a_helm_template_is_named_as_such_and_skipped() {
    for text in [
        "metadata:\n  name: {{ .Values.name }}\n",
        "metadata:\n{{- if .Values.x }}\n  name: x\n{{- end }}\n",
        "{{ include \"policy\" . }}\n",
    ] {
        let parsed = parse(text);
        assert!(parsed.template && parsed.errors.is_empty() && !parsed.is_sound(), "{text}");
        assert_eq!(parsed.diagnostics[0].severity, Severity::Warning);
        assert!(parsed.diagnostics[0].message.contains("Helm"), "{text}");
        let loaded = merge([&parsed]);
        assert!(!loaded.is_complete() && loaded.unreadable.is_empty(), "{text}");
        assert_eq!(loaded.templates, [Arc::from("a.yaml")]);
    }
    // Placeholders where YAML allows them do not excuse what is broken elsewhere.
    let parsed = parse("a: \"{{ x }}\" # {{ y }}\nb: [\n");
    assert!(!parsed.template);
    assert_eq!(parsed.errors.len(), 1);
}

#[test]
fn an_invalid_pod_is_left_out_and_its_file_is_not_sound() {
    let parsed = parse("apiVersion: v1\nkind: Pod\nmetadata: {name: Not_A_Name}\n");
    assert!(parsed.objects.is_empty() && !parsed.is_sound());
    assert_eq!(parsed.left_out, parsed.diagnostics);
    let loaded = merge([&parsed]);
    assert!(!loaded.is_complete());
    assert_eq!(loaded.left_out, parsed.left_out);
    assert_eq!(parsed.diagnostics[0].severity, Severity::Error);
}

#[test]
fn a_policy_in_a_namespace_that_is_no_name_is_left_out() {
    let parsed = parse(&POLICY.replace("shop", "Shop"));
    assert!(parsed.objects.is_empty());
    assert_eq!(parsed.left_out.len(), 1);
    assert!(!merge([&parsed]).is_complete() && merge([&parse(POLICY)]).is_complete());
}

#[test]
fn a_word_to_be_quoted_is_quoted_as_it_is_written() {
    let help = |text: &str| parse(text).diagnostics.iter().find_map(|d| d.help.clone());
    let pod = |rest: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, {rest}}}\n");
    for (rest, word) in
        [("namespace: y", "y"), ("labels: {app: 0o17}", "0o17"), ("labels: {v: 1.50}", "1.50")]
    {
        let expected = format!("put it in quotes: \"{word}\"");
        assert_eq!(help(&pod(rest)), Some(expected), "{rest}");
    }
}

#[test]
fn what_legitimately_lies_beside_manifests_is_passed_over() {
    let options = Options::default();
    let case = parse_file("test.yaml", "cases:\n- name: x\n", &options);
    let kustomization = parse_file("d/kustomization.yaml", "resources: [a.yaml]\n", &options);
    assert!(case.is_sound() && kustomization.is_sound());
    assert_eq!(case.ignored, BTreeMap::from([("case file".to_owned(), 1)]));
    assert_eq!(kustomization.ignored, BTreeMap::from([("Kustomization".to_owned(), 1)]));
}

#[test]
fn directories_are_read_in_order_at_any_depth_without_what_is_hidden() {
    let a = pod("x", "a");
    let directory = directory(&[
        ("b.yml", &pod("x", "b")),
        ("a/deep/a.yaml", &a),
        ("c.json", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c","namespace":"x"}}"#),
        ("README.md", "not: [yaml"),
        (".hidden.yaml", "not: [yaml"),
        ("..data/a.yaml", "not: [yaml"),
        ("notes.txt", "not: [yaml"),
    ]);
    let listing = list(directory.path());
    let relative: Vec<PathBuf> =
        listing.files.iter().map(|f| f.strip_prefix(directory.path()).unwrap().into()).collect();
    assert_eq!(relative, [Path::new("a/deep/a.yaml"), Path::new("b.yml"), Path::new("c.json")]);
    let loaded = load(directory.path());
    assert_eq!(errors(&loaded.unreadable), Vec::<String>::new());
    assert_eq!(loaded.snapshot.pods.len(), 3);
    let name = directory.path().join("a/deep/a.yaml").display().to_string();
    assert_eq!(loaded.sources.text(&name), Some(&*a));
}

#[test]
fn a_named_file_is_read_whatever_its_name_and_only_once() {
    let directory = directory(&[("policy", POLICY), ("d/x.yaml", &pod("shop", "a"))]);
    let at = |name: &str| directory.path().join(name);
    let paths = [at("policy"), at("d"), at("d/x.yaml"), at("d/../policy")];
    let loaded = read(&paths, &Options::default());
    assert_eq!((loaded.snapshot.policies.len(), loaded.snapshot.pods.len()), (1, 1));
    assert!(loaded.diagnostics.iter().all(|d| d.severity == Severity::Note));
    let location = &loaded.snapshot.policies.values().next().unwrap().location;
    assert_eq!(location.to_string(), format!("{}:1:1", at("policy").display()));
}

#[test]
fn standard_input_is_a_dash() {
    let loaded = read_from(&["-"], &Options::default(), &mut POLICY.as_bytes());
    assert_eq!(loaded.snapshot.policies.values().next().unwrap().location.to_string(), "-:1:1");
    let bad = read_from(&["-"], &Options::default(), &mut &b"a: b\nc: \xff\n"[..]);
    assert_eq!(errors(&bad.unreadable), ["-:2:4: not UTF-8 text"]);
    let wide = read_from(&["-"], &Options::default(), &mut &b"\xff\xfea\0"[..]);
    assert_eq!(errors(&wide.unreadable), ["-:1:1: not UTF-8 text (it seems to be UTF-16)"]);
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_loaded() {
    let directory = directory(&[("a.yaml", POLICY), ("b.yaml", "a: [\n"), ("empty/x.txt", "")]);
    let missing = directory.path().join("missing");
    let paths = [directory.path().to_owned(), missing.clone(), directory.path().join("empty")];
    let loaded = read(&paths, &Options::default());
    assert_eq!(loaded.snapshot.policies.len(), 1);
    assert!(matches!(
        loaded.unreadable.as_slice(),
        [InputError::NotFound { path }, InputError::Yaml { .. }] if *path == missing
    ));
    assert!(messages(&loaded.diagnostics).iter().any(|m| m.contains("this directory has no")));
}

#[test]
fn every_failure_to_read_says_which() {
    let failure = |kind: std::io::ErrorKind| {
        InputError::of_io(Path::new("d/a.yaml"), std::io::Error::from(kind))
    };
    assert!(matches!(failure(std::io::ErrorKind::NotFound), InputError::NotFound { .. }));
    let denied = failure(std::io::ErrorKind::PermissionDenied);
    assert_eq!(denied.to_string(), "d/a.yaml: permission denied");
    assert_eq!(denied.location().to_string(), "d/a.yaml");
    let other = failure(std::io::ErrorKind::IsADirectory);
    assert!(other.to_string().starts_with("d/a.yaml: cannot be read: "), "{other}");
    assert!(std::error::Error::source(&other).is_some());
}

#[cfg(unix)]
#[test]
fn links_are_followed_without_end_and_broken_ones_are_told() {
    use std::os::unix::fs::symlink;
    let directory = directory(&[("real/a.yaml", POLICY)]);
    let at = |name: &str| directory.path().join(name);
    symlink(at("real"), at("real/loop")).unwrap();
    symlink(at("real/a.yaml"), at("b.yaml")).unwrap();
    symlink(at("nowhere"), at("c.yaml")).unwrap();
    symlink(at("nowhere"), at("d.txt")).unwrap();
    let loaded = load(directory.path());
    assert_eq!(loaded.snapshot.policies.len(), 1);
    // A link that leads nowhere may have led to a directory, whatever it is called.
    let message = |name: &str| format!("{}: no such file or directory", at(name).display());
    assert_eq!(errors(&loaded.unreadable), ["c.yaml", "d.txt"].map(message));
    assert!(loaded.diagnostics.iter().all(|d| d.severity == Severity::Note));
}

#[test]
fn of_two_objects_with_one_name_the_last_in_path_order_counts_and_both_are_told() {
    let options = Options::default();
    let one = parse_file("a/x.yaml", &labelled("p", "one"), &options);
    let two = parse_file("b.yaml", &labelled("p", "two"), &options);
    let forward = merge([&one, &two]);
    let backward = merge([&two, &one]);
    assert_eq!(forward.snapshot, backward.snapshot);
    assert_eq!(forward.diagnostics, backward.diagnostics);
    let pod = forward.snapshot.pods.values().next().unwrap();
    assert_eq!(pod.labels.get("app"), Some("two"));
    assert_eq!(
        messages(&forward.diagnostics),
        [
            "a/x.yaml:1:1: warning: Pod default/p: defined again at b.yaml:1:1; this one does not count",
            "b.yaml:1:1: warning: Pod default/p: defined before at a/x.yaml:1:1; this one counts",
        ]
    );
}

#[test]
fn of_two_files_named_in_another_order_the_last_in_path_order_counts_still() {
    let directory = directory(&[
        ("a.yaml", POLICY),
        ("b.yaml", &POLICY.replace("podSelector: {}", "podSelector: {matchLabels: {app: b}}")),
    ]);
    let [a, b] = ["a.yaml", "b.yaml"].map(|name| directory.path().join(name));
    let loaded = read(&[b, a], &Options::default());
    let policy = loaded.snapshot.policies.values().next().unwrap();
    assert_eq!(policy.pod_selector.to_string(), "app=b");
    assert!(messages(&loaded.diagnostics)[0].ends_with("this one does not count"));
}

#[test]
fn a_workload_stands_for_its_pods_until_they_are_there() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {metadata: {labels: {app: web}}}}\n";
    let owned = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1-x, labels: {pod-template-hash: '1'}, ownerReferences: [{kind: ReplicaSet, name: web-1, controller: true}]}\n";
    let set = "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1, ownerReferences: [{kind: Deployment, name: web, controller: true}]}\nspec: {template: {}}\n";
    let keys = |text: &str| {
        let loaded = merge([&parse(text)]);
        loaded.snapshot.pods.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(keys(deployment), ["default/web"]);
    assert_eq!(keys(&format!("{deployment}---\n{set}---\n{owned}")), ["default/web-1-x"]);
}

#[test]
fn workloads_of_several_kinds_may_share_a_name() {
    let workload = |kind: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: db}}\nspec: {{template: {{}}}}\n"
        )
    };
    let text = format!("{}---\n{}", workload("StatefulSet"), workload("Deployment"));
    let loaded = merge([&parse(&text)]);
    let keys: Vec<_> = loaded.snapshot.pods.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["default/db", "default/db.statefulset"]);
    assert!(loaded.diagnostics[0].message.contains("default/db.statefulset"));
}

#[test]
fn a_namespace_that_nothing_declares_is_noted_once() {
    let text = format!("{}---\n{}---\n{}", pod("x", "a"), pod("x", "b"), labelled("c", "d"));
    let declared = format!("{text}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n");
    let loaded = merge([&parse(&text)]);
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].severity, Severity::Note);
    assert_eq!(loaded.diagnostics[0].location.to_string(), "a.yaml:1:1");
    assert_eq!(merge([&parse(&declared)]).diagnostics, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let loaded = read_from(&["-"], &Options::default(), &mut bytes.as_slice());
        let _ = (errors(&loaded.unreadable), messages(&loaded.diagnostics));
    }

    #[test]
    fn no_mangled_policy_makes_it_panic(at in 0_usize..120, with in "[\\PC\n{}\\[\\]:&*-]{0,6}") {
        let mut text = POLICY.to_owned();
        let at = at.min(text.len());
        text.insert_str(at, &with);
        let loaded = merge([&parse(&text)]);
        let _ = (errors(&loaded.unreadable), messages(&loaded.diagnostics));
    }
}

#[test]
fn an_entry_that_cannot_be_looked_at_is_an_error_and_one_that_is_gone_is_none() {
    use std::os::unix::fs::symlink;
    let folder = directory(&[("a.yaml", POLICY)]);
    let path = folder.path();
    symlink("nothing", path.join("team")).unwrap();
    symlink("round", path.join("round")).unwrap();
    let listing = list(path);
    assert_eq!(listing.files, [path.join("a.yaml")]);
    let named: Vec<_> = listing.errors.iter().map(|e| e.location().file.unwrap()).collect();
    let expected = ["round", "team"].map(|name| Arc::from(path.join(name).display().to_string()));
    assert_eq!(named, expected);
    fs::remove_file(path.join("team")).unwrap();
    fs::remove_file(path.join("round")).unwrap();
    assert_eq!(errors(&list(path).errors), Vec::<String>::new());
}

#[test]
fn what_is_larger_than_any_manifest_is_not_read() {
    let folder = directory(&[]);
    let path = folder.path().join("a.yaml");
    fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let message = read_regular(&path).unwrap_err().to_string();
    assert_eq!(message, format!("{}: larger than 64 MiB", path.display()));
}

#[test]
fn reading_a_pipe_in_a_directory_does_not_wait_for_a_writer() {
    let folder = directory(&[]);
    let path = folder.path().join("a.yaml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let message = read_regular(&path).unwrap_err().to_string();
    assert!(message.contains("not a regular file"), "{message}");
}
