//! What an agent loads: `render`.

use clap::Args;

use super::{Families, Format, Input};

/// `policyc render`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc render --node node-a -f examples/shop\n  \
    policyc render --pod shop/cart-0 -4 -f examples/shop -o yaml")]
pub struct Render {
    /// The node whose rules to print; without it every node of the input, in order.
    #[arg(long, value_name = "NODE", conflicts_with = "pod")]
    pub node: Option<String>,
    /// Print the rules as if its node had no pod but this.
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to print.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer: text is what `ipset restore` and `iptables-restore` read.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}
