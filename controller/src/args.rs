//! The command line. Every option of `run` has an environment variable, for a DaemonSet's sake.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand, ValueEnum};
use policy_compiler::config::{DenyAction, Hairpin};
use policy_compiler::name::NodeName;

use crate::dataplane::backend::{Backend, BackendChoice};
use crate::sync::{Ipvs, Settings};

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
  policyd run --source /etc/policyd --node node-a
  policyd run --source examples/shop --node node-a --once
  policyd cleanup

Exit status: 0 done or stopped by a signal; 1 not applied, or something remained; 2 usage, or
something that policyd needs is missing.";

const RUN_EXAMPLES: &str = "\
Examples:
  Enforce the manifests of a directory for the pods of node-a, and follow its changes:
    policyd run --source /etc/policyd --node node-a
  Apply them once, say whether that worked, and leave the rules in force:
    policyd run --source /etc/policyd --node node-a --once
  Refuse rather than drop, with iptables-legacy, logging as JSON:
    policyd run --source /etc/policyd --deny reject --iptables-backend legacy --log-format json";

const CLEANUP_EXAMPLES: &str = "\
Examples:
  Remove every chain, hook and set of policyd, of both iptables backends; all traffic is then
  allowed as far as policyd is concerned. Safe to repeat:
    policyd cleanup";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the kernel in step with the policies, until SIGTERM or SIGINT. Rules stay behind.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Remove every chain, hook and set of policyd from this node, and nothing else.
    #[command(after_help = CLEANUP_EXAMPLES)]
    Cleanup,
}

/// The options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The directory of manifests: Pods, Namespaces, NetworkPolicies, Nodes in *.yaml, *.yml and
    /// *.json, at any depth.
    #[arg(long, env = "POLICYD_SOURCE", value_name = "DIR")]
    pub source: PathBuf,
    /// The name of this node, as `spec.nodeName` of its pods has it.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node: NodeName,
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
    #[arg(long, env = "POLICYD_KEEP_ESTABLISHED")]
    pub keep_established: bool,
    /// What the sender of a denied packet is told.
    #[arg(long, env = "POLICYD_DENY", value_enum, default_value_t)]
    pub deny: DenyArg,
    /// How often the names of all chains and sets are read back and put right, in seconds; 0 for
    /// never. The hooks are looked at every 10 seconds whatever this says.
    #[arg(long, env = "POLICYD_VERIFY_INTERVAL", value_name = "SECONDS", default_value_t = 60)]
    pub verify_interval: u32,
    /// Apply the policies once and exit: 0 where they are in the kernel, 1 where not.
    #[arg(long)]
    pub once: bool,
}

impl RunArgs {
    /// What the loop needs to know of them.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            node: self.node.clone(),
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
            verify_interval: Duration::from_secs(self.verify_interval.into()),
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
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_become_settings() {
        let line = "policyd run --source d --node n1 --ipvs on --hairpin police --deny reject \
                    --keep-established --verify-interval 5 --iptables-backend legacy";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Run(run) = cli.command else { panic!("run") };
        let expected = Settings {
            node: NodeName::new("n1").unwrap(),
            ipvs: Ipvs::On,
            hairpin: Hairpin::Police,
            deny: DenyAction::Reject,
            keep_established: true,
            verify_interval: Duration::from_secs(5),
        };
        assert_eq!(run.settings(), expected);
        assert_eq!(run.backend(), BackendChoice::Forced(Backend::Legacy));
    }

    #[test]
    fn a_node_name_that_kubernetes_refuses_is_refused() {
        let line = ["policyd", "run", "--source", "d", "--node", "Not A Node"];
        let error = Cli::try_parse_from(line).unwrap_err();
        assert!(error.to_string().contains("lower case letters"), "{error}");
    }
}
