//! The loop on a source that tells object by object, in process: what waits, what is written together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::decode;
use policy_compiler::document;
use policy_compiler::update::{Event, PodList, Relist};
use policy_tests::privilege::kernel_test;
use policyd::dataplane::Dataplane;
use policyd::dataplane::backend::{Backend, BackendChoice};
use policyd::source::{Change, Input, Kind, Standing, Subject};
use policyd::sync::{Outlets, Sync, View};
use serde_json::json;

use crate::dataplane::settings;
use crate::node::{Node, PATIENCE, PODS, allow};

/// A cluster that a test speaks for.
struct Cluster {
    inbox: Sender<Input>,
}

impl Drop for Cluster {
    /// Ends the loop, however the story ends.
    fn drop(&mut self) {
        let _ = self.inbox.send(Input::Stop);
    }
}

impl Cluster {
    fn say(&self, input: Input) {
        self.inbox.send(input).unwrap();
    }

    fn change(&self, kind: Kind, object: Option<&str>, event: Event) {
        self.say(Input::Changed(Box::new(Change {
            subject: Subject { kind, object: object.map(Arc::from) },
            event: Some(event),
            found: BTreeMap::new(),
            seen: Instant::now(),
        })));
    }

    fn stand(&self, kind: Kind, listed: bool, failing: Option<&str>) {
        let failing = failing.map(|cause| (Instant::now(), cause.to_owned()));
        self.say(Input::Standing(Standing { kind, listed, failing }));
    }

    /// A part is listed: that there is nothing of the kind.
    fn list(&self, kind: Kind) {
        let event = match kind {
            Kind::Pod => Event::PodsRelisted(PodList::default()),
            Kind::Namespace => Event::NamespacesRelisted(Relist::default()),
            Kind::Policy => Event::PoliciesRelisted(Relist::default()),
            Kind::Node => Event::NodesRelisted(Relist::default()),
        };
        self.change(kind, None, event);
        self.stand(kind, true, None);
    }

    fn begin(&self) {
        let kinds = [Kind::Namespace, Kind::Policy, Kind::Pod];
        for kind in kinds {
            self.stand(kind, false, None);
        }
        for kind in kinds {
            self.list(kind);
        }
    }

