//! Whether what somebody else changes is found by the probes, put right, and nothing of theirs with it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::http::get;
use crate::node::{LOCK_WAIT, Node, PATIENCE, PODS, Running, TELLING, allow, await_first_reading};

/// Makes a test of each scenario under each backend.
macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("drift::nft::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("nft"));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("drift::legacy::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("legacy"));
            })*
        }
    };
}

under_both_backends!(
    each_kind_of_sabotage_is_put_right_in_time,
    nothing_is_read_without_need,
    an_agent_that_fights_for_the_first_place_is_given_way_to,
);

/// What nobody waits for who is given way to for [`YIELDING`].
const AT_ONCE: Duration = Duration::from_secs(12);
/// For how many seconds policyd gives way once it has done so a few times.
const YIELDING: u32 = 16;

/// What others have beside us, as `iptables-restore` takes it.
const OTHERS: &str = "*filter\n:DOCKER - [0:0]\n-A FORWARD -j DOCKER\n\
                      -A DOCKER -m comment --comment \"not NPC-FORWARD\" -j RETURN\nCOMMIT\n";

/// What somebody does, as a shell's line, in which `IPT` and `IP6T` stand for iptables of the backend, `LEAF`
/// for a pod's chain, `HOOK` for the words of our rule in FORWARD, `PODS` and `NETS` for sets; and what
/// they take back afterwards of what is theirs.
struct Sabotage {
    name: &'static str,
    deed: &'static str,
    amends: &'static str,
    /// The one backend that it is for, if it is for one.
    backend: Option<&'static str>,
}

const fn sabotage(name: &'static str, deed: &'static str) -> Sabotage {
    Sabotage { name, deed, amends: "", backend: None }
}

const fn with_amends(name: &'static str, deed: &'static str, amends: &'static str) -> Sabotage {
    Sabotage { name, deed, amends, backend: None }
}

const fn only(backend: &'static str, name: &'static str, deed: &'static str) -> Sabotage {
    Sabotage { name, deed, amends: "", backend: Some(backend) }
}

