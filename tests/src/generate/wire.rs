//! Objects as the API server sends them, with all that policy has no use for.

use std::hash::Hash;

use policy_compiler::cluster::Phase;
use serde_json::{Map, Value, json};

use super::dice::Dice;
use super::pod::{Instance, node_addresses, node_name};
use super::workload::{Kind, Workload, namespace_of};

/// So many seconds after the cluster was made, in UTC. Every month has 28 days.
pub(super) fn time(seconds: u64) -> String {
    let (minutes, days) = (seconds / 60, seconds / 86_400);
    let (months, years) = (days / 28, days / 336);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        2020 + years,
        1 + months % 12,
        1 + days % 28,
        minutes / 60 % 24,
        minutes % 60,
        seconds % 60
    )
}

/// The uid of an object.
pub(super) fn uid(seed: u64, what: impl Hash) -> String {
    let mut dice = Dice::of(seed, what);
    let (a, b) = (dice.next(), dice.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

/// A resource version.
pub(super) fn version(number: u64) -> String {
    (1_000_000 + number).to_string()
}

/// A mapping of texts.
pub(super) fn map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Object(pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

fn managed_fields(labels: &[(&'static str, String)], instance: Instance) -> Value {
    let labels: Map<String, Value> =
        labels.iter().map(|(key, _)| (format!("f:{key}"), json!({}))).collect();
    let container = json!({
        ".": {}, "f:env": {".": {}, "k:{\"name\":\"POD_NAME\"}": {".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}}}},
        "f:image": {}, "f:imagePullPolicy": {}, "f:livenessProbe": {".": {}, "f:failureThreshold": {}, "f:httpGet": {".": {}, "f:path": {}, "f:port": {}, "f:scheme": {}}, "f:periodSeconds": {}},
        "f:name": {}, "f:ports": {".": {}, "k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}},
        "f:resources": {".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}}},
        "f:securityContext": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
    });
    let condition = json!({".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}});
    json!([
        {
            "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "kube-controller-manager",
            "operation": "Update", "time": instance.created(),
            "fieldsV1": {
                "f:metadata": {"f:generateName": {}, "f:labels": labels, "f:ownerReferences": {".": {}, "k:{\"uid\":\"0\"}": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"main\"}": container},
                    "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
                    "f:securityContext": {}, "f:serviceAccountName": {}, "f:terminationGracePeriodSeconds": {},
                },
            },
        },
        {
            "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "kubelet", "operation": "Update",
            "subresource": "status", "time": instance.created(),
            "fieldsV1": {"f:status": {
                "f:conditions": {
                    "k:{\"type\":\"ContainersReady\"}": condition, "k:{\"type\":\"Initialized\"}": condition,
                    "k:{\"type\":\"PodReadyToStartContainers\"}": condition, "k:{\"type\":\"Ready\"}": condition,
                },
                "f:containerStatuses": {}, "f:hostIP": {}, "f:hostIPs": {}, "f:phase": {}, "f:podIP": {},
                "f:podIPs": {".": {}, "k:{\"ip\":\"10.0.0.1\"}": {".": {}, "f:ip": {}}}, "f:startTime": {},
            }},
        },
    ])
}

fn container(workload: &Workload) -> Value {
    let ports: Vec<Value> = workload
        .ports()
        .map(|port| {
            json!({
                "name": port.name.as_ref().map(ToString::to_string),
                "containerPort": port.number, "protocol": port.protocol.to_string(),
            })
        })
        .collect();
    json!({
        "name": "main",
        "image": format!("registry.example/{}/{}:1.27.3", workload.app.tier, workload.app.name),
        "args": ["--config=/etc/app/config.yaml", "--log-level=info"],
        "ports": ports,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}},
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector.monitoring:4317"},
        ],
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [
            {"mountPath": "/etc/app", "name": "config"},
            {"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access", "readOnly": true},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"},
            "initialDelaySeconds": 5, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": 8080, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        },
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
    })
}

fn spec(instance: Instance, workload: &Workload) -> Value {
    let mut spec = json!({
        "volumes": [
            {"name": "config", "configMap": {"name": "config", "defaultMode": 420}},
            {"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]}},
        ],
        "containers": [container(workload)],
        "restartPolicy": if workload.kind == Kind::Job { "Never" } else { "Always" },
        "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default", "serviceAccount": "default",
        "securityContext": {"runAsNonRoot": true}, "schedulerName": "default-scheduler",
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ],
        "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
    });
    if let Some(node) = instance.node {
        spec["nodeName"] = json!(node_name(node));
    }
    if workload.is_host_network() {
        spec["hostNetwork"] = json!(true);
    }
    spec
}

/// What kubelet writes of a pod.
pub(super) fn status(instance: Instance, workload: &Workload) -> Value {
    let phase = match instance.phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Finished => "Succeeded",
    };
    let Some(node) = instance.node else { return json!({"phase": phase, "qosClass": "Burstable"}) };
    let ready = if instance.phase == Phase::Running && !instance.ending { "True" } else { "False" };
    // What changes with every status only.
    let changed = time(u64::from(instance.serial) + 5 + u64::from(instance.version));
    let condition = |kind: &str| json!({"type": kind, "status": ready, "lastProbeTime": null, "lastTransitionTime": changed});
    let addresses = |addresses: &[std::net::IpAddr]| {
        Value::Array(addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect())
    };
    let mut status = json!({
        "phase": phase,
        "conditions": [
            condition("PodReadyToStartContainers"), condition("Initialized"), condition("Ready"),
            condition("ContainersReady"), condition("PodScheduled"),
        ],
        "hostIP": node_addresses(node)[0].to_string(),
        "hostIPs": addresses(&node_addresses(node)),
        "startTime": instance.started(),
        "containerStatuses": [{
            "name": "main", "ready": ready == "True", "started": ready == "True",
            "restartCount": instance.version / 8,
            "state": {"running": {"startedAt": changed}}, "lastState": {},
            "image": format!("registry.example/{}/{}:1.27.3", workload.app.tier, workload.app.name),
            "imageID": format!("registry.example/{}@sha256:{:064x}", workload.app.name, workload.number),
            "containerID": format!("containerd://{:064x}", instance.serial),
        }],
        "qosClass": "Burstable",
    });
    let own = instance.addresses(workload);
    if let Some(first) = own.first() {
        status["podIP"] = json!(first.to_string());
        status["podIPs"] = addresses(&own);
    }
    status
}

/// A pod.
pub(super) fn pod(instance: Instance, workload: &Workload, seed: u64) -> Value {
    let labels = workload.pod_labels(instance.ordinal, instance.role);
    let (kind, owner) = workload.owner();
    let mut metadata = json!({
        "name": workload.pod_name(instance.ordinal),
        "generateName": format!("{owner}-"),
        "namespace": namespace_of(workload),
        "uid": instance.uid(seed),
        "resourceVersion": version(u64::from(instance.serial) * 16 + u64::from(instance.version)),
        "creationTimestamp": instance.created(),
        "labels": map(labels.iter().map(|(key, value)| (*key, value.as_str()))),
        "annotations": {
            "kubectl.kubernetes.io/restartedAt": instance.created(),
            "prometheus.io/scrape": "true",
            "checksum/config": format!("{:064x}", workload.number),
        },
        "ownerReferences": [{
            "apiVersion": if kind == "Job" { "batch/v1" } else { "apps/v1" },
            "kind": kind, "name": owner, "uid": uid(seed, ("workload", workload.number)),
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    if instance.ending {
        metadata["deletionTimestamp"] = json!(time(u64::from(instance.serial) + 3_600));
        metadata["deletionGracePeriodSeconds"] = json!(30);
    }
    metadata["managedFields"] = managed_fields(&labels, instance);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": spec(instance, workload), "status": status(instance, workload),
    })
}
