//! What is watched, and what becomes of what watches say.

use policy_compiler::config::NodeConfig;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::name::NodeName;
use policy_compiler::ruleset::Generation;
use policy_compiler::update::Relist;
use serde_json::{Value, json};

use super::*;
use crate::source::{Found, Problem, Subject};

struct Scene {
    scoping: Scoping,
    intake: Intake,
    engine: Engine,
    asked: watch::Receiver<PodWatches>,
    metrics: Arc<Metrics>,
}

fn selector(text: &str) -> Selector {
    let peer = text.split_once('=').map(|(key, value)| json!({"matchLabels": {key: value}}));
    let spec = json!({"podSelector": peer.unwrap_or_else(|| json!({}))});
    policy("x/made-up", &spec).pod_selector
}

fn pod(key: &str, node: &str, app: &str) -> Pod {
    let (namespace, name) = key.split_once('/').unwrap();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running"},
    });
    decode::pod(&Node::from(object), None).unwrap().object
}

fn policy(key: &str, spec: &Value) -> Policy {
    let (namespace, name) = key.split_once('/').unwrap();
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    });
    decode::policy(&Node::from(object), None).unwrap().object
}

/// Lets the pods with a label of namespace `from` into `app=web`.
fn letting_in(key: &str, from: &str, app: &str) -> Policy {
    let namespaces = json!({"matchLabels": {"kubernetes.io/metadata.name": from}});
    let pods = if app.is_empty() { json!({}) } else { json!({"matchLabels": {"app": app}}) };
    policy(
        key,
        &json!({
            "podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"namespaceSelector": namespaces, "podSelector": pods}]}],
        }),
    )
}

fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name).unwrap()
}

fn listing(pods: &[Pod]) -> Event {
    Event::PodsRelisted(pods.iter().cloned().collect())
}

fn about(kind: Kind, object: Option<&str>, event: Event) -> Change {
    let subject = Subject { kind, object: object.map(Arc::from) };
    Change { subject, event: Some(event), found: BTreeMap::new(), seen: Instant::now() }
}

fn listed(kind: Kind) -> Standing {
    Standing { kind, listed: true, failing: None }
}

impl Scene {
    /// Nothing is known yet.
    fn empty() -> Self {
        let node = NodeName::new("n1").unwrap();
        let (wanted, asked) = watch::channel(PodWatches::new());
        let mut scoping = Scoping::new(wanted);
        // What waits in a test waits for as long as the test says.
        scoping.hold = Duration::from_hours(1);
        Self {
            scoping,
            intake: Intake::new(node.clone()),
            engine: Engine::new(NodeConfig::new(node), Generation(0)),
            asked,
            metrics: Metrics::new(),
        }
    }

    /// The namespaces x, a and b, the pods of the node, and these policies.
    fn listed(policies: &[Policy]) -> Self {
        let mut scene = Self::empty();
        for name in ["x", "a", "b"] {
            let name = NamespaceName::new(name).unwrap();
            let namespace = policy_compiler::cluster::Namespace::undeclared(name);
            scene.engine.apply(Event::NamespaceApplied(namespace));
        }
        for policy in policies {
            scene.engine.apply(Event::PolicyApplied(Box::new(policy.clone())));
        }
        scene.intake.stand(listed(Kind::Namespace));
        scene.intake.stand(listed(Kind::Policy));
        scene.intake.stand(listed(Kind::Node));
        scene.lists(OWN, &[pod("x/web", "n1", "web")]);
        scene
    }

    fn says(&mut self, watch: u64, said: Said) {
        self.scoping.take(Watched { watch, said }, &mut self.intake, &mut self.engine);
    }

    fn event(&mut self, watch: u64, object: &str, event: Event) {
        self.says(watch, Said::Changed(about(Kind::Pod, Some(object), event)));
        self.follow();
    }

    fn applies(&mut self, watch: u64, pod: Pod) {
        self.event(watch, &pod.key.to_string(), Event::PodApplied(Box::new(pod)));
    }

    fn lists(&mut self, watch: u64, pods: &[Pod]) {
        self.says(watch, Said::Changed(about(Kind::Pod, None, listing(pods))));
        self.says(watch, Said::Standing(listed(Kind::Pod)));
        self.follow();
    }

