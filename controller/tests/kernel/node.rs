//! A node for a test: a network namespace, a directory of manifests, and what others wrote there
//! before policyd came.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_tests::namespace::Namespace;

/// How long anything may take before a test gives it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What makes iptables-legacy wait for the lock.
pub(crate) const LOCK_WAIT: [&str; 2] = ["-w", "30"];

/// Options with which policyd tells of each reading of the kernel.
pub(crate) const TELLING: [&str; 2] = ["--log-level", "debug"];

/// Waits until both families were read that were just written: that comes two seconds after a start,
/// whatever the interval, and finds what no probe sees.
pub(crate) fn await_first_reading(policyd: &mut Running) {
    for family in ["IPv4", "IPv6"] {
        policyd.await_lines(&format!("read, and as it was written family={family}"), 1);
    }
}

pub(crate) const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.10}, {ip: \"fd00:10:244:1::a\"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: b}}
spec: {nodeName: n2, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.10}, {ip: \"fd00:10:244:2::a\"}]}
";

/// A policy that lets `from` reach the pods `to` on a port.
pub(crate) fn allow(name: &str, to: &str, from: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: {to}}}}}\n  ingress:\n  \
         - from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]\n    \
         ports: [{{port: {port}}}]\n"
    )
}

pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) backend: &'static str,
    folder: tempfile::TempDir,
    /// Folders that programs are looked for in before all others.
    path: Option<PathBuf>,
    /// Options of `run` besides those that every test has.
    pub(crate) options: Vec<&'static str>,
}

impl Node {
    /// A node where others have rules, chains and sets of their own.
    pub(crate) fn new(backend: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        let namespace = Namespace::create().unwrap();
        namespace.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")]).unwrap();
        let node = Self { namespace, backend, folder, path: None, options: Vec::new() };
        let foreign = "*filter\n:DOCKER - [0:0]\n-A FORWARD -j DOCKER\n\
                       -A DOCKER -m comment --comment \"not NPC-FORWARD\" -j RETURN\nCOMMIT\n";
        for family in ["iptables", "ip6tables"] {
            node.tool(&[&format!("{family}-{backend}-restore"), "--noflush"], foreign);
        }
        node.tool(&["ipset", "restore"], "create foreign hash:ip\nadd foreign 192.0.2.1\n");
        node
    }

    /// Runs a program of the node that must succeed.
    pub(crate) fn tool(&self, words: &[&str], input: &str) -> String {
        let mut command = Command::new(words[0]);
        // policyd may hold the lock just now, whatever it was last seen to do.
        let writes = words[0].ends_with("-legacy") || words[0].ends_with("-legacy-restore");
        if writes && !words.contains(&"-w") {
            command.args(LOCK_WAIT);
        }
        command.args(&words[1..]).env("XTABLES_LOCKFILE", self.file("xtables.lock"));
        self.namespace.run(&mut command, input).unwrap()
    }

