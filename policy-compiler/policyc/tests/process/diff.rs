//! `policyc diff` as a process: git revisions, clusters aside, exit statuses, and the examples.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::comparison::workloads;
use crate::fixture;
use crate::run::{Run, fixtures, policyc, policyc_in, policyc_with};

/// A repository with one commit, `v1`, of `k8s/`, and a work tree that went on.
struct Repository(tempfile::TempDir);

/// Three pods.
fn pods() -> String {
    fixture::pods([("web", "10.0.0.1"), ("api", "10.0.0.2"), ("db", "10.0.0.3")])
}

/// Pods `db` accept `peer`.
fn policy(peer: &str) -> String {
    fixture::policy("db", "db", peer)
}

impl Repository {
    fn new() -> Self {
        let repository = Self(tempfile::tempdir().expect("a directory"));
        repository.git(&["init", "-q", "-b", "main"]);
        repository.write("k8s/pods.yaml", &pods());
        repository.write("k8s/db.yaml", &policy("web"));
        repository.write("k8s/.hidden.yaml", "not: [yaml");
        repository.write("k8s/notes.txt", "not: [yaml");
        repository.write("elsewhere.yaml", "not: [yaml");
        repository.commit("v1");
        repository.write("k8s/db.yaml", &policy("api"));
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn commit(&self, tag: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", tag]);
        self.git(&["tag", tag]);
    }

    fn git(&self, arguments: &[&str]) {
        let status = Command::new("git")
            .args(arguments)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .envs([
                ("GIT_AUTHOR_NAME", "t"),
                ("GIT_AUTHOR_EMAIL", "t@example.org"),
                ("GIT_COMMITTER_NAME", "t"),
                ("GIT_COMMITTER_EMAIL", "t@example.org"),
            ])
            .status()
            .expect("git is there");
        assert!(status.success(), "git {arguments:?}");
    }

    fn policyc(&self, line: &str) -> Run {
        policyc_in(self.path(), line, "", &[])
    }
}

/// Opened and closed sources of the one policy that the repository has.
fn said(run: &Run) -> Vec<&str> {
    run.stdout.lines().filter(|line| line.starts_with("  x/")).collect()
}

#[test]
fn a_revision_is_compared_with_the_work_tree_and_with_another_revision() {
    let repository = Repository::new();
    let tree = repository.policyc("diff git:v1 -- k8s");
    assert_eq!((tree.status, &*tree.stderr), (1, ""), "{}", tree.stdout);
    assert_eq!(said(&tree).len(), 2, "{}", tree.stdout);
    assert!(tree.stdout.contains("v1:k8s/db.yaml:7 → k8s/db.yaml:7"), "{}", tree.stdout);
    let beside = repository.policyc("diff git:v1 k8s");
    assert_eq!(said(&beside).len(), 2, "{}", beside.stdout);

    repository.commit("v2");
    let both = repository.policyc("diff git:v1 git:v2 -- k8s -o json");
    assert_eq!(both.status, 2, "what stands behind `--` is a path: {}", both.stderr);
    let both = repository.policyc("diff git:v1 git:HEAD -o json -- k8s");
    let json: serde_json::Value = serde_json::from_str(&both.stdout).expect("JSON");
    assert_eq!(json["summary"]["opened"], 1, "{json:#}");
    assert_eq!(json["summary"]["closed"], 1, "{json:#}");
    assert_eq!(json["connections"][0]["causes"][0]["new"]["file"], "HEAD:k8s/db.yaml");
    let same = repository.policyc("diff git:v2 git:HEAD -- k8s");
    assert_eq!((same.status, &*same.stderr), (0, ""), "{}", same.stdout);
    let inside = policyc_in(&repository.path().join("k8s"), "diff git:v1 git:v2", "", &[]);
    assert_eq!((said(&inside).len(), &*inside.stderr), (2, ""), "{}", inside.stdout);
}

#[test]
fn a_revision_that_cannot_be_read_is_named_and_nothing_is_run_for_a_hostile_one() {
    let repository = Repository::new();
    for (line, message) in [
        ("diff git:nowhere -- k8s", "`git:nowhere` is no commit of this repository"),
        ("diff git:v1:k8s k8s", "`git:v1:k8s` names no revision"),
        ("diff git:--output=stolen k8s", "`git:--output=stolen` names no revision"),
        ("diff git:-h k8s", "`git:-h` names no revision"),
        ("diff git:v1 -- ../elsewhere", "../elsewhere: not inside the git repository"),
        ("diff git:v1 -- /etc", "/etc: not inside the git repository"),
        ("diff git:v1 k8s -- --help", "v1:--help: no such file or directory"),
        ("diff git:v1 git:v1 -- :(top)k8s", "v1::(top)k8s: no such file or directory"),
    ] {
        let run = repository.policyc(line);
        assert_eq!(run.status, 2, "{line}");
        assert!(run.stderr.starts_with(&format!("error: {message}")), "{line}: {}", run.stderr);
    }
    assert!(!repository.path().join("stolen").exists());
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("a.yaml"), pods()).expect("a file");
    let ceiling = outside.path().parent().expect("a parent").to_str().expect("UTF-8");
    let run = policyc_in(
        outside.path(),
        "diff git:main a.yaml",
        "",
        &[("GIT_CEILING_DIRECTORIES", ceiling)],
    );
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("not a git repository"), "{}", run.stderr);
    let run = policyc_with("diff git:main shop", "", &[("PATH", "/nonexistent")]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.starts_with("error: cannot run git: "), "{}", run.stderr);
}