    fn changes(&mut self, event: Event) {
        let change = about(Kind::Policy, Some("x/p"), event);
        if let Some(change) = self.scoping.hold(change, &self.engine) {
            let event = change.event.as_ref().unwrap();
            let scoped = Scoping::depends_on(event, &self.engine);
            if self.intake.apply(change, &mut self.engine) && scoped {
                self.scoping.notice();
            }
        }
        self.follow();
    }

    fn puts(&mut self, policy: Policy) {
        self.changes(Event::PolicyApplied(Box::new(policy)));
    }

    fn follow(&mut self) {
        self.scoping.follow(&mut self.intake, &mut self.engine, &self.metrics);
    }

    /// What the source is asked for: numbers, namespaces, selectors.
    fn asked(&self) -> Vec<(u64, String, String)> {
        let asked = self.asked.borrow();
        let namespace = |watch: &PodWatch| watch.namespace.as_ref().map(ToString::to_string);
        let line = |(number, watch): (&u64, &PodWatch)| {
            (*number, namespace(watch).unwrap_or_default(), watch.selector.to_string())
        };
        asked.iter().map(line).collect()
    }

    fn pods(&self) -> Vec<String> {
        self.engine.snapshot().pods.keys().map(ToString::to_string).collect()
    }

    fn policies(&self) -> Vec<String> {
        self.engine.snapshot().policies.keys().map(ToString::to_string).collect()
    }
}

fn asked(list: &[(u64, &str, &str)]) -> Vec<(u64, String, String)> {
    let owned = |(n, a, b): &(u64, &str, &str)| (*n, (*a).to_owned(), (*b).to_owned());
    list.iter().map(owned).collect()
}

#[test]
fn nothing_is_complete_before_the_pods_that_local_policies_name_are_listed() {
    let mut scene = Scene::empty();
    scene.lists(OWN, &[pod("x/web", "n1", "web")]);
    scene.intake.stand(listed(Kind::Namespace));
    scene.follow();
    assert!(!scene.scoping.standing().listed, "there may be policies");

    let mut scene = Scene::listed(&[letting_in("x/p", "a", "db")]);
    assert_eq!(scene.asked(), asked(&[(1, "a", "app=db")]));
    assert!(!scene.scoping.standing().listed, "there may be peers");
    scene.lists(1, &[pod("a/db", "n2", "db")]);
    assert!(scene.scoping.standing().listed);
    assert_eq!(scene.pods(), ["a/db", "x/web"]);
    assert!(Scene::listed(&[]).scoping.standing().listed, "there is nothing to wait for");
}

#[test]
fn nothing_is_complete_before_the_nodes_are_listed() {
    let mut scene = Scene::empty();
    scene.intake.stand(listed(Kind::Namespace));
    scene.intake.stand(listed(Kind::Policy));
    scene.lists(OWN, &[pod("x/web", "n1", "web")]);
    let nodes = Standing { listed: false, ..listed(Kind::Node) };
    for standing in [None, Some(nodes)] {
        if let Some(standing) = standing {
            scene.intake.stand(standing);
        }
        scene.follow();
        assert!(!scene.scoping.standing().listed, "a pod may claim the address of one");
    }
    scene.intake.stand(listed(Kind::Node));
    scene.follow();
    assert!(scene.scoping.standing().listed);
}

#[test]
fn what_may_be_watched_is_worked_out_again_only_for_what_it_depends_on() {
    let scene = Scene::listed(&[letting_in("x/p", "a", "db")]);
    let applied = |policy| Event::PolicyApplied(Box::new(policy));
    let undeclared =
        |name| policy_compiler::cluster::Namespace::undeclared(NamespaceName::new(name).unwrap());
    for (event, expected) in [
        (applied(letting_in("x/q", "b", "db")), true),
        (applied(letting_in("b/q", "a", "db")), false),
        (Event::PolicyDeleted(key("x/p")), true),
        (Event::PolicyDeleted(key("b/q")), false),
        (Event::PoliciesRelisted(Relist::default()), true),
        (Event::NamespaceApplied(undeclared("c")), true),
        (Event::NodeDeleted(NodeName::new("n2").unwrap()), false),
    ] {
        assert_eq!(Scoping::depends_on(&event, &scene.engine), expected, "{event:?}");
    }
}

