//! The command line. Every option of `run` has an environment variable, for a DaemonSet's sake.

use std::env;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::styling::Styles;
use clap::builder::{BoolishValueParser, Resettable};
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use policy_compiler::config::{DenyAction, Hairpin};
use policy_compiler::name::NodeName;

use crate::dataplane::backend::{Backend, BackendChoice};
use crate::source::api::ApiOptions;
use crate::sync::{Ipvs, Settings, Unknown};

/// Enforces Kubernetes NetworkPolicy on this node with iptables and ipset.
#[derive(Debug, Parser)]
#[command(name = "policyd", version, styles = Styles::plain(), after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look.
    #[arg(long, global = true, env = "POLICYD_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,policyd::dataplane=debug`. `RUST_LOG` is taken where this is not given.
    #[arg(long, global = true, env = "POLICYD_LOG_LEVEL", value_name = "FILTER")]
    pub log_level: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  policyd run
  policyd run --source examples/shop --node node-a --once
  policyd status
  policyd verify
  policyd trace
  policyd cleanup

Exit status of run and cleanup: 0 done or stopped by a signal; 1 not applied, or something remained; 2 usage, or
something that policyd needs is missing.";

const RUN_EXAMPLES: &str = "\
Examples:
  In a pod of a cluster, with NODE_NAME from the downward API: enforce the cluster's policies for
  the pods of its node, and serve health and metrics to others:
    policyd run --listen [::]:9476
  The same from outside a pod:
    policyd run --kubeconfig /etc/kubernetes/policyd.conf --node node-a
  Enforce the manifests of a directory for the pods of node-a, and follow its changes:
    policyd run --source /etc/policyd --node node-a
  Apply them once, say whether that worked, and leave the rules in force:
    policyd run --source /etc/policyd --node node-a --once
  Refuse rather than drop, with iptables-legacy, logging as JSON:
    policyd run --source /etc/policyd --deny reject --iptables-backend legacy --log-format json";

const STATUS_EXAMPLES: &str = "\
Examples:
  What the policyd of this network namespace enforces:
    policyd status
  The rules and sets of one pod:
    policyd status --pod shop/web-0
  Whether it is ready, for a script:
    policyd status -o json | jq .ready

Exit status: 0 ready; 1 not ready; 2 no policyd runs here, or it does not answer.";

const TRACE_EXAMPLES: &str = "\
Examples:
  What is denied on this node, as it happens, until interrupted; policyd runs with --log-denied:
    policyd trace
  The next ten packets from or to one pod:
    policyd trace --pod shop/web-0 --count 10

Exit status: 0 as many as asked for; 2 no policyd runs here, it does not tell, or it has ended.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  Compare every chain, rule, hook, set and member with what the running policyd has written:
    policyd verify

Nothing is changed. Exit status: 0 equal; 1 different, each difference on a line; 2 cannot tell.";

const CLEANUP_EXAMPLES: &str = "\
Examples:
  Remove every chain, hook and set of policyd, of both iptables backends; all traffic is then
  allowed as far as policyd is concerned. Safe to repeat:
    policyd cleanup";