#[test]
fn what_is_broken_in_a_revision_has_its_place_there() {
    let repository = Repository::new();
    repository.write("k8s/broken.yaml", "kind: [Pod\n");
    #[cfg(unix)]
    std::os::unix::fs::symlink("db.yaml", repository.path().join("k8s/link.yaml")).expect("a link");
    repository.commit("v2");
    fs::remove_file(repository.path().join("k8s/broken.yaml")).expect("it is there");
    let run = repository.policyc("diff git:v2 -- k8s");
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("--> v2:k8s/broken.yaml:2:1"), "{}", run.stderr);
    assert!(run.stderr.contains("a link in a git revision is not followed"), "{}", run.stderr);
}

#[test]
fn a_revision_is_read_wherever_its_path_is_named_from_and_each_file_once() {
    let repository = Repository::new();
    repository.commit("v2");
    let absolute = repository.path().join("k8s");
    for line in [
        format!("diff git:v1 git:v2 -- {}", absolute.display()),
        "diff git:v1 git:v2 -- k8s k8s/db.yaml k8s".to_owned(),
        "diff git:v1 git:v2 -- ./k8s/../k8s".to_owned(),
    ] {
        let run = repository.policyc(&line);
        assert_eq!((run.status, &*run.stderr), (1, ""), "{line}: {}", run.stdout);
        assert_eq!(said(&run).len(), 2, "{line}: {}", run.stdout);
    }
    let named = repository.policyc("diff git:v1 git:v2 -- k8s/notes.txt");
    assert_eq!(named.status, 2, "what is named outright is read whatever its name");
    assert!(named.stderr.contains("v1:k8s/notes.txt:"), "{}", named.stderr);
    let empty = repository.policyc("diff git:v1 git:v2 -- k9s");
    assert_eq!(empty.status, 2);
    assert!(empty.stderr.contains("v1:k9s: no such file or directory"), "{}", empty.stderr);
}

#[test]
fn a_file_of_a_revision_that_no_manifest_can_be_as_large_as_is_refused() {
    let repository = Repository::new();
    let huge = fs::File::create(repository.path().join("k8s/huge.yaml")).expect("a file");
    huge.set_len(65 << 20).expect("a length");
    repository.commit("v2");
    fs::remove_file(repository.path().join("k8s/huge.yaml")).expect("it is there");
    let run = repository.policyc("diff git:v2 -- k8s");
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("v2:k8s/huge.yaml: larger than 64 MiB"), "{}", run.stderr);
}