/// Those that open nothing come first: of many in a minute they would be borne for a while.
const SABOTAGES: &[Sabotage] = &[
    with_amends(
        "a rule that lets nothing by is put above ours",
        "IPT -I FORWARD 1 -j DOCKER",
        "IPT -D FORWARD -j DOCKER",
    ),
    with_amends(
        "a rule that accepts is put above ours",
        "IPT -I FORWARD 1 -j ACCEPT",
        "IPT -D FORWARD -j ACCEPT",
    ),
    sabotage("the hook is removed", "IPT -D FORWARD 1"),
    sabotage("the hook is copied", "IPT -A FORWARD HOOK"),
    sabotage("the hook is altered", "IPT -R FORWARD 1 -j NPC-FORWARD"),
    sabotage("another built-in chain leads to ours", "IPT -A OUTPUT -j NPC-FORWARD"),
    sabotage("both families lose their hooks", "IPT -D FORWARD 1; IP6T -D FORWARD 1"),
    sabotage("FORWARD is flushed", "IP6T -F FORWARD"),
    sabotage("every chain is flushed", "IPT -F"),
    sabotage("every chain is flushed and removed", "IPT -F; IPT -X"),
    sabotage(
        "the table is replaced",
        "printf '*filter\\n:FORWARD ACCEPT\\nCOMMIT\\n' | IPT-restore",
    ),
    only("nft", "the table is deleted", "nft delete table ip filter"),
    only("nft", "everything is deleted", "nft flush ruleset"),
    sabotage("a rule is deleted", "IPT -D LEAF 1"),
    sabotage("a rule is appended", "IPT -A LEAF -j RETURN"),
    sabotage("a rule is inserted", "IP6T -I LEAF 1 -j ACCEPT"),
    sabotage("a rule is replaced", "IPT -R LEAF 2 -j ACCEPT"),
    sabotage("a denial becomes an acceptance", "IPT -R NPC-DENY-I 1 -j ACCEPT"),
    sabotage("rules change places", "IPT -D NPC-FORWARD 2; IPT -I NPC-FORWARD 1 -j NPC-INGRESS"),
    sabotage("a chain is flushed", "IP6T -F LEAF"),
    sabotage("a chain is removed", "IPT -F NPC-INGRESS; IPT -F LEAF; IPT -X LEAF"),
    sabotage("a chain is renamed", "IPT -E LEAF NPC-I-other"),
    sabotage("a chain is added", "IPT -N NPC-I-stray; IPT -A NPC-I-stray -j ACCEPT"),
    sabotage("a member is removed", "ipset del PODS 10.244.2.10"),
    sabotage("a member is added", "ipset add PODS 10.9.9.9"),
    sabotage("an isolated address is removed", "ipset del npc6-iso fd00:10:244:1::a"),
    sabotage("a set is flushed", "ipset flush npc4-iso"),
    sabotage("a network is added", "ipset add NETS 0.0.0.0/1"),
    sabotage("an exception is removed", "ipset del NETS 10.1.0.0/16"),
    sabotage(
        "an exception becomes a grant",
        "ipset del NETS 10.1.0.0/16; ipset add NETS 10.1.0.0/17",
    ),
    sabotage("a set is destroyed", "IPT -F NPC-MIDSTREAM; DESTROY npc4-iso"),
    sabotage(
        "a set is made anew with another type",
        "IPT -F NPC-MIDSTREAM; DESTROY npc4-iso; ipset create npc4-iso hash:net",
    ),
    sabotage(
        "a set is swapped for one with other options",
        "ipset create npc4-iso2 hash:ip timeout 0; ipset add npc4-iso2 10.244.1.10; \
         ipset swap npc4-iso npc4-iso2",
    ),
    sabotage("a set is added", "ipset create npc6-p-stray-1 hash:ip family inet6"),
    only("legacy", "the lock file goes", "rm -f $XTABLES_LOCKFILE; IPT -D FORWARD 1"),
    only(
        "legacy",
        "another file becomes the lock",
        "touch $XTABLES_LOCKFILE.new; mv $XTABLES_LOCKFILE.new $XTABLES_LOCKFILE; IPT -F LEAF",
    ),
    sabotage("the hook is removed again", "IPT -D FORWARD 1"),
];

/// What is left out of a comparison: counters, numbers that the kernel draws, and the order of members.
fn comparable(everything: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut members = BTreeSet::new();
    for line in everything.lines() {
        let line = line.split([' ']).filter(|word| !word.starts_with('['));
        let line = line.collect::<Vec<_>>().join(" ");
        let line = line.split(" hashsize").next().unwrap_or_default();
        if line.starts_with("add ") || line.starts_with("create ") {
            members.insert(in_any_generation(line));
        } else {
            lines.push(in_any_generation(line));
        }
    }
    lines.into_iter().chain(members).collect()
}

/// A line in which the names of pod sets have no generation: it is another after a start over.
fn in_any_generation(line: &str) -> String {
    let bare = |word: &str| match word.rsplit_once('-') {
        Some((name, _)) if name.starts_with("npc") && name.contains("-p-") => name.to_owned(),
        _ => word.to_owned(),
    };
    line.split(' ').map(bare).collect::<Vec<_>>().join(" ")
}

/// Ours: each line that names something of ours, and what stands first in FORWARD.
fn ours(everything: &str) -> Vec<String> {
    let lines = comparable(everything);
    let firsts = lines.iter().enumerate().filter(|(at, line)| {
        let is_forward = |line: &String| line.starts_with("-A FORWARD ");
        is_forward(line) && !at.checked_sub(1).is_some_and(|before| is_forward(&lines[before]))
    });
    let firsts: Vec<String> = firsts.map(|(_, line)| format!("first: {line}")).collect();
    let is_ours = |line: &&String| line.contains("NPC-") && !line.contains("not NPC-");
    let own = lines.iter().filter(|line| is_ours(line) || line.contains("npc"));
    firsts.into_iter().chain(own.cloned()).collect()
}