impl Cli {
    /// Reads the command line of this process, or ends it saying what is wrong.
    #[must_use]
    pub fn read() -> Self {
        let command = without_empty_variables(Self::command(), &|name| env::var_os(name));
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// An environment variable that is set to nothing, as a manifest whose value is not filled in does,
/// counts as not set.
fn without_empty_variables(
    command: clap::Command,
    value_of: &dyn Fn(&OsStr) -> Option<OsString>,
) -> clap::Command {
    let is_empty =
        |arg: &Arg| arg.get_env().and_then(value_of).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(|command| without_empty_variables(command, value_of))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the kernel in step with the policies, until SIGTERM or SIGINT. Rules stay behind.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Show what the policyd that runs here enforces.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Compare what the policyd that runs here has written with what the kernel holds.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Follow the packets that the policyd that runs here denies.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// Remove every chain, hook and set of policyd from this node, and nothing else.
    #[command(after_help = CLEANUP_EXAMPLES)]
    Cleanup,
    /// Set the kernel's switches that show bridged packets to iptables, as `run
    /// --set-bridge-sysctls` does, and exit: 0 where they are on, 1 where one cannot be set. Without
    /// `br_netfilter` there are none; it is not loaded.
    SetBridgeSysctls,
}

/// The options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show one pod of this node, with its chains and sets.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// The options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// The options of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Only packets from or to this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,
    /// End after so many packets.
    #[arg(long, value_name = "NUMBER")]
    pub count: Option<u64>,
    /// How to print them; JSON is one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The options of `run`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct RunArgs {
    /// Take the objects from a directory of manifests and not from the API server: Pods, Namespaces,
    /// NetworkPolicies, Nodes in *.yaml, *.yml and *.json, at any depth.
    #[arg(long, env = "POLICYD_SOURCE", value_name = "DIR")]
    pub source: Option<PathBuf>,
    /// How to reach the API server, as kubectl has it. Without it: the service account of the pod that
    /// policyd runs in. KUBECONFIG is not read.
    #[arg(long, env = "POLICYD_KUBECONFIG", value_name = "FILE", conflicts_with = "source")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, where not its current one.
    #[arg(long, env = "POLICYD_CONTEXT", value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// List as a stream of watch events, which spares the API server (Kubernetes 1.32 and later). One
    /// that does not know it is asked for pages.
    #[arg(long, env = "POLICYD_STREAMING_LISTS", value_parser = BoolishValueParser::new())]
    pub streaming_lists: bool,
    /// Watch the pods of this node, and of other nodes only those that policies of this node's pods name
    /// as peers: by namespace, or across all by labels. Where that would be most pods, all are watched.
    /// Which addresses are nodes' is then read from the Node objects.
    #[arg(long, env = "POLICYD_SCOPED_WATCH", value_parser = BoolishValueParser::new())]
    pub scoped_watch: bool,
    /// The name of this node, as `spec.nodeName` of its pods has it.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node: Option<NodeName>,
    /// Which iptables to write to. `auto` follows the rest of the node.
    #[arg(long, env = "POLICYD_IPTABLES_BACKEND", value_enum, default_value_t)]
    pub iptables_backend: BackendArg,
    /// Whether IPVS delivers services on this node, so that OUTPUT is policed too.
    #[arg(long, env = "POLICYD_IPVS", value_enum, default_value_t)]
    pub ipvs: IpvsArg,
    /// What a pod's traffic to itself through a Service meets.
    #[arg(long, env = "POLICYD_HAIRPIN", value_enum, default_value_t)]
    pub hairpin: HairpinArg,
    /// Let standing connections live on that a change of policies denies.
    #[arg(long, env = "POLICYD_KEEP_ESTABLISHED", value_parser = BoolishValueParser::new())]
    pub keep_established: bool,
    /// What the sender of a denied packet is told.
    #[arg(long, env = "POLICYD_DENY", value_enum, default_value_t)]
    pub deny: DenyArg,
    /// Deny traffic of addresses in the networks of this node's pods that belong to no pod known yet, so
    /// that a pod is isolated from its first packet on. The node itself reaches them all the same.
    #[arg(long, env = "POLICYD_ISOLATE_UNKNOWN", value_parser = BoolishValueParser::new())]
    pub isolate_unknown: bool,
    /// A network that the addresses of this node's pods, and of nobody else, are taken from, for
    /// --isolate-unknown; may be repeated. Without it: the podCIDRs of the Node object.
    #[arg(
        long = "pod-cidr", env = "POLICYD_POD_CIDR", value_name = "CIDR", value_delimiter = ',',
        value_parser = pod_network
    )]
    pub pod_networks: Vec<IpNet>,
    /// Take the taint of this key off the own Node object once the policies are in force.
    #[arg(long, env = "POLICYD_REMOVE_TAINT", value_name = "KEY", conflicts_with = "once")]
    pub remove_taint: Option<String>,
    /// Tell of denied traffic: a line of the log for each flow and minute, counters, and `policyd trace`.
    /// The kernel tells of no more than 100 packets a second in each direction.
    #[arg(long, env = "POLICYD_LOG_DENIED", value_parser = BoolishValueParser::new())]
    pub log_denied: bool,
    /// Drop what comes from the interface of a pod of this node and bears another source than the pod's
    /// address; on bridges tagged frames too, and VXLAN from pods to the node. Takes `nft` for bridges.
    #[arg(long, env = "POLICYD_ANTISPOOF", value_parser = BoolishValueParser::new())]
    pub antispoof: bool,
    /// How often all chains and sets are read back and put right without a sign that somebody changed
    /// them, in seconds; 0 for never. Most changes leave a sign, and are put right within two seconds.
    #[arg(long, env = "POLICYD_VERIFY_INTERVAL", value_name = "SECONDS", default_value_t = 60)]
    pub verify_interval: u32,
    /// Tell of policies that fail closed, of repairs, and of a node that cannot enforce, with Kubernetes
    /// Events too.
    #[arg(
        long, env = "POLICYD_EVENTS", value_name = "true|false", default_value_t = true,
        action = ArgAction::Set, value_parser = BoolishValueParser::new()
    )]
    pub events: bool,
    /// Where /healthz, /readyz and /metrics are served, such as `[::]:9476` for every address of the
    /// node; `off` for nowhere. /debug/ruleset answers the node itself only.
    #[arg(
        long,
        env = "POLICYD_LISTEN",
        value_name = "ADDR:PORT|off",
        default_value = "127.0.0.1:9476"
    )]
    pub listen: Listen,
    /// Set net.bridge.bridge-nf-call-iptables, bridge-nf-call-ip6tables and
    /// bridge-nf-filter-vlan-tagged to 1 whenever one is found 0. This is for all bridges of the
    /// node, and takes a writable /proc/sys.
    #[arg(long, env = "POLICYD_SET_BRIDGE_SYSCTLS", value_parser = BoolishValueParser::new())]
    pub set_bridge_sysctls: bool,
    /// Apply the policies once and exit: 0 where they are in the kernel, 1 where not, and 1 too where
    /// the node cannot enforce them.
    #[arg(long)]
    pub once: bool,
}