#[test]
fn no_example_differs_from_itself() {
    let examples = fixtures().join("../../../../examples");
    let mut folders = 0;
    for entry in fs::read_dir(&examples).expect("there").map_while(Result::ok) {
        let folder = entry.path();
        if !folder.is_dir() {
            continue;
        }
        let folder = folder.display();
        let run = policyc(&format!("diff {folder} {folder}"));
        assert_eq!(run.status, 0, "{folder}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.ends_with("\nNo difference.\n"), "{}", run.stdout);
        folders += 1;
    }
    assert!(folders >= 7);
}

#[test]
fn the_status_is_of_what_one_asks_it_to_fail_on() {
    let one_policy =
        "diff ../../../../examples/shop/cart.yaml diff/cart.yaml --with ../../../../examples/shop";
    let workloads = "diff shop/cluster.yaml shop/cluster.yaml templates";
    for (why, line, status) in [
        ("something opens and closes", one_policy.to_owned(), 1),
        ("something opens", format!("{one_policy} --fail-on widening"), 1),
        ("something closes", format!("{one_policy} --fail-on breaking"), 1),
        ("never", format!("{one_policy} --fail-on never"), 0),
        ("nothing differs", "diff shop shop --fail-on widening,breaking".to_owned(), 0),
        ("pods came", "diff diff/one.yaml diff/two.yaml".to_owned(), 1),
        (
            "a workload is no widening",
            "diff diff/one.yaml diff/two.yaml --fail-on widening,breaking".to_owned(),
            0,
        ),
        ("an address is not known", "diff templates diff/templates.yaml".to_owned(), 3),
        ("nor then", "diff templates diff/templates.yaml --fail-on widening".to_owned(), 3),
        ("nobody asks", "diff templates diff/templates.yaml --fail-on never".to_owned(), 0),
        ("a side that is not there", "diff shop nowhere".to_owned(), 2),
        ("too many sides", workloads.to_owned(), 2),
        ("one side", "diff shop".to_owned(), 2),
        ("standard input twice", "diff - -".to_owned(), 2),
        ("paths without a revision", "diff shop shop -- k8s".to_owned(), 2),
        ("a context without a cluster", "diff shop shop --context c".to_owned(), 2),
        ("no cluster", "diff live shop".to_owned(), 2),
    ] {
        let run = policyc(&line);
        assert_eq!(run.status, status, "{why}: {line}\n{}{}", run.stdout, run.stderr);
    }
}

#[test]
fn the_other_way_round_what_opened_closes() {
    let count = |line: &str| -> (u64, u64, u64) {
        let run = policyc(line);
        let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        let of = |key: &str| json["summary"][key].as_u64().expect("a number");
        (of("opened"), of("closed"), of("changed"))
    };
    let there = count("diff diff/old.yaml diff/new.yaml -o json");
    let back = count("diff diff/new.yaml diff/old.yaml -o json");
    assert_eq!((there.0, there.1, there.2), (back.1, back.0, back.2));
    assert!(there.0 > 0 && there.1 > 0 && there.2 > 0, "{there:?}");
}

#[test]
fn what_both_sides_share_is_not_decided_by_who_lacks_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let (pods, policy) = (pods(), policy("web"));
    // The base holds the policy too, and the new side has deleted it.
    let base = write("base.yaml", &format!("{pods}{policy}"));
    let (old, new) = (write("old.yaml", &policy), write("new.yaml", "# nothing\n"));
    let line = format!("diff {} {} --with {}", old.display(), new.display(), base.display());
    let run = policyc(&line);
    assert_eq!(run.status, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("x/db removed"), "{}", run.stdout);
}

#[test]
fn with_a_workload_the_pods_that_it_made_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let write =
        |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
    let owner = "ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: u, controller: true}]";
    write("base.yaml", &pods().replace("{name: web,", &format!("{{name: web-0, {owner},")));
    let template = "{metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}";
    write(
        "old.yaml",
        &format!(
            "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: web, namespace: x}}, spec: {{template: \
             {template}}}}}\n"
        ),
    );
    write("new.yaml", "# nothing\n");
    let run =
        policyc_in(directory.path(), "diff old.yaml new.yaml --with base.yaml -o json", "", &[]);
    assert_eq!(
        (workloads(&run), run.status),
        (vec!["removed x/web".to_owned()], 1),
        "{}",
        run.stdout
    );
}