/// The others': every other line.
fn theirs(everything: &str) -> Vec<String> {
    let mut lines = comparable(everything);
    lines.retain(|line| {
        (!line.contains("NPC-") || line.contains("not NPC-")) && !line.contains("npc")
    });
    lines
}

/// A node on which policyd enforces a policy with peers of every kind.
fn node(backend: &'static str) -> Node {
    let mut node = Node::new(backend);
    node.tool(&["ip", "link", "set", "lo", "up"], "");
    node.options = vec!["--listen", "127.0.0.1:9476", "--verify-interval", "0"];
    let blocks = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                  metadata: {name: blocks, namespace: shop}\n\
                  spec:\n  podSelector: {matchLabels: {app: a}}\n  ingress:\n  \
                  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]\n    \
                  ports: [{port: 443}]\n";
    node.write("pods.yaml", PODS)
        .write("policy.yaml", &allow("web", "a", "b", 80))
        .write("blocks.yaml", blocks);
    node
}

fn start(node: &Node) -> Running {
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    policyd
}

/// What stands in a line for what only the node knows.
fn fill(node: &Node, line: &str) -> String {
    let (table, sets) = (node.table("iptables", node.backend), node.sets());
    let leaf = table.lines().find_map(|line| Some(line.strip_prefix(":NPC-I-")?.split(' ').next()));
    let leaf = format!("NPC-I-{}", leaf.flatten().unwrap_or_default());
    let set = |prefix: &str| {
        let mut names =
            sets.lines().filter_map(|line| line.strip_prefix("create ")?.split(' ').next());
        names.find(|name| name.starts_with(prefix)).unwrap_or_default().to_owned()
    };
    // With nft the kernel lets go of a set a moment after the rules that refer to it are gone.
    let destroy = "dies() { n=0; until ipset destroy $1; do n=$((n+1)); test $n -lt 2000; sleep 0.01; done; }; dies";
    let (backend, wait) =
        (node.backend, if node.backend == "legacy" { &LOCK_WAIT[..] } else { &[] });
    let program = |tool: &str| [&[&*format!("{tool}-{backend}")][..], wait].concat().join(" ");
    line.replace(
        "IPT-restore",
        &program("iptables").replace(backend, &format!("{backend}-restore")),
    )
    .replace("IPT", &program("iptables"))
    .replace("IP6T", &program("ip6tables"))
    .replace("LEAF", &leaf)
    .replace("HOOK", "-m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD")
    .replace("PODS", &set("npc4-p-"))
    .replace("NETS", &set("npc4-n-"))
    .replace("DESTROY", destroy)
}

/// Does it without a look of policyd's in between, which would put a half of it right.
fn do_it(node: &Node, policyd: &Running, line: &str) {
    policyd.unseen(|| do_it_alone(node, line));
}

fn do_it_alone(node: &Node, line: &str) {
    let line = format!("set -e; {}", fill(node, line));
    node.tool(&["sh", "-c", &line], "");
}

/// Waits until something is so, and says how long that took.
fn await_it(what: &str, log: &Running, is_so: impl Fn() -> Result<(), String>) -> Duration {
    let begun = Instant::now();
    while let Err(why) = is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: {why}\n{}", log.log());
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

fn equal(found: &[String], expected: &[String]) -> Result<(), String> {
    let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).collect();
    let beyond: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
    if found == expected {
        return Ok(());
    }
    Err(format!("missing {missing:#?}, not expected {beyond:#?}, or in another order: {found:#?}"))
}

