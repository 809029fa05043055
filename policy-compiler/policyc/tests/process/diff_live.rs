//! `policyc diff` with a cluster on a side, or under both.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::api_server::{ApiServer, Conduct, shop, shop_objects};
use crate::comparison::{told, workloads};
use crate::run::{fixtures, policyc_with};

/// The cart's policy as somebody would change it.
fn changed() -> String {
    fixtures().join("diff/cart.yaml").display().to_string()
}

const CHANGES: [&str; 3] = [
    "opened shop/api -> shop/cart 8080/TCP",
    "opened 203.0.113.0/26, 203.0.113.128/25 -> shop/cart 9090/TCP",
    "closed monitoring/prom -> shop/cart -9090/TCP",
];

#[test]
fn files_are_compared_with_the_cluster_as_if_they_were_applied_to_it() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let run = server.policyc(&format!("diff live {} -o json", changed()));
    assert_eq!((run.status, &*run.stderr), (1, ""), "{}", run.stdout);
    assert_eq!(told(&run), CHANGES);
    assert_eq!(workloads(&run), [""; 0], "what the file lacks is still there");
    let comparison: Json = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&comparison["old"], &comparison["new"]), (&json!("live"), &json!(changed())));
    let cause = &comparison["connections"][0]["causes"][0];
    assert_eq!(cause["name"], "shop/cart-from-web");
    assert_eq!((&cause["new"]["file"], &cause["new"]["line"]), (&json!(changed()), &json!(34)));
    assert_eq!(cause["old"], json!({"file": "live"}), "a cluster has no lines");
    let once = server.asked().iter().filter(|t| t.starts_with("/api/v1/pods?&limit=500")).count();
    let begun = server.asked().iter().filter(|t| *t == "/api/v1/pods?&limit=500").count();
    assert!(begun == 1 && once > 1, "a cluster is listed once, whatever is compared with it");
}

#[test]
fn the_other_way_round_it_is_what_the_cluster_has_changed_since() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let run = server.policyc(&format!("diff {} live -o json", changed()));
    assert_eq!((run.status, &*run.stderr), (1, ""), "{}", run.stdout);
    assert_eq!(
        told(&run),
        [
            "opened monitoring/prom -> shop/cart 9090/TCP",
            "closed shop/api -> shop/cart -8080/TCP",
            "closed 203.0.113.0/26, 203.0.113.128/25 -> shop/cart -9090/TCP",
        ]
    );
    let run = server.policyc(&format!("diff {} live -o json --fail-on never", changed()));
    assert_eq!(run.status, 0);
}

#[test]
fn a_cluster_does_not_differ_from_its_own_manifests_nor_from_itself() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let shop = shop();
    for line in [
        format!("diff live {}", shop.display()),
        format!("diff {} live", shop.display()),
        format!("diff live {} --prune", shop.display()),
        "diff live live".to_owned(),
    ] {
        let run = server.policyc(&line);
        assert_eq!((run.status, &*run.stderr), (0, ""), "{line}: {}", run.stdout);
        assert!(run.stdout.ends_with("\nNo difference.\n"), "{line}: {}", run.stdout);
    }
}

#[test]
fn only_with_prune_the_policies_that_files_lack_are_deleted_and_nothing_else_is() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    // All of the shop's policies but those of `api.yaml` and `db.yaml`, and no pod.
    let kept = ["default-deny", "allow-dns-and-shop", "cart-from-web", "web-from-anywhere"];
    let policies: Vec<Json> = shop_objects()
        .into_iter()
        .filter(|object| kept.iter().any(|name| object["metadata"]["name"] == *name))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": policies});
    let file = server.write("policies.json", &list.to_string());
    let run = server.policyc(&format!("diff live {}", file.display()));
    assert_eq!((run.status, &*run.stderr), (0, ""), "{}", run.stdout);

    let line = format!("diff live {} --prune -o json", file.display());
    let run = server.policyc(&line);
    assert_eq!((run.status, &*run.stderr), (1, ""), "{}", run.stdout);
    assert_eq!(
        told(&run),
        [
            "closed shop/api, shop/cart -> shop/db -5432/TCP",
            "closed shop/web -> shop/api -8080/TCP",
        ]
    );
    assert_eq!(workloads(&run), [""; 0], "the pods are still there");
    // What the files had to delete, the cluster has added.
    let back = server.policyc(&format!("diff {} live --prune -o json", file.display()));
    let expected: Vec<String> = told(&run)
        .iter()
        .map(|line| {
            line.replace("closed", "opened").replace(" -5432", " 5432").replace(" -8080", " 8080")
        })
        .collect();
    assert_eq!(told(&back), expected);
}

