//! Questions about pods, policies and connections: `explain`, `can`, `who-can`.

use clap::{Args, Subcommand};

use super::Asked;

/// What can be explained.
#[derive(Debug, Subcommand)]
pub enum Explain {
    /// What selects a pod, what may reach it and what it may reach, with near misses.
    Pod(ExplainPod),
    /// What a policy isolates, what each of its rules means now, and what would be without it.
    Policy(ExplainPolicy),
}

/// `policyc explain pod`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc explain pod shop/cart-0 -f examples/shop\n  \
    policyc explain pod deploy/web -n shop -f examples/shop\n  \
    policyc explain pod deploy/web -n shop                     # the cluster of the kubeconfig\n  \
    policyc explain pod deploy/web -n shop --live -f new.yaml  # if new.yaml were applied to it\n  \
    kubectl get pods,ns,netpol,nodes -A -o yaml | policyc explain pod -l app=web -n shop -f -")]
pub struct ExplainPod {
    /// NAMESPACE/NAME or NAME of a pod, or a workload: deploy/NAME, sts/, ds/, rs/, job/, cronjob/
    /// (with its namespace: shop/deploy/web).
    #[arg(value_name = "POD", required_unless_present = "selector", conflicts_with = "selector")]
    pub pod: Option<String>,
    /// Every pod of the namespace with these labels, as in `kubectl -l`.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// With -l: the pods of all namespaces.
    #[arg(short = 'A', long, requires = "selector", conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Of what, and in which form.
    #[command(flatten)]
    pub asked: Asked,
}

/// `policyc explain policy`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc explain policy shop/cart-from-web -f examples/shop\n  \
    policyc explain policy cart-from-web -n shop -4 -o json -f examples/shop")]
pub struct ExplainPolicy {
    /// NAMESPACE/NAME or NAME of a NetworkPolicy.
    pub policy: String,
    /// Of what, and in which form.
    #[command(flatten)]
    pub asked: Asked,
}

/// `policyc who-can`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc who-can shop/cart-0 -f examples/shop\n  \
    policyc who-can deploy/web -n shop --ingress -o json -f examples/shop\n\n\
    Exit status: 0 printed, 2 usage or an invalid policy that selects the pod, 3 the input does not tell of\n\
    some traffic.")]
pub struct WhoCan {
    /// NAMESPACE/NAME or NAME of a pod, or a workload: deploy/NAME, sts/, ds/, rs/, job/, cronjob/.
    pub pod: String,
    /// Only who may reach it.
    #[arg(long)]
    pub ingress: bool,
    /// Only whom it may reach.
    #[arg(long)]
    pub egress: bool,
    /// Of what, and in which form.
    #[command(flatten)]
    pub asked: Asked,
}

/// `policyc can`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc can shop/web shop/cart-0 8080 -f examples/shop\n  \
    policyc can deploy/api sts/db pg/TCP -n shop -f examples/shop\n  \
    policyc can shop/cart-0 203.0.113.7 443/TCP -f examples/shop\n  \
    policyc can world deploy/web 8080 -n shop -f examples/shop\n  \
    policyc can node/node-a shop/cart-0 icmp -f examples/shop\n  \
    policyc can shop/app=web shop/app=cart 8080 -f examples/shop   # by labels, also where there are no pods")]
pub struct Can {
    /// Who opens the connection: a pod, a workload, an address, node/NAME, or `world`: every address
    /// that is no pod's and no node's; or the pods with some labels, NAMESPACE/KEY=VALUE,.... Where the
    /// input has no pods that is one with exactly these labels.
    pub from: String,
    /// To whom; or `svc/NAMESPACE/NAME` with the Service's port, answered for each pod behind it.
    pub to: String,
    /// The destination's port: a number or a container port's name, then /TCP (the default), /UDP or
    /// /SCTP; or `icmp`.
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: String,
    /// Of what, and in which form.
    #[command(flatten)]
    pub asked: Asked,
}
