//! Small sets, which are made without a program, and those that are given up, which end in a quiet moment.

use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::config::NodeConfig;
use policy_compiler::engine::Engine;
use policy_compiler::update::Event;
use policy_tests::privilege::kernel_test;
use policyd::dataplane::backend::{Backend, BackendChoice};
use policyd::dataplane::{Dataplane, Outcome, START, Written};
use policyd::source::directory::Directory;

use crate::dataplane::settings;
use crate::node::{Node, PODS, allow};

macro_rules! under_both_backends {
    ($($test:ident),* $(,)?) => {
        mod nft { $(
            #[test]
            fn $test() {
                let name = concat!("sets::nft::", stringify!($test));
                super::kernel_test(name, || super::$test(super::Backend::Nft));
            }
        )* }
        mod legacy { $(
            #[test]
            fn $test() {
                let name = concat!("sets::legacy::", stringify!($test));
                super::kernel_test(name, || super::$test(super::Backend::Legacy));
            }
        )* }
    };
}

under_both_backends!(
    what_is_made_without_a_program_is_as_it_should_be,
    one_that_is_wanted_again_before_its_end_is_kept,
    one_that_rules_of_others_look_up_ends_once_they_let_go,
);

/// How long anything may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses of both families that are a set each, with exceptions.
const BLOCKS: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: blocks, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.7.0.0/16]}
    - ipBlock: {cidr: 192.168.0.0/16}
    - ipBlock: {cidr: \"fd00::/8\", except: [\"fd00:7::/32\"]}
    - ipBlock: {cidr: \"2001:db8::/32\"}
";

/// An engine, and a dataplane that writes what it says.
struct Agent<'a> {
    node: &'a Node,
    engine: Engine,
    dataplane: Dataplane,
}

impl Agent<'_> {
    /// Takes in what the directory holds, and writes what follows from it.
    fn write(&mut self) -> Written {
        let listing = Directory::open(&self.node.source()).unwrap().scan().unwrap();
        self.engine.apply(Event::Relisted(Box::new(listing.snapshot)));
        let update = self.engine.flush();
        self.dataplane.write(&update, self.engine.ruleset())
    }

    /// The same, by steps alone and without a program.
    fn follow(&mut self) {
        let begun = self.dataplane.processes();
        expect_steps(&self.write());
        assert_eq!(self.dataplane.processes(), begun);
    }

    /// Whether a reading shows just what was wanted.
    fn holds(&mut self) -> bool {
        self.dataplane.verify(self.engine.ruleset()).is_unchanged()
    }

    fn tidies_up(&mut self) {
        let begun = Instant::now();
        while self.dataplane.tidy() > 0 {
            assert!(begun.elapsed() < PATIENCE, "a set is still to be destroyed");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Both families were written, and neither of them whole.
fn expect_steps(written: &Written) {
    for (family, outcome) in written.iter() {
        let steps = matches!(outcome, Outcome::Written(changes) if !changes.whole);
        assert!(steps, "{family}: {outcome:?}");
    }
}

/// A node with a policy that refers to no addresses, and what `story` makes of it.
fn agent(backend: Backend, story: impl FnOnce(&mut Agent<'_>) + Send) {
    let node = Node::new(if backend == Backend::Nft { "nft" } else { "legacy" });
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    node.namespace
        .enter(|| {
            let dataplane = Dataplane::open(BackendChoice::Forced(backend)).unwrap();
            let engine = Engine::new(NodeConfig::new(settings().node), START);
            let mut agent = Agent { node: &node, engine, dataplane };
            assert!(agent.write().is_in_step());
            story(&mut agent);
        })
        .unwrap();
}

fn what_is_made_without_a_program_is_as_it_should_be(backend: Backend) {
    agent(backend, |agent| {
        let before = agent.node.sets();
        agent.node.write("blocks.yaml", BLOCKS);
        agent.follow();
        let sets = agent.node.sets();
        for (kind, count) in [("hash:net family inet ", 1), ("hash:net family inet6 ", 1)] {
            assert_eq!(sets.matches(kind).count(), count, "{sets}");
        }
        assert_eq!(sets.matches(" nomatch\n").count(), 2, "{sets}");
        assert!(agent.holds(), "{sets}");

        agent.node.write("blocks.yaml", "");
        agent.follow();
        assert!(!agent.dataplane.is_tidy(), "their end is left to later");
        agent.tidies_up();
        let names = |sets: &str| sets.lines().filter(|line| line.starts_with("create ")).count();
        assert_eq!(names(&agent.node.sets()), names(&before));
        assert!(agent.holds());
    });
}

fn one_that_is_wanted_again_before_its_end_is_kept(backend: Backend) {
    agent(backend, |agent| {
        agent.node.write("blocks.yaml", BLOCKS);
        agent.follow();
        for _ in 0..3 {
            agent.node.write("blocks.yaml", "");
            agent.follow();
            agent.node.write("blocks.yaml", BLOCKS);
            // With nft it may still be looked up, and a program exchanges its members then.
            expect_steps(&agent.write());
            assert!(agent.holds());
            agent.tidies_up();
            assert!(agent.holds(), "nothing is destroyed that is wanted");
        }
    });
}

fn one_that_rules_of_others_look_up_ends_once_they_let_go(backend: Backend) {
    agent(backend, |agent| {
        agent.node.write("blocks.yaml", BLOCKS);
        agent.follow();
        let sets = agent.node.sets();
        let ours = sets.lines().find(|line| line.contains("hash:net family inet ")).unwrap();
        let ours = ours.split(' ').nth(1).unwrap();
        let iptables = format!("iptables-{backend}");
        let others = |verb: &str| {
            let rule = ["-m", "set", "--match-set", ours, "src", "-j", "RETURN"];
            agent.node.tool(&[&[iptables.as_str(), verb, "DOCKER"][..], &rule].concat(), "");
        };
        others("-A");
        agent.node.write("blocks.yaml", "");
        expect_steps(&agent.write());
        let begun = Instant::now();
        while agent.dataplane.tidy() > 1 {
            assert!(begun.elapsed() < PATIENCE, "that of IPv6 is looked up by nobody");
        }
        assert_eq!(agent.dataplane.tidy(), 1, "it waits for others");

        agent.node.write("blocks.yaml", BLOCKS);
        expect_steps(&agent.write());
        assert!(agent.dataplane.is_tidy() && agent.holds(), "it is wanted again, and whole");

        agent.node.write("blocks.yaml", "");
        expect_steps(&agent.write());
        assert!(!agent.dataplane.is_tidy());
        others("-D");
        agent.tidies_up();
        assert!(!agent.node.sets().contains(ours));
    });
}