#[test]
fn policies_in_files_are_judged_with_the_pods_of_the_cluster_under_both_sides() {
    let server = ApiServer::start(shop_objects(), Conduct::default());
    let old = shop().join("cart.yaml").display().to_string();
    // The files alone have the cart's pod and nobody who could ask it.
    let alone = server.policyc(&format!("diff {old} {} -o json", changed()));
    assert_eq!(told(&alone), ["opened 203.0.113.0/26, 203.0.113.128/25 -> shop/cart 9090/TCP"]);
    let run = server.policyc(&format!("diff {old} {} --with live -o json", changed()));
    assert_eq!((run.status, &*run.stderr), (1, ""), "{}", run.stdout);
    assert_eq!(told(&run), CHANGES);
    // A policy of the cluster that neither side has is under both: without it, nobody would be denied.
    let open = server.write("open.yaml", "# nothing\n");
    let run = server.policyc(&format!("diff {} {} --with live", open.display(), open.display()));
    assert_eq!(run.status, 0, "{}", run.stdout);
}

#[test]
fn what_may_not_be_listed_is_said_once_and_the_rest_is_compared() {
    let conduct = Conduct { forbidden: vec!["services"], ..Conduct::default() };
    let server = ApiServer::start(shop_objects(), conduct);
    let run = server.policyc(&format!("diff live {} -o json", changed()));
    assert_eq!(told(&run), CHANGES);
    assert_eq!(run.stderr.matches("warning: services are not read").count(), 1, "{}", run.stderr);
    let conduct = Conduct { forbidden: vec!["pods"], ..Conduct::default() };
    let server = ApiServer::start(shop_objects(), conduct);
    let run = server.policyc(&format!("diff live {}", changed()));
    assert_eq!((run.status, &*run.stdout), (2, ""));
    assert!(run.stderr.contains("does not let you list pods in all namespaces"), "{}", run.stderr);
}

/// A kubeconfig of two clusters, whose current context is the first.
fn two_contexts(directory: &Path, [staging, production]: [&ApiServer; 2]) -> String {
    let cluster = |name: &str, server: &ApiServer| {
        format!("{{name: {name}, cluster: {{server: \"http://{}\"}}}}", server.address)
    };
    let context = |name: &str| format!("{{name: {name}, context: {{cluster: {name}, user: u}}}}");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: staging, contexts: [{}, {}], clusters: [{}, {}], \
         users: [{{name: u, user: {{token: t}}}}]}}",
        context("staging"),
        context("production"),
        cluster("staging", staging),
        cluster("production", production),
    );
    let file = directory.join("two");
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn two_clusters_are_compared_by_their_contexts() {
    let staging = ApiServer::start(shop_objects(), Conduct::default());
    let without = shop_objects().into_iter().filter(|o| o["metadata"]["name"] != "api-from-web");
    let production = ApiServer::start(without.collect(), Conduct::default());
    let directory = tempfile::tempdir().expect("a directory");
    let kubeconfig = two_contexts(directory.path(), [&staging, &production]);
    let diff = |line: &str| policyc_with(line, "", &[("KUBECONFIG", &kubeconfig)]);
    for (line, expected) in [
        ("diff live:staging live:production -o json", "closed shop/web -> shop/api -8080/TCP"),
        ("diff live live:production -o json", "closed shop/web -> shop/api -8080/TCP"),
        (
            "diff live live:staging --context production -o json",
            "opened shop/web -> shop/api 8080/TCP",
        ),
    ] {
        let run = diff(line);
        assert_eq!((run.status, &*run.stderr), (1, ""), "{line}: {}", run.stdout);
        assert_eq!(told(&run), [expected], "{line}");
    }
    let run = diff("diff live:elsewhere live:staging");
    assert_eq!(run.status, 2);
    assert!(
        run.stderr.contains("cannot use the kubeconfig with context `elsewhere`"),
        "{}",
        run.stderr
    );
}
