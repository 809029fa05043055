//! policyd as a process on a node, and what it says of itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::credentials::Account;
use super::http::{self, Answer};
use super::table::PATIENCE;
use super::{Cluster, Node, failed};
use crate::daemon::{Daemon, built_program};
use crate::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use crate::error::LabError;
use crate::namespace::Namespace;

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9476);

/// A running policyd.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub daemon: Daemon,
    namespace: Arc<Namespace>,
}

/// The command line of a policyd for `node`: all but what the test adds.
///
/// # Errors
/// Where policyd has not been built.
pub fn command(node: &str, backend: Backend, kubeconfig: &Path) -> Result<Command, LabError> {
    let mut command = Command::new(built_program("policyd")?);
    let backend = match backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    };
    command
        .args(["run", "--node", node, "--iptables-backend", backend, "--kubeconfig"])
        .arg(kubeconfig)
        .env("NO_COLOR", "1")
        // As the DaemonSet has it.
        .env("MALLOC_ARENA_MAX", "1")
        .env_remove("NODE_NAME")
        .env_remove("KUBECONFIG")
        .env(LOCK_FILE, OWN_NAMESPACE);
    Ok(command)
}

impl Cluster {
    /// Starts policyd on a node as its service account.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_agent(&self, node: usize) -> Result<Agent, LabError> {
        self.start_agent_as(node, Account::Policyd, &[])
    }

    /// Starts policyd on every node, and waits until all are ready.
    ///
    /// # Errors
    /// Where one does not get ready.
    pub fn start_agents(&self) -> Result<Vec<Agent>, LabError> {
        let started: Result<Vec<_>, _> =
            (0..self.nodes.len()).map(|node| self.start_agent(node)).collect();
        let agents = started?;
        for agent in &agents {
            agent.await_ready()?;
        }
        Ok(agents)
    }

    /// Starts policyd on a node as `account`, with further `options`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_agent_as(
        &self,
        node: usize,
        account: Account,
        options: &[&str],
    ) -> Result<Agent, LabError> {
        let node = self.node(node)?;
        let kubeconfig = self.control.kubeconfig(account)?;
        let mut command = command(&node.name, self.backend, &kubeconfig)?;
        let daemon = Daemon::start(&node.namespace, command.args(options))?.shown_as(&node.name);
        Ok(Agent { daemon, namespace: Arc::clone(&node.namespace) })
    }

    /// A node.
    ///
    /// # Errors
    /// Where there is none of that number.
    pub fn node(&self, node: usize) -> Result<&Node, LabError> {
        self.nodes.get(node).ok_or_else(|| failed("find a node", node.to_string()))
    }
}

impl Agent {
    /// What it answers on `path`.
    ///
    /// # Errors
    /// Where it does not serve.
    pub fn get(&self, path: &str) -> Result<Answer, LabError> {
        http::get(&self.namespace, LISTEN, path)
    }

    /// Waits until `/readyz` says what `wanted` accepts.
    ///
    /// # Errors
    /// Where it does not in time; the error has the log.
    pub fn await_readyz(
        &self,
        what: &str,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, LabError> {
        let start = Instant::now();
        loop {
            let answer = self.get("/readyz");
            match &answer {
                Ok(answer) if wanted(answer) => return Ok(answer.clone()),
                _ if start.elapsed() > PATIENCE => {
                    let log = self.daemon.lines().join("\n");
                    return Err(LabError::TimeOut {
                        what: format!("{what} (/readyz: {answer:?}, log:\n{log}\n)"),
                        seconds: PATIENCE.as_secs(),
                    });
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// Where it does not get ready in time; the error has the log.
    pub fn await_ready(&self) -> Result<Answer, LabError> {
        self.await_readyz("policyd to be ready", |answer| answer.status == 200)
    }

    /// A figure of its metrics, such as `policyd_local_pods`.
    ///
    /// # Errors
    /// Where it does not serve, or has none of that name.
    pub fn metric(&self, name: &str) -> Result<f64, LabError> {
        let body = self.get("/metrics")?.body;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| failed("read a metric", name.to_owned()))
    }

    /// The most memory that it has had, in bytes.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn peak_memory(&self) -> Result<u64, LabError> {
        self.memory("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn resident_memory(&self) -> Result<u64, LabError> {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> Result<u64, LabError> {
        let id = self.daemon.id().ok_or_else(|| failed("find a process", "no id"))?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .map_err(|error| failed("read the memory of policyd", error))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| failed("read the memory of policyd", status))
    }

    /// Ends it as kubelet would.
    ///
    /// # Errors
    /// Where it does not end with status 0.
    pub fn stop(self) -> Result<(), LabError> {
        let log = self.daemon.lines();
        let status = self.daemon.stop(Signal::SIGTERM)?;
        if status.success() {
            return Ok(());
        }
        Err(failed("stop policyd", format!("{status}\n{}", log.join("\n"))))
    }
}
