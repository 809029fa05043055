//! policyd as a process in a node: what packets make of edits, broken files, restarts and cleanup.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_compiler::flow::Traffic;
use policy_manifest::input;
use policy_tests::daemon::{Daemon, built_program};
use policy_tests::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use policy_tests::lab::{Lab, Plan, Wiring};
use policy_tests::namespace::Namespace;
use policy_tests::packet::Outline;
use policy_tests::placement::Placement;
use policy_tests::privilege::kernel_test;
use policy_tests::probe::{Probe, send_all};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server and two clients, wired both ways.
const PODS: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: good, labels: {app: good}}
  spec: {nodeName: n1}
  status: {phase: Running, podIPs: [{ip: 10.244.1.10}, {ip: "fd00:10:244:1::10"}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: other, labels: {app: other}}
  spec: {nodeName: n1}
  status: {phase: Running, podIPs: [{ip: 10.244.1.11}, {ip: "fd00:10:244:1::11"}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: server, labels: {app: server}}
  spec: {nodeName: n1}
  status: {phase: Running, podIPs: [{ip: 10.244.1.12}, {ip: "fd00:10:244:1::12"}]}
"#;

/// Lets `client` in on 80.
pub(crate) fn policy(client: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{namespace: x, name: server}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: server}}}}\n  ingress:\n  \
         - from: [{{podSelector: {{matchLabels: {{app: {client}}}}}}}]\n    ports: [{{port: 80}}]\n"
    )
}

fn policyd(words: &[&str]) -> Command {
    let mut command = Command::new(built_program("policyd").unwrap());
    command.args(words).env("NO_COLOR", "1").env(LOCK_FILE, OWN_NAMESPACE);
    command
}

/// A lab of one node with the pods above, and a directory for policyd.
pub(crate) struct Scene {
    lab: Lab,
    backend: Backend,
    pub(crate) directory: tempfile::TempDir,
    good: Vec<Probe>,
    other: Vec<Probe>,
}

impl Scene {
    pub(crate) fn new(backend: Backend) -> Self {
        let wirings = vec![Wiring::Bridged, Wiring::Routed, Wiring::Bridged];
        let lab = Lab::build(&Plan { nodes: vec![wirings] }).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pods.yaml"), PODS).unwrap();
        let snapshot = input::read(&[directory.path()], &input::Options::default()).snapshot;
        let placement = Placement::new(&lab, &snapshot, &[]).unwrap();
        placement.lay(backend).unwrap();
        let (good, other) = (probes(&lab, &placement, "10"), probes(&lab, &placement, "11"));
        let scene = Self { lab, backend, directory, good, other };
        scene.write("policy.yaml", &policy("good"));
        scene
    }

    pub(crate) fn node(&self) -> &Namespace {
        self.lab.namespace(&self.lab.nodes[0])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn start_over(&self, directory: &Path) -> Daemon {
        let backend = match self.backend {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        let source = directory.to_string_lossy();
        let words = ["run", "--source", &source, "--node", "n1", "--iptables-backend", backend];
        Daemon::start(self.node(), &mut policyd(&words)).unwrap()
    }

    fn start(&self) -> Daemon {
        let daemon = self.start_over(self.directory.path());
        daemon.await_line(" ready ", 0, PATIENCE).unwrap();
        daemon
    }

    /// Who gets through to the server on both families: the good client, the other.
    pub(crate) fn let_in(&self) -> (bool, bool) {
        self.lab.forget_connections().unwrap();
        let probes: Vec<Probe> = self.good.iter().chain(&self.other).cloned().collect();
        let fates: Vec<bool> =
            send_all(&self.lab, &probes).unwrap().iter().map(|fate| fate.arrived).collect();
        let both = |fates: &[bool]| {
            assert_eq!(fates[0], fates[1], "IPv4 and IPv6 differ: {fates:?}");
            fates[0]
        };
        (both(&fates[..2]), both(&fates[2..]))
    }

    /// Waits until packets meet what is expected.
    pub(crate) fn await_let_in(&self, expected: (bool, bool), what: &str) {
        let start = Instant::now();
        while self.let_in_of_any_family() != [expected; 2] {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}", self.let_in_of_any_family());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As [`Scene::let_in`] while a change may have reached one family alone.
    fn let_in_of_any_family(&self) -> [(bool, bool); 2] {
        self.lab.forget_connections().unwrap();
        let probes: Vec<Probe> = self.good.iter().chain(&self.other).cloned().collect();
        let fates = send_all(&self.lab, &probes).unwrap();
        [0, 1].map(|family| (fates[family].arrived, fates[2 + family].arrived))
    }

    /// All tables of both backends and all sets, less the counters and dates in comments.
    pub(crate) fn everything(&self) -> String {
        let mut all = String::new();
        for family in ["iptables", "ip6tables"] {
            for backend in ["nft", "legacy"] {
                let mut command = Command::new(format!("{family}-{backend}-save"));
                command.env(LOCK_FILE, OWN_NAMESPACE);
                all.push_str(&self.node().run(&mut command, "").unwrap());
            }
        }
        all.push_str(&self.node().run(Command::new("ipset").arg("save"), "").unwrap());
        let lines = all.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(" [").next().unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// Rules and sets of somebody else.
    pub(crate) fn others_rules(&self) {
        self.node().run(Command::new("ipset").args(["create", "theirs", "hash:ip"]), "").unwrap();
        for family in Family::ALL {
            let text = "*filter\n:THEIRS - [0:0]\n-A FORWARD -p 99 -j THEIRS\n\
                        -A THEIRS -p 99 -j ACCEPT\nCOMMIT\n*nat\n:THEIRS - [0:0]\nCOMMIT\n";
            self.backend.restore(self.node(), family, text).unwrap();
        }
    }
}

fn probes(lab: &Lab, placement: &Placement<'_>, last: &str) -> Vec<Probe> {
    ["10.244.1.", "fd00:10:244:1::"]
        .iter()
        .map(|net| {
            let source: IpAddr = format!("{net}{last}").parse().unwrap();
            let destination: IpAddr = format!("{net}12").parse().unwrap();
            let server = placement.slot_of(destination).unwrap();
            let bridged = placement.slot_of(source).unwrap().wiring == server.wiring;
            Probe {
                sender: placement.station_of(source),
                towards: if bridged { server.address_like(destination) } else { destination },
                outline: Outline::opening(source, destination, Traffic::tcp(80), lab.next_port()),
                receivers: vec![server.station],
            }
        })
        .collect()
}

macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("daemon::nft::", stringify!($scenario));
                super::kernel_test(name, || super::$scenario(super::Backend::Nft));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("daemon::legacy::", stringify!($scenario));
                super::kernel_test(name, || super::$scenario(super::Backend::Legacy));
            })*
        }
    };
}