#[test]
fn what_leaves_the_scope_is_forgotten_at_once_and_comes_back_with_a_new_list_only() {
    let mut scene = Scene::listed(&[letting_in("x/p", "a", "db")]);
    scene.lists(1, &[pod("a/db", "n2", "db")]);
    scene.changes(Event::PolicyDeleted(key("x/p")));
    assert_eq!((scene.asked(), scene.pods()), (asked(&[]), vec!["x/web".to_owned()]));

    scene.applies(1, pod("a/late", "n2", "db"));
    assert_eq!(scene.pods(), ["x/web"], "nobody listens to it");

    scene.puts(policy("x/p", &json!({"podSelector": {}})));
    scene.puts(letting_in("x/p", "a", "db"));
    assert_eq!(scene.asked(), asked(&[(2, "a", "app=db")]));
    scene.applies(1, pod("a/late", "n2", "db"));
    assert_eq!(scene.pods(), ["x/web"], "the old watch does not speak for the new one");
    scene.lists(2, &[pod("a/other", "n2", "db")]);
    assert_eq!(scene.pods(), ["a/other", "x/web"]);
}

#[test]
fn a_local_pod_that_comes_or_goes_changes_the_scope() {
    let mut scene = Scene::listed(&[letting_in("x/p", "a", "")]);
    scene.lists(1, &[pod("a/db", "n2", "db")]);
    scene.applies(OWN, pod("x/web", "n1", "other"));
    assert_eq!((scene.asked(), scene.pods()), (asked(&[]), vec!["x/web".to_owned()]));
    scene.applies(OWN, pod("x/web-1", "n1", "web"));
    assert_eq!(scene.asked(), asked(&[(2, "a", "everything")]));
    scene.lists(2, &[pod("a/db", "n2", "db")]);
    scene.event(OWN, "x/web-1", Event::PodDeleted(key("x/web-1")));
    assert_eq!((scene.asked(), scene.pods()), (asked(&[]), vec!["x/web".to_owned()]));
}

#[test]
fn a_watch_goes_on_until_what_takes_its_place_is_listed() {
    let mut scene = Scene::listed(&[letting_in("x/p", "a", "db")]);
    scene.lists(1, &[pod("a/db", "n2", "db")]);
    scene.puts(letting_in("x/p", "a", ""));
    assert_eq!(scene.asked(), asked(&[(1, "a", "app=db"), (2, "a", "everything")]));
    scene.applies(1, pod("a/db-1", "n2", "db"));
    assert_eq!(scene.pods(), ["a/db", "a/db-1", "x/web"], "it is listened to");
    scene.lists(2, &[pod("a/cache", "n2", "cache"), pod("a/db-1", "n2", "db")]);
    assert_eq!(scene.asked(), asked(&[(2, "a", "everything")]));
    assert_eq!(scene.pods(), ["a/cache", "a/db-1", "x/web"]);

    scene.puts(letting_in("x/p", "b", ""));
    assert_eq!(
        scene.asked(),
        asked(&[(3, "b", "everything")]),
        "another namespace is no substitute"
    );
    assert_eq!(scene.pods(), ["x/web"]);
}

#[test]
fn a_policy_that_isolates_anew_waits_for_the_pods_that_it_lets_in() {
    let mut scene = Scene::listed(&[]);
    scene.puts(letting_in("x/p", "a", "db"));
    assert_eq!(scene.policies(), [""; 0]);
    assert_eq!(scene.asked(), asked(&[(1, "a", "app=db")]));
    assert!(scene.scoping.at().is_some());
    scene.applies(OWN, pod("x/web-1", "n1", "web"));
    assert_eq!(scene.pods(), ["x/web", "x/web-1"], "a local pod does not wait");
    scene.lists(1, &[pod("a/db", "n2", "db")]);
    assert_eq!((scene.policies(), scene.scoping.at()), (vec!["x/p".to_owned()], None));

    scene.puts(letting_in("x/q", "b", ""));
    assert_eq!(scene.policies(), ["x/p", "x/q"], "the pods are isolated already");
    assert!(scene.asked().contains(&(2, "b".to_owned(), "everything".to_owned())));
}