    /// shop/NAME, whose label `app` is NAME as well.
    fn pod(&self, name: &str, node: &str, address: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "podIP": address},
        });
        let pod = decode::pod(&document::Node::from(pod), None).unwrap().object;
        self.change(Kind::Pod, Some(&format!("shop/{name}")), Event::PodApplied(Box::new(pod)));
    }

    /// shop/web: lets b reach a on `port`.
    fn policy(&self, port: u16) {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "a"}},
                "ingress": [{
                    "from": [{"podSelector": {"matchLabels": {"app": "b"}}}],
                    "ports": [{"port": port}],
                }],
            },
        });
        let policy = decode::policy(&document::Node::from(policy), None).unwrap().object;
        self.change(Kind::Policy, Some("shop/web"), Event::PolicyApplied(Box::new(policy)));
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&View<'_>) -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.say(Input::Asked(Box::new(move |view| answer.send(question(view)).unwrap())));
        answered.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    /// Waits until everything that was said is in the kernel.
    fn await_kernel(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ask(|view| view.engine.is_behind() || !view.health.is_ready()) {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                self.ask(|view| view.health.readiness().clone())
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many times IPv4 was written to.
    fn writes(&self) -> u64 {
        self.ask(|view| view.dataplane.written(view.engine.ruleset())[0].writes)
    }
}

/// Runs the loop in the namespace of `node` while `story` is told to it.
fn told(node: &Node, story: impl FnOnce(&Cluster) + Send) -> Outlets {
    let outlets = Outlets::default();
    let (sender, inbox) = mpsc::channel();
    thread::scope(|scope| {
        let outlets = outlets.clone();
        let cluster = Cluster { inbox: sender };
        scope.spawn(move || {
            let within = node.namespace.enter(move || {
                let dataplane = Dataplane::open(BackendChoice::Forced(Backend::Nft)).unwrap();
                Sync::new(settings(), dataplane).with_outlets(outlets).run(&inbox);
            });
            within.unwrap();
        });
        story(&cluster);
    });
    outlets
}

/// A counter or the like, as Prometheus sees it.
fn metric(outlets: &Outlets, name: &str) -> f64 {
    let text = outlets.metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

const ENFORCED: &str = "policyd_event_to_enforced_seconds_count";

#[test]
fn a_burst_is_written_together_and_each_of_its_events_is_timed() {
    kernel_test("load::a_burst_is_written_together_and_each_of_its_events_is_timed", || {
        const EVENTS: u16 = 1_000;
        let node = Node::new("nft");
        let outlets = told(&node, |cluster| {
            cluster.begin();
            cluster.pod("a", "n1", "10.244.1.10");
            cluster.pod("b", "n2", "10.244.2.10");
            cluster.await_kernel();
            let (begun, before) = (Instant::now(), cluster.writes());
            for port in 1..=EVENTS {
                cluster.policy(port);
                thread::sleep(Duration::from_micros(200));
                if port == EVENTS / 2 {
                    // It is answered amid all that.
                    cluster.writes();
                }
            }
            cluster.await_kernel();
            // Two at once, then one in 20 ms.
            let most = 3 + begun.elapsed().as_millis() / 20;
            let writes = u128::from(cluster.writes() - before);
            assert!((2..=most).contains(&writes), "{writes} writes in {:?}", begun.elapsed());
        });
        assert!(node.tables().contains("--dport 1000 "), "{}", node.tables());
        let name = format!("{ENFORCED}{{resource=\"networkpolicies\"}}");
        assert!((metric(&outlets, &name) - f64::from(EVENTS)).abs() < 0.5);
    });
}

#[test]
fn a_kernel_that_writes_slowly_is_not_kept_busy_all_the_time() {
    kernel_test("load::a_kernel_that_writes_slowly_is_not_kept_busy_all_the_time", || {
        let mut node = Node::new("nft");
        let program = "iptables-nft-restore";
        let script = format!(
            "while IFS= read -r line; do [ \"$line\" = COMMIT ] && sleep 0.1; echo \"$line\"; done | \
             /usr/sbin/{program} \"$@\""
        );
        node.impersonate(program, &script);
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        let (begun, before) = (Instant::now(), policyd.lines("INFO applied "));
        let mut port = 1_000;
        // Wanted all the time.
        while begun.elapsed() < Duration::from_secs(4)
            || policyd.lines("INFO applied ") < before + 8
        {
            assert!(begun.elapsed() < 4 * PATIENCE, "{}", policyd.log());
            port += 1;
            node.write("policy.yaml", &allow("web", "a", "b", port));
            thread::sleep(Duration::from_millis(60));
        }
        let writes = u32::try_from(policyd.lines("INFO applied ") - before).unwrap();
        // Each takes 0.1 s at least, and is followed by a pause of as long. One may begin at once, and
        // one may have been under way.
        let most = 2 + begun.elapsed().as_millis() / 180;
        assert!(u128::from(writes) <= most, "{writes} writes, {most} at most\n{}", policyd.log());
        let last = format!("--dport {port} ");
        policyd.await_that("the last rule", |_| node.tables().contains(&last));
    });
}

#[test]
fn members_wait_for_no_chain_and_what_makes_no_difference_is_not_timed() {
    let name = "load::members_wait_for_no_chain_and_what_makes_no_difference_is_not_timed";
    kernel_test(name, || {
        let node = Node::new("nft");
        let outlets = told(&node, |cluster| {
            cluster.begin();
            cluster.pod("a", "n1", "10.244.1.10");
            cluster.pod("b", "n2", "10.244.2.10");
            cluster.policy(80);
            cluster.await_kernel();
            let before = node.tables();
            for last in 11..=50 {
                cluster.pod("b", "n2", &format!("10.244.2.{last}"));
                cluster.pod("c", "n2", &format!("10.244.3.{last}"));
                cluster.await_kernel();
            }
            assert_eq!(node.tables(), before, "no rule has changed, and no set is another");
        });
        assert!(node.sets().contains(" 10.244.2.50\n"), "{}", node.sets());
        // a and b once, then b 40 times, and with it whatever of c went into the same update.
        let timed = metric(&outlets, &format!("{ENFORCED}{{resource=\"pods\"}}"));
        assert!((40.0..=82.0).contains(&timed), "{timed}");
    });
}

#[test]
fn nothing_is_written_before_all_is_listed_and_what_is_stale_later_is_a_note() {
    let name = "load::nothing_is_written_before_all_is_listed_and_what_is_stale_later_is_a_note";
    kernel_test(name, || {
        let node = Node::new("nft");
        let untouched = node.everything();
        let outlets = told(&node, |cluster| {
            let kinds = [Kind::Namespace, Kind::Policy, Kind::Pod];
            for kind in kinds {
                cluster.stand(kind, false, None);
            }
            cluster.list(Kind::Namespace);
            cluster.list(Kind::Pod);
            cluster.pod("a", "n1", "10.244.1.10");
            cluster.stand(Kind::Policy, false, Some("forbidden"));
            let begun = Instant::now();
            loop {
                let readiness = cluster.ask(|view| format!("{:?}", view.health.readiness()));
                if readiness.contains("networkpolicies: forbidden") {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "{readiness}");
                thread::sleep(Duration::from_millis(20));
            }
            // Nor by what the loop does once a second.
            thread::sleep(Duration::from_millis(1_200));
            assert_eq!(node.everything(), untouched);

            cluster.list(Kind::Policy);
            cluster.policy(80);
            cluster.await_kernel();
            cluster.stand(Kind::Pod, true, Some("connection refused"));
            let (ready, notes) = cluster.ask(|view| {
                let notes = view.health.notes().values().map(|note| note.text.clone());
                (view.health.is_ready(), notes.collect::<Vec<_>>())
            });
            assert!(ready);
            assert_eq!(notes, ["pods cannot be followed: connection refused"]);
            cluster.stand(Kind::Pod, true, None);
            assert_eq!(cluster.ask(|view| view.health.notes().len()), 0);
        });
        assert!(node.tables().contains("--dport 80 "), "{}", node.tables());
        assert!((metric(&outlets, "policyd_ready") - 1.0).abs() < 0.1);
        assert!(outlets.board.shown().notes.is_empty());
    });
}