    /// Destroys a set that no rule refers to any more: with nft the kernel lets go of it a moment after
    /// the rules are gone.
    pub(crate) fn destroy(&self, set: &str) {
        let begun = Instant::now();
        loop {
            let mut command = Command::new("ipset");
            let done = self.namespace.run(command.args(["destroy", set]), "");
            if done.is_ok() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{done:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.file("manifests")
    }

    /// Puts a manifest in place as careful writers do.
    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        let beside = self.source().join(format!(".{name}.tmp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.source().join(name)).unwrap();
        self
    }

    /// Puts a script in the place of a program.
    pub(crate) fn impersonate(&mut self, program: &str, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let folder = self.file("bin");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(program);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.path = Some(folder);
        path
    }

    /// Table filter of both families, without the lines that tell the time.
    pub(crate) fn tables(&self) -> String {
        ["iptables", "ip6tables"].map(|family| self.table(family, self.backend)).concat()
    }

    pub(crate) fn table(&self, family: &str, backend: &str) -> String {
        let save = self.tool(&[&format!("{family}-{backend}-save"), "-t", "filter"], "");
        save.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
    }

    /// All sets by name, each with its members in the kernel's order. That of the sets is the order
    /// they were made in, and tells nothing: both families make theirs at the same time.
    pub(crate) fn sets(&self) -> String {
        let mut sets: Vec<String> = Vec::new();
        for line in self.tool(&["ipset", "save"], "").split_inclusive('\n') {
            match sets.last_mut() {
                Some(set) if line.starts_with("add ") => set.push_str(line),
                _ => sets.push(line.to_owned()),
            }
        }
        sets.sort();
        sets.concat()
    }

    pub(crate) fn everything(&self) -> String {
        self.tables() + &self.sets()
    }

    /// What `FORWARD` of IPv4 holds, in order.
    pub(crate) fn forward(&self) -> Vec<String> {
        let table = self.table("iptables", self.backend);
        let rules = table.lines().filter_map(|line| line.strip_prefix("-A FORWARD "));
        rules.map(|rule| rule.rsplit(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// Starts policyd with its standard error elsewhere.
    pub(crate) fn start_logging_to(&self, stderr: std::process::Stdio) -> Running {
        let log = self.file("log");
        let source = self.source().display().to_string();
        let mut command = self.policyd(&self.run_words(&source), &log);
        command.stderr(stderr);
        Running { child: self.namespace.spawn(&mut command).unwrap(), log }
    }

    fn policyd(&self, words: &[&str], log: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_policyd"));
        let log = File::create(log).unwrap();
        command.args(words).env("XTABLES_LOCKFILE", self.file("xtables.lock"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(first) = &self.path {
            let rest = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{rest}", first.display()));
        }
        command
    }

    fn run_words<'a>(&'a self, source: &'a str) -> Vec<&'a str> {
        let mut words =
            vec!["run", "--source", source, "--node", "n1", "--iptables-backend", self.backend];
        words.extend(&self.options);
        words
    }

    /// Runs policyd until it is stopped or dropped.
    pub(crate) fn start(&self) -> Running {
        let source = self.source().display().to_string();
        self.run(&self.run_words(&source))
    }

    /// The same with other arguments.
    pub(crate) fn run(&self, words: &[&str]) -> Running {
        let log = self.file("log");
        let mut command = self.policyd(words, &log);
        Running { child: self.namespace.spawn(&mut command).unwrap(), log }
    }

    /// Applies once; the exit status and the log.
    pub(crate) fn once(&self) -> (ExitStatus, String) {
        let source = self.source().display().to_string();
        let mut words = self.run_words(&source);
        words.push("--once");
        self.end(&words)
    }

    pub(crate) fn cleanup(&self) -> (ExitStatus, String) {
        self.end(&["cleanup"])
    }

    pub(crate) fn end(&self, words: &[&str]) -> (ExitStatus, String) {
        let log = self.file("log.once");
        let mut child = self.namespace.spawn(&mut self.policyd(words, &log)).unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > 4 * PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("policyd {words:?} goes on: {}", fs::read_to_string(log).unwrap());
            }
            thread::sleep(Duration::from_millis(5));
        };
        (status, fs::read_to_string(log).unwrap())
    }
}

/// A policyd that runs; killed where a test ends without stopping it.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How many lines of the log have `text`.
    pub(crate) fn lines(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until the log has as many lines with `text`.
    pub(crate) fn await_lines(&mut self, text: &str, count: usize) -> &mut Self {
        self.await_that(&format!("{count} lines with `{text}`"), |log| {
            log.lines().filter(|line| line.contains(text)).count() >= count
        })
    }

    /// Waits until it is so; what it asks is told the log.
    pub(crate) fn await_that(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> &mut Self {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if is_so(&log) {
                return self;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "policyd ended: {ended:?}\n{log}");
            assert!(begun.elapsed() < PATIENCE, "it never came to this: {what}\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Does something while policyd stands still, so that it sees all of it at once.
    pub(crate) fn unseen<T>(&self, deed: impl FnOnce() -> T) -> T {
        self.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        while !self.stands_still() {
            assert!(begun.elapsed() < PATIENCE, "policyd goes on though it was stopped");
            thread::sleep(Duration::from_millis(1));
        }
        let done = deed();
        self.signal(Signal::SIGCONT);
        done
    }

    /// Whether all of its threads are stopped.
    fn stands_still(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.filter_map(Result::ok).all(|thread| {
            let status = fs::read_to_string(thread.path().join("status"));
            // One that has ended meanwhile does nothing either.
            status.is_ok_and(|status| status.contains("State:\tT")) || !thread.path().exists()
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and waits for that.
    pub(crate) fn stop(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < 2 * PATIENCE, "{signal} does not end it:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to do for one that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
