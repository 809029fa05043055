//! What is told of failures, and when they are over.

use super::server::{Answer, Server, Watch, list, page, status, status_of};
use super::*;
use crate::source::api::kinds::{Nodes, Pods, Policies};

const REFUSED: &str = "cannot reach the API server at https://cluster: connection refused; nothing listens there; is \
                       it running?";

#[tokio::test]
async fn a_refused_kind_says_which_role_to_bind_and_heals_by_itself() {
    let denied = || status(403, "networkpolicies is forbidden: User \"x\" cannot list");
    let (_watch, watched) = Watch::new();
    let server = Server::new([denied(), denied(), denied(), list(&[], 1), watched]);
    let mut following = Following::new::<Policies>(&server, QUICK).await;
    let reason = "the API server refuses to list networkpolicies.networking.k8s.io (403): bind the ClusterRole \
                  `policyd`, which allows get, list and watch on it, to the account that policyd runs as \
                  (networkpolicies is forbidden: User \"x\" cannot list)";
    assert_eq!(following.next().await, standing(false, Some(reason)), "once for all three");
    assert_eq!(following.next().await, all::<Policies>(&[]));
    assert_eq!(following.next().await, standing(true, Some(reason)), "it is not watched yet");
    assert_eq!(following.next().await, standing(true, None));
    assert_eq!(server.asked(), ["list", "list", "list", "list", "watch 1"]);
}

#[tokio::test]
async fn each_refusal_says_what_to_do() {
    for (answer, words) in [
        (status(401, "Unauthorized"), "does not know who we are (401)"),
        (status(403, "no"), "the component that turns on --scoped-watch or --isolate-unknown adds"),
        (status(404, "page not found"), "does not serve nodes (404)"),
        (status(429, "slow down"), "has too much to do (429)"),
        (status(500, "etcd is away"), "fails to list nodes (500): etcd is away"),
        (status(502, "\n<html>\n<body>bad gateway"), "fails to list nodes (502): <html>"),
        (Answer::Refused, REFUSED),
        (Answer::Whole(200, json!(["no list"])), "says of nodes cannot be read: it is no list"),
    ] {
        let server = Server::new([answer]);
        let mut following = Following::new::<Nodes>(&server, QUICK).await;
        let reason = following.fails().await;
        assert!(reason.contains(words), "{reason}");
        assert!(!reason.contains('\n'), "{reason}");
    }
}

#[tokio::test]
async fn an_outage_is_over_when_the_watch_stands_again_though_nothing_changes() {
    let web = pod("web", "10.0.0.1", 1);
    let (first, watched) = Watch::new();
    let (_second, again) = Watch::new();
    let answers = [list(&[&web], 1), watched, Answer::Refused, Answer::Refused, again];
    let server = Server::new(answers);
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    assert_eq!(following.next().await, all::<Pods>(&[&web]));
    assert_eq!(following.next().await, standing(true, None));
    let before = Instant::now();
    drop(first);
    assert_eq!(following.next().await, standing(true, Some(REFUSED)));
    assert!(following.since.is_some_and(|since| since >= before));
    assert_eq!(following.next().await, standing(true, None));
    following.is_quiet(QUICK.grace * 2).await;
    let asked = ["list", "watch 1", "watch 1", "watch 1", "watch 1"];
    assert_eq!(server.asked(), asked, "it goes on where it was");
}

#[tokio::test]
async fn an_outage_with_another_face_is_as_old_as_it_was() {
    let server = Server::new([Answer::Refused, status(503, "starting"), Answer::Refused]);
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    assert_eq!(following.fails().await, REFUSED);
    let since = following.since;
    assert!(following.fails().await.contains("(503): starting"));
    assert_eq!(following.since, since);
}

#[tokio::test]
async fn an_event_is_proof_enough_that_a_failure_is_over() {
    let (first, watched) = Watch::new();
    let (second, again) = Watch::new();
    let grace = LIMIT;
    let server = Server::new([list(&[], 1), watched, Answer::Refused, again]);
    let mut following = Following::new::<Pods>(&server, Delays { grace, ..QUICK }).await;
    assert_eq!(following.next().await, all::<Pods>(&[]));
    assert_eq!(following.next().await, standing(true, None));
    first.reset();
    let reason = following.fails().await;
    assert!(reason.contains("connection reset"), "{reason}");
    assert_eq!(following.next().await, standing(true, Some(REFUSED)));
    let web = pod("web", "10.0.0.1", 2);
    second.send("ADDED", &web);
    assert_eq!(following.next().await, standing(true, None));
    assert_eq!(following.next().await, applied::<Pods>(&web));
}

