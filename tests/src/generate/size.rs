//! How large a cluster is.

/// How many there are of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes. The first is the one whose agent is looked at.
    pub nodes: u32,
    /// Namespaces, three of the system's among them.
    pub namespaces: u32,
    /// Pods in all.
    pub pods: u32,
    /// Policies in all.
    pub policies: u32,
    /// Pods of tenants on the first node that policies can select. Its pods of DaemonSets and those
    /// that have finished come on top.
    pub local_pods: u32,
    /// Where those are from.
    pub local: Local,
}

/// Where the tenants' pods of the first node are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// From all over the cluster, as a scheduler has it.
    Scattered,
    /// All from the largest namespace: one policy can select them all.
    Together,
}

impl Size {
    /// The largest cluster that Kubernetes is made for, with as many policies as namespaces and a
    /// node that is full.
    pub const ENVELOPE: Self = Self {
        nodes: 5_000,
        namespaces: 10_000,
        pods: 150_000,
        policies: 10_000,
        local_pods: 250,
        local: Local::Scattered,
    };
    /// A tenth of it, with the same number of pods on the node.
    pub const TENTH: Self = Self {
        nodes: 500,
        namespaces: 1_000,
        pods: 15_000,
        policies: 1_000,
        local_pods: 250,
        local: Local::Scattered,
    };
    /// What a test can look at whole.
    pub const SMALL: Self = Self {
        nodes: 10,
        namespaces: 20,
        pods: 600,
        policies: 100,
        local_pods: 30,
        local: Local::Scattered,
    };

    /// The same with the tenants' pods of the first node from where `local` says.
    #[must_use]
    pub const fn with_local(self, local: Local) -> Self {
        Self { local, ..self }
    }

    /// The same, with what a cluster cannot be without: four namespaces, sixty pods, and for each seven
    /// hundred of them a node, whose pods have a /22.
    pub(super) fn raised(self) -> Self {
        let pods = self.pods.max(60);
        Self {
            nodes: self.nodes.clamp(pods.div_ceil(700), 16_000),
            namespaces: self.namespaces.max(4),
            pods,
            local_pods: self.local_pods.min(pods / 3).min(900),
            ..self
        }
    }
}