fn each_kind_of_sabotage_is_put_right_in_time(backend: &'static str) {
    let node = node(backend);
    let before = theirs(&node.everything());
    let policyd = start(&node);
    let written = ours(&node.everything());
    equal(&theirs(&node.everything()), &before).unwrap();
    assert!(written.len() > 20, "{written:#?}");
    let mut longest = (Duration::ZERO, "");
    let rows = SABOTAGES.iter().filter(|row| row.backend.is_none_or(|only| only == backend));
    for Sabotage { name, deed, amends, .. } in rows.clone() {
        let others = policyd.unseen(|| {
            do_it_alone(&node, deed);
            theirs(&node.everything())
        });
        let took = await_it(name, &policyd, || equal(&ours(&node.everything()), &written));
        equal(&theirs(&node.everything()), &others).unwrap_or_else(|why| panic!("{name}: {why}"));
        longest = longest.max((took, name));
        // What they took away of their own they put back; that moves no rule of ours.
        for family in ["iptables", "ip6tables"] {
            if !node.table(family, backend).contains("-A FORWARD -j DOCKER") {
                node.tool(&[&format!("{family}-{backend}-restore"), "--noflush"], OTHERS);
            }
        }
        do_it(&node, &policyd, amends);
    }
    println!("{backend}: {} kinds, the longest took {longest:?}", rows.count());
    let log = policyd.log();
    assert!(log.contains("changed by others") && log.contains("again and again"), "{log}");
    let others = theirs(&node.everything());
    assert!(policyd.stop(Signal::SIGTERM).success());
    let (status, log) = node.cleanup();
    assert!(status.success(), "{log}");
    equal(&comparable(&node.everything()), &others).unwrap();
}

/// How many programs policyd has started, as it says by itself once a second.
fn processes(node: &Node) -> u64 {
    let (_, metrics) = get(node, "/metrics").unwrap();
    let name = "policyd_processes_started_total ";
    metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
}

/// Waits until none was started for so long, and says how many there are.
fn await_rest(node: &Node, policyd: &Running, rest: Duration) -> u64 {
    let begun = Instant::now();
    let (mut count, mut since) = (processes(node), Instant::now());
    while since.elapsed() < rest {
        assert!(begun.elapsed() < PATIENCE + rest, "it never rests\n{}", policyd.log());
        thread::sleep(Duration::from_millis(100));
        let now = processes(node);
        if now != count {
            (count, since) = (now, Instant::now());
        }
    }
    count
}

fn nothing_is_read_without_need(backend: &'static str) {
    let node = node(backend);
    let mut policyd = start(&node);
    // Longer than anything but a comparison by time has ever slept.
    let at_rest = await_rest(&node, &policyd, Duration::from_secs(11));

    // Changes of ours leave traces like those of others.
    let changes = 12;
    for change in 1..=changes {
        node.write("policy.yaml", &allow("web", "a", "b", 1000 + change));
        policyd.await_lines("INFO applied", 1 + usize::from(change));
        thread::sleep(Duration::from_millis(200));
    }
    let written = await_rest(&node, &policyd, Duration::from_secs(3));
    let most = 2 * u64::from(changes);
    assert!(written - at_rest <= most, "{} programs for {changes} changes", written - at_rest);

    // Changes of others that are none of ours are looked into, and not each of them.
    let begun = Instant::now();
    let mut noise = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        let table = format!("*mangle\n:NOISE{noise} - [0:0]\nCOMMIT\n");
        node.tool(&[&format!("iptables-{backend}-restore"), "--noflush"], &table);
        noise += 1;
        thread::sleep(Duration::from_millis(20));
    }
    await_it("a reading", &policyd, || {
        let read = processes(&node) - written;
        if read >= 6 { Ok(()) } else { Err(format!("{read} programs")) }
    });
    let read = await_rest(&node, &policyd, Duration::from_secs(2)) - written;
    // Table and sets of two families take three programs each, once a second at most.
    let most = 6 * (begun.elapsed().as_secs() + 1);
    println!("{backend}: {noise} changes of others, {read} programs");
    assert!((6..=most).contains(&read), "{read} programs, {noise} changes\n{}", policyd.log());
}

