//! Other engines that enforce NetworkPolicy with rules of their own, known by their chains.

use std::fmt;

/// One that may be at work beside policyd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyEngine {
    /// kube-router.
    KubeRouter,
    /// Calico's felix.
    Calico,
    /// Weave Net.
    Weave,
    /// Azure's.
    AzureNpm,
}

impl PolicyEngine {
    /// Whose policy a chain of this name holds. Chains for other purposes say nothing: felix has its
    /// own for every workload, policies or not.
    #[must_use]
    pub fn of_chain(name: &str) -> Option<Self> {
        let owners = [
            (Self::KubeRouter, "KUBE-NWPLCY-"),
            (Self::Calico, "cali-pi-"),
            (Self::Calico, "cali-po-"),
            (Self::Weave, "WEAVE-NPC"),
            (Self::AzureNpm, "AZURE-NPM"),
        ];
        owners.into_iter().find(|(_, prefix)| name.starts_with(prefix)).map(|(engine, _)| engine)
    }

    /// The names of the chains that hold its policies.
    #[must_use]
    pub fn chains(self) -> &'static str {
        match self {
            Self::KubeRouter => "KUBE-NWPLCY-*",
            Self::Calico => "cali-pi-*, cali-po-*",
            Self::Weave => "WEAVE-NPC*",
            Self::AzureNpm => "AZURE-NPM*",
        }
    }
}

impl fmt::Display for PolicyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KubeRouter => "kube-router",
            Self::Calico => "Calico",
            Self::Weave => "Weave Net",
            Self::AzureNpm => "Azure NPM",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_hold_policies_name_their_engine() {
        for (name, engine) in [
            ("KUBE-NWPLCY-2UTXQIFBI5TAPUCL", Some(PolicyEngine::KubeRouter)),
            ("cali-pi-_Xy12", Some(PolicyEngine::Calico)),
            ("cali-po-default.web", Some(PolicyEngine::Calico)),
            ("WEAVE-NPC", Some(PolicyEngine::Weave)),
            ("WEAVE-NPC-EGRESS", Some(PolicyEngine::Weave)),
            ("AZURE-NPM-INGRESS", Some(PolicyEngine::AzureNpm)),
            ("cali-FORWARD", None),
            ("cali-pri-kns.default", None),
            ("KUBE-FORWARD", None),
            ("NPC-FORWARD", None),
        ] {
            assert_eq!(PolicyEngine::of_chain(name), engine, "{name}");
        }
    }
}