under_both_backends!(
    packets_follow_edits_renames_and_deletions,
    packets_follow_the_swap_of_a_config_map,
    a_broken_file_opens_nothing_and_closes_nothing,
    a_restart_lets_nothing_through_that_was_denied,
    rules_outlive_policyd_and_cleanup_leaves_only_what_others_wrote,
);

fn packets_follow_edits_renames_and_deletions(backend: Backend) {
    let scene = Scene::new(backend);
    assert_eq!(scene.let_in(), (true, true), "before anybody polices");
    let _daemon = scene.start();
    assert_eq!(scene.let_in(), (true, false));
    scene.write("policy.yaml", &policy("other"));
    scene.await_let_in((false, true), "an edit in place");
    scene.write("policy.yaml.new", &policy("good"));
    fs::rename(scene.path("policy.yaml.new"), scene.path("policy.yaml")).unwrap();
    scene.await_let_in((true, false), "a file moved over the old one");
    fs::remove_file(scene.path("policy.yaml")).unwrap();
    scene.await_let_in((true, true), "a file deleted");
}

fn packets_follow_the_swap_of_a_config_map(backend: Backend) {
    let scene = Scene::new(backend);
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    for (generation, client) in [("..2026_1", "good"), ("..2026_2", "other")] {
        fs::create_dir(at(generation)).unwrap();
        fs::write(at(generation).join("pods.yaml"), PODS).unwrap();
        fs::write(at(generation).join("policy.yaml"), policy(client)).unwrap();
    }
    symlink("..2026_1", at("..data")).unwrap();
    for name in ["pods.yaml", "policy.yaml"] {
        symlink(format!("..data/{name}"), at(name)).unwrap();
    }
    let daemon = scene.start_over(volume.path());
    daemon.await_line(" ready ", 0, PATIENCE).unwrap();
    assert_eq!(scene.let_in(), (true, false));
    symlink("..2026_2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    scene.await_let_in((false, true), "the swap of ..data");
}

fn a_broken_file_opens_nothing_and_closes_nothing(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start();
    let read = daemon.lines().len();
    scene.write("policy.yaml", "spec: [\n");
    let read = daemon.await_line("not ready", read, PATIENCE).unwrap();
    assert_eq!(scene.let_in(), (true, false), "the old policy stays in force");
    scene.write("policy.yaml", &policy("other"));
    daemon.await_line(" ready ", read, PATIENCE).unwrap();
    scene.await_let_in((false, true), "mended, and as edited");
}

fn a_restart_lets_nothing_through_that_was_denied(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start();
    let over = AtomicBool::new(false);
    let (rounds, leaks, losses) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut rounds, mut leaks, mut losses) = (0, 0, 0);
            while !over.load(Ordering::Relaxed) || rounds <= 10 {
                for (good, other) in scene.let_in_of_any_family() {
                    leaks += u32::from(other);
                    losses += u32::from(!good);
                }
                rounds += 1;
            }
            (rounds, leaks, losses)
        });
        // What fails here must end the watch, or the scope would never end.
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert!(daemon.stop(Signal::SIGTERM).unwrap().success());
            let again = scene.start();
            // Killed in the middle of its work, with an edit that changes no verdict.
            scene.write("more.yaml", &policy("good").replace("name: server", "name: more"));
            again.stop(Signal::SIGKILL).unwrap();
            let last = scene.start();
            std::thread::sleep(Duration::from_millis(300));
            last.stop(Signal::SIGTERM).unwrap();
        }));
        over.store(true, Ordering::Relaxed);
        let seen = watch.join().unwrap();
        restarted.unwrap();
        seen
    });
    assert!(rounds > 10, "only {rounds} rounds were watched");
    assert_eq!((leaks, losses), (0, 0), "leaked and lost in {rounds} rounds");
}

fn rules_outlive_policyd_and_cleanup_leaves_only_what_others_wrote(backend: Backend) {
    let scene = Scene::new(backend);
    scene.others_rules();
    let before = scene.everything();
    let daemon = scene.start();
    let in_force = scene.everything();
    assert_ne!(in_force, before);
    assert!(daemon.stop(Signal::SIGTERM).unwrap().success());
    assert_eq!(scene.everything(), in_force, "rules stay");
    assert_eq!(scene.let_in(), (true, false), "and enforce");
    let done = scene.node().output(&mut policyd(&["cleanup"]), "").unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(scene.everything(), before);
    assert_eq!(scene.let_in(), (true, true));
}
