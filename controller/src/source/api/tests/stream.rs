//! What the engine is told of lists and events.

use super::server::{Server, Watch, list, page, status, status_of};
use super::*;
use crate::source::api::kinds::{Namespaces, Pods, Policies};
use crate::source::{Kind, Problem};
use policy_compiler::name::ObjectKey;
use policy_compiler::packed::PackedPod;
use policy_compiler::update::PodList;

#[tokio::test]
async fn the_first_list_is_one_change_however_many_pages_it_has() {
    let (web, api) = (pod("web", "10.0.0.1", 1), pod("api", "10.0.0.2", 2));
    let (_watch, watched) = Watch::new();
    let pages = [page(&[&web], 7, Some("next")), page(&[&api], 7, None)];
    let server = Server::new(pages.into_iter().chain([watched]));
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    assert_eq!(following.next().await, all::<Pods>(&[&web, &api]));
    assert_eq!(following.next().await, standing(true, None));
    following.is_quiet(QUICK.grace * 3).await;
    assert_eq!(server.asked(), ["list", "list next", "watch 7"]);
}

#[tokio::test]
async fn each_event_of_a_watch_is_a_change() {
    let (watch, watched) = Watch::new();
    let server = Server::new([list(&[], 1), watched]);
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    assert_eq!(following.next().await, all::<Pods>(&[]));
    assert_eq!(following.next().await, standing(true, None));
    let (before, after) = (pod("web", "10.0.0.1", 2), pod("web", "10.0.0.9", 3));
    watch.send("ADDED", &before);
    watch.bookmark(2, &json!({}));
    watch.send("MODIFIED", &after);
    watch.send("DELETED", &after);
    assert_eq!(following.next().await, applied::<Pods>(&before));
    assert_eq!(following.next().await, applied::<Pods>(&after));
    assert_eq!(following.next().await, deleted::<Pods>(&after));
    following.is_quiet(QUICK.grace).await;
}

#[tokio::test]
async fn a_namespace_is_known_by_its_metadata() {
    let metadata = json!({"name": "shop", "labels": {"team": "a"}, "resourceVersion": "2"});
    let partial = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
    });
    let whole = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata});
    let (watch, watched) = Watch::new();
    let server = Server::new([list(&[&partial], 1), watched]);
    let mut following = Following::new::<Namespaces>(&server, QUICK).await;
    assert_eq!(following.next().await, all::<Namespaces>(&[&whole]));
    assert_eq!(following.next().await, standing(true, None));
    watch.send("DELETED", &partial);
    assert_eq!(following.next().await, deleted::<Namespaces>(&whole));
}

#[tokio::test]
async fn a_watch_that_expired_is_a_new_list_and_no_failure() {
    let (old, new) = (pod("web", "10.0.0.1", 1), pod("api", "10.0.0.2", 9));
    let (expired, watched) = Watch::new();
    let (_watch, again) = Watch::new();
    let gone = status(410, "too old resource version");
    let answers = [list(&[&old], 1), watched, gone, list(&[&new], 9), again];
    let server = Server::new(answers);
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    assert_eq!(following.next().await, all::<Pods>(&[&old]));
    assert_eq!(following.next().await, standing(true, None));
    drop(expired);
    assert_eq!(following.next().await, all::<Pods>(&[&new]), "what is not in it is gone");
    following.is_quiet(QUICK.grace * 3).await;
    assert_eq!(server.asked(), ["list", "watch 1", "watch 1", "list", "watch 9"]);
}

#[tokio::test]
async fn a_watch_that_expires_in_its_midst_is_a_new_list_too() {
    let (watch, watched) = Watch::new();
    let server = Server::new([list(&[], 1), watched, list(&[], 9)]);
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    assert_eq!(following.next().await, all::<Pods>(&[]));
    assert_eq!(following.next().await, standing(true, None));
    watch.send("ERROR", &status_of(410, "expired"));
    assert_eq!(following.next().await, all::<Pods>(&[]));
}

