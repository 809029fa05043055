//! Clusters to draw: one of many workloads, and one with hostile names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The manifests of `namespaces` with `each` workloads: isolated, each with a few that may reach it, and
/// all with the same DNS.
pub(crate) fn crowd(namespaces: usize, each: usize) -> String {
    let mut out = String::new();
    for n in 0..namespaces {
        for w in 0..each {
            let _ = write!(
                out,
                "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app-{w:02}, namespace: team-{n:02}}}\n\
                 spec:\n  replicas: 3\n  selector: {{matchLabels: {{app: app-{w:02}}}}}\n  template:\n    \
                 metadata: {{labels: {{app: app-{w:02}, team: t{n:02}}}}}\n    \
                 spec: {{containers: [{{name: main, ports: [{{name: http, containerPort: 8080}}]}}]}}\n"
            );
        }
        // The last namespace is left open.
        if n + 1 == namespaces {
            continue;
        }
        let _ = write!(
            out,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: closed, namespace: team-{n:02}}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress]}}\n"
        );
        for w in 0..each {
            let next = (w + 1) % each;
            let neighbour = (n + 1) % namespaces;
            let _ = write!(
                out,
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{name: app-{w:02}, namespace: team-{n:02}}}\nspec:\n  \
                 podSelector: {{matchLabels: {{app: app-{w:02}}}}}\n  policyTypes: [Ingress]\n  ingress:\n  \
                 - from: [{{podSelector: {{matchLabels: {{app: app-{next:02}}}}}}}]\n    \
                 ports: [{{port: http}}]\n  \
                 - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: team-{neighbour:02}}}}}, \
                 podSelector: {{matchLabels: {{app: app-00}}}}}}]\n    ports: [{{port: 9090}}]\n"
            );
        }
    }
    out
}

/// What `policyc` prints for `line`, run at the top of the workspace with `manifests` on standard input.
pub(crate) fn policyc(line: &str, manifests: &str) -> String {
    use std::io::Write as _;
    let top: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut child = Command::new(env!("CARGO_BIN_EXE_policyc"))
        .args(line.split_whitespace())
        .current_dir(top)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let mut input = child.stdin.take().expect("piped");
    let manifests = manifests.to_owned();
    let writer = std::thread::spawn(move || input.write_all(manifests.as_bytes()));
    let output = child.wait_with_output().expect("the run ends");
    let _ = writer.join();
    assert!(output.status.success(), "policyc {line}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