/// The repairs of one kind in IPv4 so far.
fn repairs(node: &Node, kind: &str) -> u64 {
    let (_, metrics) = get(node, "/metrics").unwrap();
    let name = format!("policyd_drift_repairs_total{{family=\"ipv4\",kind=\"{kind}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

fn an_agent_that_fights_for_the_first_place_is_given_way_to(backend: &'static str) {
    let node = node(backend);
    let mut policyd = start(&node);
    let over = AtomicBool::new(false);
    let insists = || {
        let script = "*filter\n-D FORWARD -j DOCKER\n-I FORWARD 1 -j DOCKER\nCOMMIT\n";
        while !over.load(Ordering::Relaxed) {
            if node.forward().first().is_some_and(|first| first == "NPC-FORWARD") {
                node.tool(&[&format!("iptables-{backend}-restore"), "--noflush"], script);
            }
            thread::sleep(Duration::from_millis(100));
        }
    };
    thread::scope(|scope| {
        let agent = scope.spawn(insists);
        policyd.await_lines("somebody changes our rules again and again", 1);
        let (before, begun) = (repairs(&node, "hooks"), Instant::now());
        let borne = format!("let nothing by are borne for {YIELDING} s");
        await_it("it gives way for longer each time", &policyd, || {
            let (_, readyz) = get(&node, "/readyz").unwrap();
            if readyz.contains(&borne) { Ok(()) } else { Err(readyz) }
        });
        let more = repairs(&node, "hooks") - before;
        // After pauses of 2, 4, 8 seconds and so on. One may not have been counted yet when the log told
        // of the fight, and the last is seen as soon as it is done.
        let (mut most, mut pause) = (2, 2);
        while Duration::from_secs(2 * pause - 2) <= begun.elapsed() {
            (most, pause) = (most + 1, pause * 2);
        }
        assert!(more <= most, "{more} repairs, {most} at most\n{}", policyd.log());
        let (_, readyz) = get(&node, "/readyz").unwrap();
        assert!(readyz.contains("IPv4: somebody changes our rules again and again"), "{readyz}");
        over.store(true, Ordering::Relaxed);
        agent.join().unwrap();
    });
    let log = policyd.log();
    assert_eq!(log.matches("again and again").count(), 1, "it is told once: {log}");

    // What opens something is put right at once all the same, and while it waits nothing else.
    let hooked = || {
        let first = node.forward().first().cloned();
        if first.as_deref() == Some("NPC-FORWARD") { Ok(()) } else { Err(format!("{first:?}")) }
    };
    for (name, deed) in [
        ("the hook is removed", "IPT -S FORWARD | sed -n 's/^-A/-D/p' | grep NPC | xargs IPT"),
        ("a rule above accepts", "IPT -I FORWARD 1 -j ACCEPT"),
    ] {
        do_it(&node, &policyd, deed);
        let took = await_it(name, &policyd, hooked);
        assert!(took < AT_ONCE, "{name}: {took:?}\n{}", policyd.log());
    }
}

#[test]
fn a_swap_of_members_is_found_by_the_interval_alone() {
    let name = "drift::a_swap_of_members_is_found_by_the_interval_alone";
    policy_tests::privilege::kernel_test(name, || {
        let mut node = node("nft");
        node.options.extend(TELLING);
        let mut policyd = start(&node);
        let swap = "ipset del PODS 10.244.2.10; ipset add PODS 10.9.9.9";
        await_first_reading(&mut policyd);
        do_it(&node, &policyd, swap);
        let swapped = |node: &Node| node.sets().contains(" 10.9.9.9\n");
        let others = ours(&node.everything()).into_iter().filter(|line| line.contains("npc6-"));
        let others: Vec<String> = others.collect();
        do_it(&node, &policyd, "ipset flush npc6-iso");
        await_it("a set of the other family", &policyd, || {
            let mut now = ours(&node.everything());
            now.retain(|line| line.contains("npc6-"));
            equal(&now, &others)
        });
        assert!(swapped(&node), "the probes do not see it");
        assert!(policyd.stop(Signal::SIGTERM).success());

        node.options = vec!["--verify-interval", "1"];
        node.options.extend(TELLING);
        let mut policyd = start(&node);
        await_first_reading(&mut policyd);
        do_it(&node, &policyd, swap);
        await_it("the swap is put right", &policyd, || {
            if swapped(&node) { Err("it stands".to_owned()) } else { Ok(()) }
        });
        assert!(node.sets().contains(" 10.244.2.10\n"), "{}", node.sets());
    });
}