#[tokio::test]
async fn a_pod_that_cannot_be_decoded_is_a_problem_and_no_event() {
    let mut broken = pod("web", "not-an-address", 1);
    let problem = |address: &str| Problem {
        input: "pods shop/web".into(),
        version: 0,
        message: format!(
            "error: Pod shop/web: status.podIPs[0].ip: `{address}` is no IP address; this pod cannot be taken \
             into account"
        ),
        node: Some("node-a".into()),
    };
    let found = |problem| {
        let found = Found { diagnostics: Vec::new(), problems: vec![problem] };
        BTreeMap::from([(Arc::from("shop/web"), found)])
    };
    let (watch, watched) = Watch::new();
    let server = Server::new([list(&[&broken, &pod("api", "10.0.0.2", 1)], 1), watched]);
    let mut following = Following::new::<Pods>(&server, QUICK).await;

    let key = |name: &str| ObjectKey::new("shop", name).unwrap();
    let api = decoded::<Pods>(&pod("api", "10.0.0.2", 1));
    let relist = PodList::new(vec![PackedPod::new(api)], BTreeSet::from([key("web")]));
    let listed = Told::Change {
        subject: Subject { kind: Kind::Pod, object: None },
        event: Some(Event::PodsRelisted(relist)),
        found: found(problem("not-an-address")),
    };
    assert_eq!(following.next().await, listed);
    assert_eq!(following.next().await, standing(true, None));

    broken["status"]["podIPs"] = json!([{"ip": "neither"}]);
    broken["spec"]["containers"] = json!("none");
    watch.send("MODIFIED", &broken);
    let mut told = problem("neither");
    told.message = format!(
        "error: Pod shop/web: spec.containers: must be a list, is text; this pod cannot be taken into account; {}",
        told.message
    );
    let changed = Told::Change {
        subject: Subject { kind: Kind::Pod, object: Some("shop/web".into()) },
        event: None,
        found: found(told),
    };
    assert_eq!(following.next().await, changed);
    watch.send("DELETED", &broken);
    let gone = change::<Pods>(Some("shop/web".into()), Some(Event::PodDeleted(key("web"))));
    assert_eq!(following.next().await, gone, "even so");
}

#[tokio::test]
async fn a_broken_policy_isolates_and_keeps_every_key_for_the_decoder_to_judge() {
    let specs = [
        json!({"podSelector": {}, "ingress": [{"form": []}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"serviceSelector": {}}]}]}),
        json!({"podSelector": {"matchLabels": {"app": 1}}, "egress": "all"}),
        json!("nothing"),
    ];
    let (watch, watched) = Watch::new();
    let server = Server::new([list(&[], 1), watched]);
    let mut following = Following::new::<Policies>(&server, QUICK).await;
    following.next().await;
    following.next().await;
    for (version, spec) in (2..).zip(specs) {
        let policy = policy("web", &spec, version);
        let decoded = decoded::<Policies>(&policy);
        assert!(decoded.flawed && decoded.isolates_ingress, "{spec}");
        let found = Found { diagnostics: findings(&policy), problems: Vec::new() };
        watch.send("MODIFIED", &policy);
        let expected = Told::Change {
            subject: Subject { kind: Kind::Policy, object: Some("shop/web".into()) },
            event: Some(Event::PolicyApplied(Box::new(decoded))),
            found: BTreeMap::from([(Arc::from("shop/web"), found)]),
        };
        assert_eq!(following.next().await, expected, "{spec}");
    }
}

#[tokio::test]
async fn the_policies_of_a_list_are_as_sound_as_those_of_a_watch() {
    let sound = policy("web", &json!({"podSelector": {}, "ingress": [{}]}), 1);
    let server = Server::new([list(&[&sound], 1)]);
    let mut following = Following::new::<Policies>(&server, QUICK).await;
    assert!(!decoded::<Policies>(&sound).flawed);
    assert_eq!(following.next().await, all::<Policies>(&[&sound]));
}

#[tokio::test]
async fn a_list_can_come_as_a_stream() {
    let (web, api) = (pod("web", "10.0.0.1", 1), pod("api", "10.0.0.2", 5));
    let (watch, watched) = Watch::new();
    let server = Server::new([watched]);
    let mut following = Following::asking::<Pods>(&server, QUICK, true).await;
    watch.send("ADDED", &web);
    following.is_quiet(QUICK.grace).await;
    watch.bookmark(4, &json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(following.next().await, all::<Pods>(&[&web]));
    assert_eq!(following.next().await, standing(true, None));
    watch.send("ADDED", &api);
    assert_eq!(following.next().await, applied::<Pods>(&api));
    assert_eq!(server.asked(), ["stream"]);
}

#[tokio::test]
async fn a_server_that_streams_no_lists_is_asked_for_pages() {
    let web = pod("web", "10.0.0.1", 1);
    let forbidden = status(422, "sendInitialEvents is forbidden for watch");
    let server = Server::new([forbidden, list(&[&web], 1)]);
    let mut following = Following::asking::<Pods>(&server, QUICK, true).await;
    assert_eq!(following.next().await, all::<Pods>(&[&web]));
    assert_eq!(server.asked()[..2], ["stream", "list"]);

    // One that does not know the parameter takes it for a watch, and never ends the list.
    let (watch, watched) = Watch::new();
    let server = Server::new([watched, list(&[&web], 1)]);
    let stall = Duration::from_millis(50);
    let mut following = Following::asking::<Pods>(&server, Delays { stall, ..QUICK }, true).await;
    watch.send("ADDED", &web);
    assert_eq!(following.next().await, all::<Pods>(&[&web]));
    assert_eq!(server.asked()[..2], ["stream", "list"]);
}