#[test]
fn a_policy_waits_no_longer_than_its_time_and_not_for_a_version_that_is_gone() {
    let mut scene = Scene::listed(&[]);
    scene.puts(letting_in("x/p", "a", "db"));
    scene.changes(Event::PolicyDeleted(key("x/p")));
    assert_eq!((scene.policies(), scene.asked()), (Vec::new(), asked(&[])));
    assert_eq!(scene.scoping.at(), None);

    scene.puts(letting_in("x/p", "a", "db"));
    let until = scene.scoping.at();
    assert!(until.is_some());
    scene.puts(letting_in("x/p", "b", "db"));
    assert_eq!((scene.scoping.at(), scene.asked()), (until, asked(&[(3, "b", "app=db")])));

    scene.changes(Event::PoliciesRelisted(Relist::default()));
    assert_eq!((scene.scoping.at(), scene.asked()), (None, asked(&[])), "a list without it");

    scene.scoping.hold = Duration::ZERO;
    scene.puts(letting_in("x/q", "a", "db"));
    assert_eq!(scene.policies(), ["x/q"], "its time was over at once");

    let audited = Policy { audit: true, ..letting_in("x/r", "b", "cache") };
    scene.scoping.hold = Duration::from_hours(1);
    scene.puts(audited);
    assert_eq!(scene.policies(), ["x/q", "x/r"], "it isolates nobody");
}

#[test]
fn how_pods_stand_is_how_the_worst_of_their_watches_stands() {
    let mut scene = Scene::listed(&[letting_in("x/p", "a", "db")]);
    scene.lists(1, &[]);
    let failing = Some((Instant::now(), "away".to_owned()));
    let standing = Standing { failing: failing.clone(), ..listed(Kind::Pod) };
    scene.says(1, Said::Standing(standing.clone()));
    assert_eq!(scene.scoping.standing(), standing);
    scene.changes(Event::PolicyDeleted(key("x/p")));
    assert_eq!(scene.scoping.standing(), listed(Kind::Pod), "nobody wants it");
}

#[test]
fn what_a_watch_found_wrong_goes_with_it() {
    let mut scene = Scene::listed(&[letting_in("x/p", "a", "db")]);
    let problem = Problem {
        input: Arc::from("pods a/odd"),
        version: 0,
        message: "odd".to_owned(),
        node: Some(Arc::from("n2")),
    };
    let found = Found { diagnostics: Vec::new(), problems: vec![problem] };
    let mut change = about(Kind::Pod, None, listing(&[]));
    change.found = [(Arc::from("a/odd"), found)].into();
    scene.says(1, Said::Changed(change));
    scene.says(1, Said::Standing(listed(Kind::Pod)));
    scene.follow();
    scene.intake.report(&scene.engine);
    assert_eq!(scene.intake.problems(), 1);
    scene.lists(OWN, &[pod("x/web", "n1", "web")]);
    scene.intake.report(&scene.engine);
    assert_eq!(scene.intake.problems(), 1, "another watch was listed");
    scene.changes(Event::PolicyDeleted(key("x/p")));
    scene.intake.report(&scene.engine);
    assert_eq!(scene.intake.problems(), 0);
}

#[test]
fn where_all_pods_are_needed_that_is_said() {
    let to_names = json!({
        "podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}],
    });
    let mut scene = Scene::listed(&[policy("x/p", &to_names)]);
    assert_eq!(scene.asked(), asked(&[(1, "", "everything")]));
    let text = "all pods of the cluster are watched: x/p allows egress to named ports of pods \
                wherever they are";
    assert_eq!(scene.scoping.notes()["scope"].text, text);
    let metrics = scene.metrics.encode();
    assert!(metrics.contains("policyd_pod_watches{scope=\"all\"} 1"), "{metrics}");
    scene.lists(1, &[pod("b/any", "n2", "any")]);
    scene.changes(Event::PolicyDeleted(key("x/p")));
    assert_eq!((scene.scoping.notes(), scene.pods()), (Notes::new(), vec!["x/web".to_owned()]));
}

#[test]
fn one_selector_includes_another_that_asks_for_the_same_and_more() {
    for (one, other, expected) in [
        ("", "app=a", true),
        ("app=a", "app=a", true),
        ("app=a", "", false),
        ("app=a", "app=b", false),
    ] {
        assert_eq!(includes(&selector(one), &selector(other)), expected, "{one} {other}");
    }
}
