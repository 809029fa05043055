//! The node turns from one iptables to the other while policyd runs, and policyd with it: no packet
//! finds a window, nothing stays behind, and what a forced backend is told stays forced.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_tests::daemon::Daemon;
use policy_tests::enforcement::{Backend, Counts, LOCK_FILE, Loader, OWN_NAMESPACE};
use policy_tests::in_kernel;
use policy_tests::namespace::Namespace;
use policy_tests::privilege::kernel_test;
use policyd::args::{Cli, Command as Word};
use policyd::dataplane::Dataplane;
use policyd::dataplane::backend::{self, BackendChoice};
use policyd::dataplane::following::Readings;
use policyd::source::directory::Directory;
use policyd::source::{Input, Source};
use policyd::sync::Sync;

use crate::random::{Dice, seed};
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong};

fn other(backend: Backend) -> Backend {
    match backend {
        Backend::Nft => Backend::Legacy,
        Backend::Legacy => Backend::Nft,
    }
}

fn ours(backend: backend::Backend) -> Backend {
    match backend {
        backend::Backend::Nft => Backend::Nft,
        backend::Backend::Legacy => Backend::Legacy,
    }
}

impl Town {
    /// Has kubelet use `backend`: its hint is there and not in the other.
    fn hint_at(&self, backend: Backend) {
        let tell = |backend: Backend, words: &[&str]| {
            let mut command = Command::new(backend.iptables(Family::V4));
            command.args(["-w", "-t", "mangle"]).args(words).env(LOCK_FILE, OWN_NAMESPACE);
            self.node().output(&mut command, "").unwrap().status.success()
        };
        assert!(tell(backend, &["-N", "KUBE-IPTABLES-HINT"]));
        // It is not there at first.
        tell(other(backend), &["-X", "KUBE-IPTABLES-HINT"]);
    }

