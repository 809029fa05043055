//! `policyc` on the workloads of a cluster, with and without pods.

use serde_json::{Value as Json, json};

use crate::api_server::{ApiServer, Conduct, shop_objects};
use crate::comparison::workloads;

fn template(app: &str) -> Json {
    json!({"metadata": {"labels": {"app": app, "tier": "be"}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "sql", "containerPort": 5432}]}]}})
}

/// A workload of namespace `shop`, of pods with the label `app`.
fn workload(kind: &str, name: &str, app: &str) -> Json {
    let spec = match kind {
        "CronJob" => json!({"jobTemplate": {"spec": {"template": template(app)}}}),
        "Job" => json!({"template": template(app)}),
        _ => json!({"replicas": 0, "template": template(app)}),
    };
    json!({"kind": kind, "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

/// `object`, which `owner` made.
fn made_by(mut object: Json, kind: &str, owner: &str) -> Json {
    object["metadata"]["ownerReferences"] =
        json!([{"kind": kind, "name": owner, "controller": true}]);
    object
}

fn shop_with(more: impl IntoIterator<Item = Json>) -> Vec<Json> {
    shop_objects().into_iter().chain(more).collect()
}

/// The rows of the matrix of all workloads that are in `shop`.
fn rows(server: &ApiServer) -> Vec<String> {
    let run = server.policyc("matrix -o json");
    assert_eq!(run.stderr, "", "{run:?}");
    let matrix: Json = serde_json::from_str(&run.stdout).expect("JSON");
    let parties = matrix["parties"].as_array().unwrap_or_else(|| panic!("{}", run.stdout));
    let of_shop = parties.iter().filter(|party| party["namespace"] == "shop");
    of_shop.map(|party| party["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_workload_without_pods_is_judged_from_its_template() {
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"];
    let idle = kinds.map(|kind| workload(kind, &format!("idle-{}", kind.to_lowercase()), "cart"));
    let server = ApiServer::start(shop_with(idle), Conduct::default());
    for kind in kinds {
        let name = format!("{kind}/idle-{}", kind.to_lowercase()).to_lowercase();
        let run = server.policyc(&format!("can shop/{name} shop/db-0 5432"));
        assert_eq!((run.status, &*run.stderr), (0, ""), "{name} is as the cart is: {run:?}");
        let run = server.policyc(&format!("can shop/{name} shop/api-7f6b8-2mwnd 8080"));
        assert_eq!((run.status, &*run.stderr), (1, ""), "{name} is as the cart is: {run:?}");
    }
    let run = server.policyc("explain pod deploy/idle-deployment");
    assert!(run.stdout.starts_with("Pods of shop/idle-deployment "), "{run:?}");
    let run = server.policyc("can shop/sts/idle-deployment shop/db-0 5432");
    assert_eq!(run.status, 2, "it is of another kind: {run:?}");
}

#[test]
fn a_workload_with_pods_is_what_these_are_and_there_once() {
    let alone = ApiServer::start(shop_objects(), Conduct::default());
    // As somebody has changed them since the pods were made, or these could not be told apart.
    let makers = [
        workload("StatefulSet", "db", "db-to-be"),
        workload("StatefulSet", "cart", "cart-to-be"),
        workload("Deployment", "api", "api-to-be"),
        made_by(workload("ReplicaSet", "api-7f6b8", "api"), "Deployment", "api"),
        made_by(workload("ReplicaSet", "api-59c4d", "api-once"), "Deployment", "api"),
    ];
    let server = ApiServer::start(shop_with(makers), Conduct::default());
    assert_eq!(rows(&server), rows(&alone));
    for question in [
        "can shop/sts/cart shop/sts/db 5432 -o json",
        "can shop/deploy/api shop/cart-0 8080 -o json",
        "explain pod deploy/api -o json",
        "lint -o json",
    ] {
        let (with, without) = (server.policyc(question), alone.policyc(question));
        assert_eq!((with.status, with.stderr), (without.status, without.stderr), "{question}");
        assert_eq!(with.stdout, without.stdout, "{question}");
    }
}

#[test]
fn what_another_workload_speaks_for_and_what_is_done_are_no_rows() {
    let mut done = workload("Job", "done", "x");
    done["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    let mut once = made_by(workload("ReplicaSet", "idle-59c4d", "x"), "Deployment", "idle");
    once["metadata"]["labels"] = json!({"pod-template-hash": "59c4d"});
    let others = [
        workload("Deployment", "idle", "x"),
        once,
        workload("CronJob", "nightly", "x"),
        made_by(workload("Job", "nightly-1", "x"), "CronJob", "nightly"),
        made_by(workload("StatefulSet", "prometheus", "x"), "Prometheus", "main"),
        done,
    ];
    let alone = ApiServer::start(shop_objects(), Conduct::default());
    let server = ApiServer::start(shop_with(others), Conduct::default());
    let before = rows(&alone);
    let new: Vec<String> = rows(&server).into_iter().filter(|r| !before.contains(r)).collect();
    assert_eq!(new, ["idle", "nightly", "prometheus"]);
    let asked = server.asked();
    let old = "/apis/apps/v1/replicasets?&labelSelector=%21pod-template-hash&limit=500";
    assert!(asked.iter().any(|target| target == old), "{asked:?}");
}

#[test]
fn manifests_laid_over_a_workload_without_pods_replace_its_template() {
    let idle = workload("Deployment", "idle", "other");
    let server = ApiServer::start(shop_with([idle]), Conduct::default());
    let question = "can shop/deploy/idle shop/db-0 5432";
    assert_eq!(server.policyc(question).status, 1);
    let mut changed = workload("Deployment", "idle", "cart");
    changed["apiVersion"] = "apps/v1".into();
    let file = server.write("idle.json", &changed.to_string());
    let run = server.policyc(&format!("{question} --live -f {}", file.display()));
    assert_eq!((run.status, &*run.stderr), (0, ""), "{run:?}");
    let run = server.policyc(&format!("diff live {} -o json", file.display()));
    assert_eq!((run.status, &*run.stderr), (1, ""), "{}", run.stdout);
    assert_eq!(workloads(&run), [""; 0], "it was there before");
}

#[test]
fn workloads_that_may_not_be_listed_or_are_unknown_are_said_to_be_lacking() {
    let conduct = Conduct {
        forbidden: vec!["deployments", "jobs"],
        unheard: vec!["cronjobs"],
        ..Conduct::default()
    };
    let kinds = [workload("Deployment", "idle", "cart"), workload("StatefulSet", "kept", "cart")];
    let server = ApiServer::start(shop_with(kinds), conduct);
    let run = server.policyc("can shop/kept shop/db-0 5432");
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(
        server.said(&run),
        "warning: deployments, jobs and cronjobs are not read, so that workloads of these kinds \
         without pods are not found: http://SERVER/ does not let you list deployments in all \
         namespaces: User \"dev\" cannot list resource \"deployments\"\n"
    );
    let run = server.policyc("can shop/idle shop/db-0 5432");
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("error: pod `shop/idle` is not in the input"), "{run:?}");

    let conduct = Conduct { unheard: vec!["cronjobs"], ..Conduct::default() };
    let server = ApiServer::start(shop_objects(), conduct);
    let run = server.policyc("can shop/cart-0 shop/db-0 5432");
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(
        server.said(&run),
        "warning: cronjobs are not read, so that workloads of these kinds without pods are not \
         found: http://SERVER/ does not list cronjobs: no such path (404)\n"
    );
}
