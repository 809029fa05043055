//! The control plane: etcd and a kube-apiserver in a namespace that also is the nodes' network.
//!
//! The namespace has a bridge to which nodes are joined; the API server serves on its address, with
//! a certificate that clients verify. It can be killed and started again, which keeps what etcd has
//! and forgets what the API server cached, and etcd's history can be forgotten.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assets::{HOW, assets};
use super::client::{Call, Client};
use super::credentials::{Account, Credentials};
use super::failed;
use super::http;
use crate::daemon::Daemon;
use crate::error::LabError;
use crate::namespace::Namespace;

/// The address of the API server on the nodes' network.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
/// Where it serves.
pub const SERVER: &str = "https://172.18.0.1:6443";
/// The bridge that nodes are joined to.
pub const LAN: &str = "lan0";

const ETCD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);
const PEERS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2380);
/// How long starting may take; a machine with much else to do is slow.
const PATIENCE: Duration = Duration::from_secs(90);
/// A folder in memory, where there is one: nobody needs the data after the test.
const MEMORY: &str = "/dev/shm";

/// etcd and the API server.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where they run.
    pub namespace: Arc<Namespace>,
    /// The administrator's client.
    pub client: Client,
    programs: PathBuf,
    directory: tempfile::TempDir,
    credentials: Credentials,
    api_server: Option<Daemon>,
    /// Declared behind the API server, to be ended after it.
    _etcd: Daemon,
}

impl ControlPlane {
    /// Starts both and waits until they serve.
    ///
    /// # Errors
    /// Where a program is missing or does not come up.
    pub fn start() -> Result<Self, LabError> {
        let programs = assets().ok_or_else(|| failed("start an API server", HOW))?;
        let namespace = Arc::new(network()?);
        let directory = if Path::new(MEMORY).is_dir() {
            tempfile::tempdir_in(MEMORY)
        } else {
            tempfile::tempdir()
        };
        let directory = directory.map_err(|error| failed("make a folder", error))?;
        let credentials = Credentials::make(&[ADDRESS.into(), Ipv4Addr::LOCALHOST.into()])?;
        let administrator = credentials.kubeconfig(SERVER, Account::Administrator);
        let client = Client::new(Arc::clone(&namespace), &administrator)?;
        write(directory.path(), &credentials)?;
        let etcd = Daemon::start(&namespace, &mut etcd(&programs, directory.path()))?;
        let api_server = None;
        let mut control =
            Self { namespace, client, programs, directory, credentials, api_server, _etcd: etcd };
        control.start_api_server(&[])?;
        Ok(control)
    }

    /// Starts the API server over what etcd has, with further `options`, and waits until it serves.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_api_server(&mut self, options: &[&str]) -> Result<(), LabError> {
        let mut command = api_server(&self.programs, self.directory.path());
        let server = Daemon::start(&self.namespace, command.args(options))?;
        let start = Instant::now();
        // Its own readiness includes the roles that it makes at the start.
        while let Err(error) = self.client.call(Call::Ready) {
            if start.elapsed() > PATIENCE {
                return Err(failed(
                    "start an API server",
                    format!("{error:?}\n{}", server.lines().join("\n")),
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.api_server = Some(server);
        Ok(())
    }

    /// Kills the API server, where it runs. What it has written stays in etcd.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Forgets all history: a watch from an older version cannot go on.
    ///
    /// # Errors
    /// Where etcd refuses.
    pub fn compact(&self) -> Result<(), LabError> {
        // Any key will do: the header of the answer has the revision.
        let read = self.ask_etcd("/v3/kv/range", r#"{"key": "AA=="}"#)?;
        let revision = read.pointer("/header/revision").and_then(|value| value.as_str());
        let revision = revision.ok_or_else(|| failed("compact etcd", read.to_string()))?;
        self.ask_etcd(
            "/v3/kv/compaction",
            &format!(r#"{{"revision": "{revision}", "physical": true}}"#),
        )?;
        Ok(())
    }

    /// Asks etcd's gateway something.
    pub(super) fn ask_etcd(&self, path: &str, body: &str) -> Result<serde_json::Value, LabError> {
        let answer = http::post(&self.namespace, ETCD, path, body)?;
        match serde_json::from_str(&answer.body) {
            Ok(value) if answer.status == 200 => Ok(value),
            _ => Err(failed(&format!("ask etcd for {path}"), answer.body)),
        }
    }

    /// A kubeconfig file for `account`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn kubeconfig(&self, account: Account) -> Result<PathBuf, LabError> {
        let text = self.credentials.kubeconfig(SERVER, account);
        self.file(&format!("{account:?}.kubeconfig"), &text)
    }

    /// A file that ends with the cluster.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.directory.path().join(name);
        fs::write(&path, text).map_err(|error| failed(&format!("write {name}"), error))?;
        Ok(path)
    }
}

/// The namespace and the bridge in it.
fn network() -> Result<Namespace, LabError> {
    let namespace = Namespace::create()?;
    namespace.ip(&[
        format!("link add {LAN} type bridge mcast_snooping 0"),
        format!("link set {LAN} up"),
        format!("address add {ADDRESS}/24 dev {LAN}"),
        // The API server looks for one to find out its address.
        format!("route add default dev {LAN}"),
    ])?;
    Ok(namespace)
}

fn write(folder: &Path, credentials: &Credentials) -> Result<(), LabError> {
    for (name, text) in [
        ("server.crt", &credentials.certificate),
        ("server.key", &credentials.key),
        ("signing.key", &credentials.signing_key),
        ("signing.pub", &credentials.signing_key_public),
        ("tokens.csv", &Credentials::tokens()),
    ] {
        fs::write(folder.join(name), text).map_err(|error| failed("write credentials", error))?;
    }
    Ok(())
}

fn etcd(programs: &Path, folder: &Path) -> Command {
    let mut command = Command::new(programs.join("etcd"));
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--unsafe-no-fsync", "--log-level=error", "--quota-backend-bytes=4294967296"])
        .arg(format!("--listen-client-urls=http://{ETCD}"))
        .arg(format!("--advertise-client-urls=http://{ETCD}"))
        .arg(format!("--listen-peer-urls=http://{PEERS}"))
        .arg(format!("--initial-advertise-peer-urls=http://{PEERS}"))
        .arg(format!("--initial-cluster=default=http://{PEERS}"));
    command
}

fn api_server(programs: &Path, folder: &Path) -> Command {
    let file = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
    let mut command = Command::new(programs.join("kube-apiserver"));
    command
        .arg(format!("--etcd-servers=http://{ETCD}"))
        .args(["--secure-port=6443", "--bind-address=0.0.0.0"])
        .arg(format!("--advertise-address={ADDRESS}"))
        .arg(file("cert-dir", "certificates"))
        .arg(file("tls-cert-file", "server.crt"))
        .arg(file("tls-private-key-file", "server.key"))
        .arg(file("service-account-key-file", "signing.pub"))
        .arg(file("service-account-signing-key-file", "signing.key"))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(file("token-auth-file", "tokens.csv"))
        .arg("--authorization-mode=RBAC")
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        // Pods need no service account, and nothing needs quotas or defaults.
        .arg("--disable-admission-plugins=ServiceAccount,LimitRanger,ResourceQuota,Priority")
        // The test may ask as fast as it can.
        .args(["--max-requests-inflight=0", "--max-mutating-requests-inflight=0"])
        .arg("--enable-priority-and-fairness=false")
        .arg("--feature-gates=APIPriorityAndFairness=false,IPv6DualStack=true")
        // History is forgotten when the test says so.
        .arg("--etcd-compaction-interval=0");
    command
}