    /// Waits until a backend holds nothing of ours.
    fn expect_free(&self, backend: Backend) {
        let begun = Instant::now();
        loop {
            let counts = Family::ALL
                .map(|family| Counts::in_kernel(backend, self.node(), family).unwrap())
                .map(|counts| (counts.hooks, counts.chains, counts.rules));
            if counts == [(0, 0, 0); 2] {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{backend:?} still holds {counts:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// policyd in this process, which looks at the node more often than the program does.
struct Resident {
    inbox: Sender<Input>,
}

impl Resident {
    fn start(town: &Town) -> Self {
        let source = town.source().to_string_lossy().into_owned();
        let words = ["policyd", "run", "--source", &source, "--node", "n1"];
        let Word::Run(args) = Cli::try_parse_from(words).unwrap().command else { unreachable!() };
        let settings = args.settings().unwrap();
        let (inbox, inputs) = mpsc::channel();
        let directory = Directory::open(town.source()).unwrap();
        let to = inbox.clone();
        thread::spawn(move || directory.run(&to));
        let begin = move || {
            let often = Duration::from_millis(100);
            let readings = Readings { every: often, again: often };
            let dataplane =
                Dataplane::open(BackendChoice::Auto).unwrap().reading_the_node(readings);
            let mut sync = Sync::new(settings, dataplane);
            // Of the same network namespace as this thread.
            thread::spawn(move || sync.run(&inputs));
        };
        town.node().enter(begin).unwrap();
        Self { inbox }
    }

    /// Which backend it writes to, once it has written.
    fn backend(&self) -> Option<Backend> {
        let (to, answer) = mpsc::channel();
        let question = move |view: &policyd::sync::View<'_>| {
            let backend = view.health.is_ready().then(|| ours(view.dataplane.backend()));
            to.send(backend).unwrap();
        };
        self.inbox.send(Input::Asked(Box::new(question))).unwrap();
        answer.recv_timeout(PATIENCE).unwrap()
    }

    fn await_in(&self, backend: Backend) {
        let begun = Instant::now();
        while self.backend() != Some(backend) {
            assert!(begun.elapsed() < PATIENCE, "it never turned to {backend:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.inbox.send(Input::Stop);
    }
}

pub(crate) fn back_and_forth(turns: usize) {
    let mut dice = Dice::new(seed());
    let town = Town::new(Backend::Nft);
    town.hint_at(Backend::Nft);
    let mut state = State::random(&mut dice);
    town.put(&state);
    let policyd = Resident::start(&town);
    policyd.await_in(Backend::Nft);
    town.expect_kernel_of(Backend::Nft, &state);
    let vigil = town.watch(&state);
    let mut backend = Backend::Nft;
    for _ in 0..turns {
        backend = other(backend);
        town.hint_at(backend);
        let mut newest = 0;
        let begun = Instant::now();
        // Updates go on while it turns.
        while policyd.backend() != Some(backend) {
            assert!(begun.elapsed() < PATIENCE, "it never turned to {backend:?}");
            state = State::random(&mut dice);
            newest = vigil.may_become(town.verdicts(&state));
            town.put(&state);
            thread::sleep(Duration::from_micros(dice.next() % 150_000));
        }
        town.expect_kernel_of(backend, &state);
        town.expect_free(other(backend));
        vigil.is_in_force(newest);
        vigil.await_rounds(20).unwrap();
    }
    expect_nothing_wrong(vigil);
}

#[test]
fn it_follows_kubelets_hint_there_and_back_and_no_packet_notices() {
    let name = "backends::it_follows_kubelets_hint_there_and_back_and_no_packet_notices";
    kernel_test(name, || back_and_forth(2));
}

/// policyd as a process with the patience that it has by itself, whose `iptables-legacy-restore` does
/// not work until it is mended.
pub(crate) fn what_cannot_be_written_to_is_left_alone() {
    let tools = tempfile::tempdir().unwrap();
    let broken = tools.path().join("iptables-legacy-restore");
    fs::write(&broken, "#!/bin/sh\necho out of order >&2\nexit 3\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let town = Town::new(Backend::Nft);
    town.hint_at(Backend::Nft);
    let state = State::plain();
    town.put(&state);
    let daemon = town.launch_in("auto", &BTreeMap::from([("PATH", path.as_str())]));
    let read = daemon.await_line(" ready ", 0, PATIENCE).unwrap();
    let vigil = town.watch(&state);
    town.hint_at(Backend::Legacy);
    let minutes = Duration::from_mins(3);
    let said = "cannot write to the iptables that the node uses";
    daemon.await_line(said, read, minutes).unwrap();
    town.expect_kernel_of(Backend::Nft, &state);
    town.expect_free(Backend::Legacy);
    assert_eq!(told(&town), Some("nft".to_owned()));
    expect_nothing_wrong(vigil);
    daemon.stop(Signal::SIGTERM).unwrap();
}

/// As a process, with nothing but time to tell it.
pub(crate) fn by_itself_it_follows_within_two_minutes() {
    let town = Town::new(Backend::Nft);
    town.hint_at(Backend::Legacy);
    let state = State::plain();
    town.put(&state);
    let forced = town.launch_in("nft", &BTreeMap::new());
    forced.await_line(" ready ", 0, PATIENCE).unwrap();
    town.expect_kernel_of(Backend::Nft, &state);
    forced.stop(Signal::SIGTERM).unwrap();

    let daemon = town.launch_in("auto", &BTreeMap::new());
    daemon.await_line(" ready ", 0, PATIENCE).unwrap();
    town.expect_kernel_of(Backend::Legacy, &state);
    town.expect_free(Backend::Nft);
    let vigil = town.watch(&state);
    town.hint_at(Backend::Nft);
    await_turned(&daemon);
    town.expect_kernel_of(Backend::Nft, &state);
    town.expect_free(Backend::Legacy);
    town.expect_verified();
    assert_eq!(told(&town), Some("nft".to_owned()));
    expect_nothing_wrong(vigil);
}

fn await_turned(daemon: &Daemon) {
    let said = "rules are in the iptables that the node uses";
    daemon.await_line(said, 0, Duration::from_mins(3)).unwrap();
}

/// Which backend `policyd status` names.
fn told(town: &Town) -> Option<String> {
    let mut command = Town::policyd(&["status", "-o", "json"]);
    let output = town.node().output(&mut command, "").unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(status.get("backend")?.as_str()?.to_owned())
}

/// Rules that `nft` alone can write and show: one in `FORWARD` itself, which passes what is established
/// and so harms nobody, and a table of its own.
const NATIVE: &str = "\
table ip filter {
  chain FORWARD { type filter hook forward priority 0; policy accept;
    ct state vmap { established : accept, related : accept }; }
}
table ip6 filter {
  chain FORWARD { type filter hook forward priority 0; policy accept;
    ct state vmap { established : accept, related : accept }; }
}
table inet theirs {
  set known { type ipv4_addr; }
  chain forward { type filter hook forward priority 10; policy accept; ip saddr @known drop; }
}
";

impl Town {
    fn nft(&self, script: &str) -> String {
        self.node().run(Command::new("nft").args(["-f", "-"]), script).unwrap()
    }

    /// What `nft` shows of table filter, less what counts.
    fn native(&self, family: &str) -> String {
        listed(self.node(), family)
    }
}

fn listed(namespace: &Namespace, family: &str) -> String {
    let mut command = Command::new("nft");
    command.args(["-s", "list", "table", family, "filter"]);
    namespace.run(&mut command, "").unwrap()
}

#[test]
fn native_rules_that_iptables_cannot_show_stop_nothing() {
    let name = "backends::native_rules_that_iptables_cannot_show_stop_nothing";
    kernel_test(name, native_rules_stop_nothing);
}

fn native_rules_stop_nothing() {
    let mut dice = Dice::new(seed());
    let town = Town::new(Backend::Nft);
    let mut state = State::random(&mut dice);
    town.put(&state);
    town.nft(NATIVE);
    let hidden = town.backend.save(town.node(), Family::V4, "filter").unwrap();
    assert!(hidden.contains("is incompatible"), "iptables shows it: {hidden}");

    let daemon = town.start();
    let vigil = town.watch(&state);
    vigil.await_rounds(20).unwrap();
    // Updates go on, and one who starts over finds what there is.
    for _ in 0..3 {
        state = State::random(&mut dice);
        let number = vigil.may_become(town.verdicts(&state));
        town.put(&state);
        expect_native(&town, &state);
        vigil.is_in_force(number);
        vigil.await_rounds(10).unwrap();
    }
    daemon.stop(Signal::SIGKILL).unwrap();
    state = State::random(&mut dice);
    let number = vigil.may_become(town.verdicts(&state));
    town.put(&state);
    let daemon = town.start();
    expect_native(&town, &state);
    vigil.is_in_force(number);
    vigil.await_rounds(20).unwrap();
    let status = town.node().output(&mut Town::policyd(&["status"]), "").unwrap();
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(status.contains("what they say is not compared"), "{status}");
    expect_nothing_wrong(vigil);
    drop(daemon);

    town.node().run(&mut Town::policyd(&["cleanup"]), "").unwrap();
    for family in ["ip", "ip6"] {
        let table = town.native(family);
        assert!(table.contains("vmap") && !table.contains("NPC-"), "{table}");
    }
}

/// Waits until our chains and sets are just those of `state`, and one hook leads to them, before the rule of
/// others.
fn expect_native(town: &Town, state: &State) {
    let reference = Namespace::create().unwrap();
    Loader::Text.load(Backend::Nft, &reference, &Town::ruleset(state)).unwrap();
    let expected = ["ip", "ip6"].map(|family| chains(&listed(&reference, family)));
    let sets = in_kernel::sets(&reference).unwrap();
    let begun = Instant::now();
    loop {
        let texts = ["ip", "ip6"].map(|family| listed(town.node(), family));
        let found = texts.each_ref().map(|text| chains(text));
        if found == expected
            && texts.iter().all(|text| is_hooked(text))
            && in_kernel::sets(town.node()).unwrap() == sets
        {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{expected:#?}\n{sets:#?}\n{}", texts.concat());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Our chains in what `nft` has listed, each with its rules.
fn chains(listed: &str) -> BTreeMap<String, Vec<String>> {
    let chains = listed.split("chain ").skip(1).filter(|chain| chain.starts_with("NPC-"));
    let lines = |chain: &str| -> Vec<String> {
        let lines = chain.lines().skip(1).map(str::trim).take_while(|line| *line != "}");
        lines.map(in_kernel::without_generations).collect()
    };
    let name = |chain: &str| chain.split(' ').next().unwrap_or_default().to_owned();
    chains.map(|chain| (name(chain), lines(chain))).collect()
}

fn is_hooked(listed: &str) -> bool {
    let forward = listed.split("chain FORWARD {").nth(1).unwrap_or_default();
    let rules: Vec<&str> =
        forward.lines().skip(2).map(str::trim).take_while(|line| *line != "}").collect();
    matches!(rules[..], [first, second]
        if first.ends_with("jump NPC-FORWARD") && second.contains("vmap"))
}
