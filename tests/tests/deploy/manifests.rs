//! What the manifests ask a cluster for, and give to policyd: no more than is said here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Parser;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use policyd::args::Cli;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kustomize::{FOLDERS, Objects, build};
use crate::top;

/// The one image that all of them name.
const IMAGE: &str = concat!("policyd:", env!("CARGO_PKG_VERSION"));

/// An object as its type; a field that the type does not know is a mistake.
fn typed<T: Serialize + DeserializeOwned>(object: &Value) -> T {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", object["metadata"]["name"]));
    let again = serde_json::to_value(&typed).unwrap();
    // Lists of nothing and mappings of nothing need not survive; there are none.
    assert_eq!(&again, object, "a field that Kubernetes does not know");
    typed
}

fn find<T: Serialize + DeserializeOwned>(objects: &Objects, kind: &str, name: &str) -> T {
    let key = (kind.to_owned(), name.to_owned());
    typed(objects.get(&key).unwrap_or_else(|| panic!("no {kind} {name}")))
}

fn daemon_set(folder: &str) -> DaemonSet {
    let name = if folder.ends_with("cleanup") { "policyd-cleanup" } else { "policyd" };
    find(&build(folder), "DaemonSet", name)
}

fn pod(folder: &str) -> PodSpec {
    daemon_set(folder).spec.expect("a spec").template.spec.expect("a Pod")
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

fn security(container: &Container) -> &SecurityContext {
    container.security_context.as_ref().expect("a security context")
}

/// The rules of a role, in short.
fn rights(folder: &str) -> BTreeMap<String, Vec<String>> {
    let role: ClusterRole = find(&build(folder), "ClusterRole", "policyd");
    let mut rights = BTreeMap::new();
    for rule in role.rules.unwrap_or_default() {
        assert_eq!(rule.resource_names, None);
        assert_eq!(rule.non_resource_urls, None);
        let [group] = &rule.api_groups.unwrap_or_default()[..] else { panic!("one group a rule") };
        for resource in rule.resources.unwrap_or_default() {
            let what = format!("{resource}.{group}").trim_end_matches('.').to_owned();
            let twice = rights.insert(what, rule.verbs.clone());
            assert_eq!(twice, None, "{resource}");
        }
    }
    rights
}

fn rights_of(rows: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    rows.iter()
        .map(|(what, verbs)| ((*what).to_owned(), verbs.split(' ').map(str::to_owned).collect()))
        .collect()
}

const READS: [(&str, &str); 3] = [
    ("pods", "get list watch"),
    ("namespaces", "get list watch"),
    ("networkpolicies.networking.k8s.io", "get list watch"),
];
const EVENTS: (&str, &str) = ("events.events.k8s.io", "create patch");

#[test]
fn each_file_holds_one_object_and_each_folder_is_known_here() {
    let mut found = BTreeSet::new();
    for folder in ["manifests", "manifests/overlays"] {
        for entry in top().join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.join("kustomization.yaml").is_file() {
                found.insert(path.strip_prefix(top()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(found, FOLDERS.map(str::to_owned).into());
    for component in top().join("manifests/components").read_dir().unwrap() {
        let name = component.unwrap().file_name();
        let overlay = Path::new("manifests/overlays").join(&name);
        assert!(top().join(&overlay).is_dir(), "{} is missing", overlay.display());
    }
}

#[test]
fn the_base_is_a_daemon_set_with_an_account_and_a_role() {
    let objects = build("manifests/base");
    let kinds: Vec<&str> = objects.keys().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding", "DaemonSet", "ServiceAccount"]);
    let account: ServiceAccount = find(&objects, "ServiceAccount", "policyd");
    assert_eq!(account.metadata.namespace.as_deref(), Some("kube-system"));
    let binding: ClusterRoleBinding = find(&objects, "ClusterRoleBinding", "policyd");
    assert_eq!(
        (binding.role_ref.kind.as_str(), binding.role_ref.name.as_str()),
        ("ClusterRole", "policyd")
    );
    let subjects = serde_json::to_value(binding.subjects).unwrap();
    let expected =
        [json!({"kind": "ServiceAccount", "name": "policyd", "namespace": "kube-system"})];
    assert_eq!(subjects, json!(expected));
    assert_eq!(pod("manifests/base").service_account_name.as_deref(), Some("policyd"));
}

#[test]
fn the_role_is_what_policyd_needs_and_no_more() {
    let with = |more: &[(&str, &str)]| rights_of(&[&READS, more].concat());
    assert_eq!(rights("manifests/base"), with(&[EVENTS]));
    assert_eq!(rights("manifests/overlays/no-events"), with(&[]));
    for component in ["isolate-unknown", "scoped-watch"] {
        assert_eq!(
            rights(&format!("manifests/overlays/{component}")),
            with(&[EVENTS, ("nodes", "get list watch")])
        );
    }
    assert_eq!(rights("manifests/overlays/startup-taint"), with(&[EVENTS, ("nodes", "get patch")]));
    assert_eq!(rights("manifests/overlays/bridge-sysctls"), with(&[EVENTS]));
    assert_eq!(rights("manifests/overlays/antispoof"), with(&[EVENTS]));
}

#[test]
fn the_agent_has_two_capabilities_and_nothing_else_of_root() {
    let expected: SecurityContext = serde_json::from_value(json!({
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "runAsUser": 0,
        "runAsGroup": 0,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
    }))
    .unwrap();
    for folder in FOLDERS {
        let pod = pod(folder);
        let profile = pod.security_context.clone().and_then(|context| context.seccomp_profile);
        assert_eq!(
            profile.map(|profile| profile.type_).as_deref(),
            Some("RuntimeDefault"),
            "{folder}"
        );
        assert_eq!((pod.host_pid, pod.host_ipc), (None, None), "{folder}");
        let agents: Vec<&Container> = containers(&pod)
            .filter(|container| ["policyd", "cleanup"].contains(&container.name.as_str()))
            .collect();
        assert_eq!(agents.len(), 1, "{folder}");
        assert_eq!(security(agents[0]), &expected, "{folder}");
    }
}

#[test]
fn only_the_init_container_that_sets_sysctls_is_privileged() {
    let mut privileged = BTreeSet::new();
    for folder in FOLDERS {
        let pod = pod(folder);
        for container in containers(&pod) {
            if security(container).privileged == Some(true) {
                privileged.insert((folder, container.name.clone()));
            }
        }
    }
    let expected = ("manifests/overlays/bridge-sysctls", "bridge-sysctls".to_owned());
    assert_eq!(privileged, [expected].into());
}

#[test]
fn of_the_hosts_files_only_the_lock_is_shared() {
    for folder in FOLDERS {
        let volumes = serde_json::to_value(pod(folder).volumes).unwrap();
        let lock = json!([{
            "name": "xtables-lock",
            "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"},
        }]);
        assert_eq!(volumes, lock, "{folder}");
        let pod = pod(folder);
        for container in containers(&pod) {
            for mount in container.volume_mounts.iter().flatten() {
                assert_eq!(mount.mount_path, "/run/xtables.lock", "{folder} {}", container.name);
            }
        }
    }
}

#[test]
fn it_runs_on_every_linux_node_and_is_the_last_to_be_evicted() {
    for folder in FOLDERS {
        let pod = pod(folder);
        assert_eq!(pod.host_network, Some(true), "{folder}");
        assert_eq!(pod.dns_policy.as_deref(), Some("Default"), "{folder}");
        assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"), "{folder}");
        let tolerations = serde_json::to_value(&pod.tolerations).unwrap();
        assert_eq!(tolerations, json!([{"operator": "Exists"}]), "{folder}");
        let nodes = serde_json::to_value(&pod.node_selector).unwrap();
        assert_eq!(nodes, json!({"kubernetes.io/os": "linux"}), "{folder}");
    }
}

#[test]
fn an_upgrade_takes_one_node_at_a_time_and_waits_for_it() {
    let spec = daemon_set("manifests/base").spec.unwrap();
    let strategy = serde_json::to_value(spec.update_strategy).unwrap();
    let expected = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
    assert_eq!(strategy, expected);
    assert!(spec.min_ready_seconds.is_some_and(|seconds| seconds > 0));
}

#[test]
fn probes_ask_on_the_loopback_where_policyd_listens() {
    let pod = pod("manifests/base");
    let [agent] = &pod.containers[..] else { panic!("one container") };
    let listen = agent.args.iter().flatten().find_map(|arg| arg.strip_prefix("--listen="));
    let port: u16 = listen.unwrap().parse::<std::net::SocketAddr>().unwrap().port();
    for (probe, path) in [(&agent.liveness_probe, "/healthz"), (&agent.readiness_probe, "/readyz")]
    {
        let get = serde_json::to_value(probe.as_ref().unwrap().http_get.as_ref().unwrap()).unwrap();
        assert_eq!(get, json!({"host": "127.0.0.1", "port": port, "path": path}));
    }
    let ports = serde_json::to_value(&agent.ports).unwrap();
    assert_eq!(ports, json!([{"name": "metrics", "containerPort": port, "protocol": "TCP"}]));
}

#[test]
fn only_the_agent_gets_a_token() {
    for folder in FOLDERS {
        let wanted = !folder.ends_with("cleanup");
        assert_eq!(pod(folder).automount_service_account_token, Some(wanted), "{folder}");
    }
    let account: ServiceAccount = find(&build("manifests/base"), "ServiceAccount", "policyd");
    assert_eq!(account.automount_service_account_token, Some(false));
}

#[test]
fn every_container_says_what_it_takes_and_names_the_image_of_this_version() {
    for folder in FOLDERS {
        let pod = pod(folder);
        for container in containers(&pod) {
            assert_eq!(container.image.as_deref(), Some(IMAGE), "{folder} {}", container.name);
            let resources = container.resources.clone().expect("resources");
            let named = |list: Option<BTreeMap<String, _>>| {
                list.unwrap_or_default().into_keys().collect::<Vec<_>>()
            };
            assert_eq!(named(resources.requests), ["cpu", "memory"], "{folder}");
            assert_eq!(named(resources.limits), ["memory"], "{folder}");
        }
    }
}

#[test]
fn policyd_takes_every_command_line_of_the_manifests() {
    for folder in FOLDERS {
        let pod = pod(folder);
        for container in containers(&pod).filter(|container| container.command.is_none()) {
            let mut line = vec!["policyd".to_owned()];
            line.extend(container.args.iter().flatten().cloned());
            for variable in container.env.iter().flatten() {
                match variable.name.as_str() {
                    "NODE_NAME" => line.push("--node=n1".to_owned()),
                    "MALLOC_ARENA_MAX" => {} // It is the C library that reads it.
                    other => panic!("{folder}: policyd knows no {other}"),
                }
            }
            if let Err(error) = Cli::try_parse_from(&line) {
                panic!("{folder}: {}\n{error}", line.join(" "));
            }
        }
    }
}

#[test]
fn labels_select_the_pods_of_one_daemon_set() {
    let labels = |folder| {
        let spec = daemon_set(folder).spec.unwrap();
        let selector = spec.selector.match_labels.unwrap();
        let pod = spec.template.metadata.unwrap().labels.unwrap();
        for (key, value) in &selector {
            assert_eq!(pod.get(key), Some(value), "{folder}");
        }
        selector
    };
    assert_ne!(labels("manifests/base"), labels("manifests/cleanup"));
}