#[tokio::test]
async fn a_watch_that_is_refused_after_all_ends_no_failure() {
    let (first, watched) = Watch::new();
    let (second, taken) = Watch::new();
    let (_third, again) = Watch::new();
    let server =
        Server::new([list(&[], 1), watched, Answer::Refused, taken, Answer::Refused, again]);
    let grace = Duration::from_secs(6);
    let mut following = Following::new::<Pods>(&server, Delays { grace, ..QUICK }).await;
    following.next().await;
    assert_eq!(following.next().await, standing(true, None));
    drop(first);
    assert_eq!(following.next().await, standing(true, Some(REFUSED)));
    while server.asked().len() < 4 {
        sleep(Duration::from_millis(1)).await;
    }
    following.is_quiet(Duration::from_millis(300)).await;
    second.send("ERROR", &status_of(500, "no"));
    drop(second);
    let refused = "the API server at https://cluster fails to watch pods (500): no";
    assert_eq!(following.next().await, standing(true, Some(refused)));
    assert_eq!(following.next().await, standing(true, Some(REFUSED)));
    assert_eq!(following.next().await, standing(true, None));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let (_watch, watched) = Watch::new();
    let server = Server::new([Answer::None, list(&[], 1), watched]);
    let answer = Duration::from_secs(1);
    let mut following = Following::new::<Pods>(&server, Delays { answer, ..QUICK }).await;
    let reason = following.fails().await;
    assert!(
        reason.starts_with("cannot reach the API server at https://cluster: no answer within"),
        "{reason}"
    );
    assert_eq!(following.next().await, all::<Pods>(&[]));
}

#[tokio::test]
async fn a_list_that_breaks_off_changes_nothing() {
    let (web, api) = (pod("web", "10.0.0.1", 1), pod("api", "10.0.0.2", 2));
    let (_half, stuck) = Watch::new();
    let answers = [page(&[&web], 1, Some("next")), stuck, list(&[&api], 3)];
    let server = Server::new(answers);
    let rest = Duration::from_secs(3);
    let mut following = Following::new::<Pods>(&server, Delays { list: rest, ..QUICK }).await;
    let reason = following.fails().await;
    assert!(reason.contains("no more of an answer within"), "{reason}");
    assert_eq!(following.next().await, all::<Pods>(&[&api]), "and not what came before");
    assert_eq!(server.asked()[..3], ["list", "list next", "list"]);
}

#[tokio::test]
async fn a_watch_that_is_silent_for_too_long_is_taken_up_where_it_was() {
    let (silent, watched) = Watch::new();
    let (second, again) = Watch::new();
    let server = Server::new([list(&[], 1), watched, again]);
    let limit = Duration::from_secs(6);
    let mut following = Following::new::<Pods>(&server, Delays { watch: limit, ..QUICK }).await;
    assert_eq!(following.next().await, all::<Pods>(&[]));
    assert_eq!(following.next().await, standing(true, None));
    let begun = Instant::now();
    sleep(limit / 2).await;
    silent.bookmark(5, &json!({}));
    let web = pod("web", "10.0.0.1", 6);
    second.send("ADDED", &web);
    assert_eq!(following.next().await, applied::<Pods>(&web), "and nobody was told of a failure");
    assert!(begun.elapsed() >= limit + limit / 4, "a bookmark is a sign of life");
    assert_eq!(server.asked(), ["list", "watch 1", "watch 5"]);
}

#[tokio::test]
async fn after_a_long_outage_all_is_listed_anew() {
    let web = pod("web", "10.0.0.1", 1);
    let (first, watched) = Watch::new();
    let answers = [list(&[&web], 900), watched, Answer::Refused, list(&[], 3)];
    let server = Server::new(answers);
    let forget = Duration::ZERO;
    let mut following = Following::new::<Pods>(&server, Delays { forget, ..QUICK }).await;
    following.next().await;
    assert_eq!(following.next().await, standing(true, None));
    drop(first);
    assert_eq!(following.next().await, standing(true, Some(REFUSED)));
    assert_eq!(
        following.next().await,
        all::<Pods>(&[]),
        "a server put back would not have said so"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_read_may_not_be_missed() {
    let (watch, watched) = Watch::new();
    let (_again, taken) = Watch::new();
    let web = pod("web", "10.0.0.1", 2);
    let server = Server::new([list(&[], 1), watched, list(&[&web], 2), taken]);
    let mut following = Following::new::<Pods>(&server, QUICK).await;
    following.next().await;
    assert_eq!(following.next().await, standing(true, None));
    watch.send_text("{\"type\": \"ADDED\", \"object\": nonsense}");
    let reason = following.fails().await;
    assert!(reason.contains("cannot be read: it is no JSON"), "{reason}");
    assert_eq!(following.next().await, all::<Pods>(&[&web]));
    assert_eq!(following.next().await, standing(true, None));
}