/// Arguments that contradict each other, or are not enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// Nobody says which node this is.
    #[error(
        "the name of this node is not known: give it with --node, or set NODE_NAME, in a pod from the \
         downward API (valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}})"
    )]
    NoNode,
    /// An option for a source that is not asked for.
    #[error("--{0} is about the API server, and --source takes the place of that")]
    NoApiServer(&'static str),
    /// Networks for what is not asked for.
    #[error("--pod-cidr is for --isolate-unknown, which is not given")]
    IdlePodNetworks,
}

impl RunArgs {
    /// What the loop needs to know of them.
    ///
    /// # Errors
    /// Where something is missing, or two options do not go together.
    pub fn settings(&self) -> Result<Settings, ArgsError> {
        // Not left to the parser, for which a variable that says `false` is there all the same.
        if self.source.is_some() && self.streaming_lists {
            return Err(ArgsError::NoApiServer("streaming-lists"));
        }
        if self.source.is_some() && self.scoped_watch {
            return Err(ArgsError::NoApiServer("scoped-watch"));
        }
        if self.source.is_some() && self.remove_taint.is_some() {
            return Err(ArgsError::NoApiServer("remove-taint"));
        }
        Ok(Settings {
            node: self.node.clone().ok_or(ArgsError::NoNode)?,
            ipvs: match self.ipvs {
                IpvsArg::Auto => Ipvs::Auto,
                IpvsArg::On => Ipvs::On,
                IpvsArg::Off => Ipvs::Off,
            },
            hairpin: match self.hairpin {
                HairpinArg::Allow => Hairpin::Allow,
                HairpinArg::Police => Hairpin::Police,
            },
            deny: match self.deny {
                DenyArg::Drop => DenyAction::Drop,
                DenyArg::Reject => DenyAction::Reject,
            },
            keep_established: self.keep_established,
            unknown: self.unknown()?,
            log_denied: self.log_denied,
            antispoof: self.antispoof,
            verify_interval: Duration::from_secs(self.verify_interval.into()),
            set_bridge_sysctls: self.set_bridge_sysctls,
        })
    }

    fn unknown(&self) -> Result<Unknown, ArgsError> {
        match (self.isolate_unknown, self.pod_networks.is_empty()) {
            (true, true) => Ok(Unknown::DeniedInPodCidrs),
            (true, false) => Ok(Unknown::DeniedIn(self.pod_networks.iter().copied().collect())),
            (false, true) => Ok(Unknown::Allowed),
            (false, false) => Err(ArgsError::IdlePodNetworks),
        }
    }

    /// How the API server is followed.
    #[must_use]
    pub fn api(&self) -> ApiOptions {
        ApiOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            streaming_lists: self.streaming_lists,
            // Where only some pods are seen, the others tell of no node's addresses.
            nodes: self.scoped_watch || (self.isolate_unknown && self.pod_networks.is_empty()),
            own_node: self.node.clone().filter(|_| !self.scoped_watch),
        }
    }

    /// Which iptables is asked for.
    #[must_use]
    pub fn backend(&self) -> BackendChoice {
        match self.iptables_backend {
            BackendArg::Auto => BackendChoice::Auto,
            BackendArg::Nft => BackendChoice::Forced(Backend::Nft),
            BackendArg::Legacy => BackendChoice::Forced(Backend::Legacy),
        }
    }
}

/// `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| {
                "an address and a port are needed, such as `127.0.0.1:9476` or `[::]:9476`, or `off`"
                    .to_owned()
            }),
        }
    }
}

/// `--pod-cidr`: masked, and not everything, in which lie the addresses of nodes that nobody tells.
fn pod_network(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpNet>() {
        Ok(network) if network.prefix_len() > 0 => Ok(network.trunc()),
        Ok(_) => Err("this is every address there is, not the network of a node's pods".to_owned()),
        Err(_) => Err("a network in CIDR notation is needed, such as `10.244.1.0/24`".to_owned()),
    }
}

fn node_name(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|error| error.to_string())
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// `--iptables-backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// What kubelet and the other rules of the node use.
    #[default]
    Auto,
    /// iptables over `nf_tables`.
    Nft,
    /// iptables-legacy.
    Legacy,
}

/// `--ipvs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IpvsArg {
    /// As the kernel has IPVS services or not.
    #[default]
    Auto,
    /// It does.
    On,
    /// It does not.
    Off,
}

/// `--hairpin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HairpinArg {
    /// It is allowed.
    #[default]
    Allow,
    /// Policies judge it.
    Police,
}

/// `--deny`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DenyArg {
    /// Nothing.
    #[default]
    Drop,
    /// A TCP reset, or an ICMP port-unreachable.
    Reject,
}

#[cfg(test)]
mod tests;
