//! What happens in a cluster: mostly pods whose status changes, some that come and go, and now and then
//! something that somebody writes.

use policy_compiler::cluster::{Namespace, Phase, Pod};
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Policy;
use policy_compiler::update::Event;
use serde_json::Value;

use super::namespace;
use super::pod::Instance;
use super::wire;
use super::workload::{Kind, Workload};
use super::{Cluster, Local, elsewhere};

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A pod is made, scheduled, or starts to run with an address: three changes, one after the other.
    PodComes,
    /// A pod is asked to end, has ended, or is gone: three changes, one after the other.
    PodGoes,
    /// Something about a pod that policy has no use for.
    StatusOnly,
    /// An operator calls a pod something else.
    PodLabel,
    /// A namespace has other labels.
    NamespaceLabel,
    /// A policy is edited.
    PolicyEdit,
    /// A policy is written.
    PolicyComes,
    /// A policy is deleted.
    PolicyGoes,
}

/// How often each happens, in a thousand times.
const WHAT: [(What, u32); 8] = [
    (What::StatusOnly, 560),
    (What::PodComes, 190),
    (What::PodGoes, 190),
    (What::PodLabel, 40),
    (What::PolicyEdit, 8),
    (What::PolicyComes, 4),
    (What::PolicyGoes, 4),
    (What::NamespaceLabel, 4),
];

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// To which object.
    pub subject: Subject,
    object: Value,
}

/// An object as it is after a change, or which one is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A pod is now so.
    Pod(Box<Pod>),
    /// A pod is gone.
    PodGone(ObjectKey),
    /// A namespace is now so.
    Namespace(Namespace),
    /// A policy is now so.
    Policy(Box<Policy>),
    /// A policy is gone.
    PolicyGone(ObjectKey),
}

impl Change {
    /// As an engine is told of it.
    #[must_use]
    pub fn event(&self) -> Event {
        match self.subject.clone() {
            Subject::Pod(pod) => Event::PodApplied(pod),
            Subject::PodGone(key) => Event::PodDeleted(key),
            Subject::Namespace(namespace) => Event::NamespaceApplied(namespace),
            Subject::Policy(policy) => Event::PolicyApplied(policy),
            Subject::PolicyGone(key) => Event::PolicyDeleted(key),
        }
    }

    /// The object as the API server sends it: as it is now, or was last.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Whether the object is gone.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.subject, Subject::PodGone(_) | Subject::PolicyGone(_))
    }
}

impl Cluster {
    /// What happens next.
    pub fn change(&mut self) -> Change {
        let mut place = self.dice.roll(1_000);
        for (what, share) in WHAT {
            if place < share {
                return self.change_of(what);
            }
            place -= share;
        }
        self.change_of(What::StatusOnly)
    }

    /// The next change of that kind.
    pub fn change_of(&mut self, what: What) -> Change {
        match what {
            What::PodComes => self.pod_comes(),
            What::PodGoes => self.pod_goes(),
            What::StatusOnly => {
                let number = self.any_pod(|_, _| true);
                self.pod_is(what, number)
            }
            What::PodLabel => {
                let number = self.any_pod(|pod, of| {
                    let is_labelled = matches!(of.kind, Kind::Deployment | Kind::StatefulSet);
                    pod.phase == Phase::Running && is_labelled
                });
                self.pods[number].role = self.pods[number].role.wrapping_add(1) % 6;
                self.pod_is(what, number)
            }
            What::NamespaceLabel => {
                let tenants = self.size.namespaces - namespace::LARGEST;
                let namespace = namespace::LARGEST + self.dice.roll(tenants);
                self.relabel(namespace)
            }
            What::PolicyEdit if !self.policies.is_empty() => {
                let number = self.dice.index(self.policies.len());
                self.policies[number].edition += 1;
                self.policy_is(what, number)
            }
            What::PolicyGoes if !self.policies.is_empty() => {
                let number = self.dice.index(self.policies.len());
                let written = self.policies.swap_remove(number);
                let object = written.json(self.own(written.namespace), self.seed);
                Change { what, subject: Subject::PolicyGone(written.key()), object }
            }
            What::PolicyEdit | What::PolicyGoes | What::PolicyComes => {
                let pod = self.pods[self.dice.index(self.pods.len())];
                let namespace = self.workload(&pod).namespace.max(namespace::LARGEST);
                self.write_policy(namespace);
                self.policy_is(What::PolicyComes, self.policies.len() - 1)
            }
        }
    }

    /// Changes the labels of the largest namespace: [`What::NamespaceLabel`] with the most pods.
    pub fn relabel_largest(&mut self) -> Change {
        self.relabel(namespace::LARGEST)
    }

    fn relabel(&mut self, namespace: u32) -> Change {
        let edition = &mut self.namespaces[namespace as usize];
        *edition += 1;
        let edition = *edition;
        Change {
            what: What::NamespaceLabel,
            subject: Subject::Namespace(namespace::typed(self.seed, namespace, edition)),
            object: namespace::json(self.seed, namespace, edition),
        }
    }

    /// Some pod that fits, and is not on its way: the next such one, from anywhere.
    fn any_pod(&mut self, fits: impl Fn(&Instance, &Workload) -> bool) -> usize {
        let (from, count) = (self.dice.index(self.pods.len()), self.pods.len());
        let is_free = |number: &usize| {
            let pod = &self.pods[*number];
            ![self.coming, self.going].contains(&Some(*number)) && fits(pod, self.workload(pod))
        };
        (from..count).chain(0..from).find(is_free).unwrap_or(from)
    }

    fn pod_is(&mut self, what: What, number: usize) -> Change {
        self.pods[number].version += 1;
        let instance = self.pods[number];
        let workload = self.workload(&instance);
        Change {
            what,
            subject: Subject::Pod(Box::new(instance.typed(workload, self.seed))),
            object: wire::pod(instance, workload, self.seed),
        }
    }

    fn policy_is(&self, what: What, number: usize) -> Change {
        let written = self.policies[number];
        let own = self.own(written.namespace);
        Change {
            what,
            subject: Subject::Policy(Box::new(written.typed(own, self.seed))),
            object: written.json(own, self.seed),
        }
    }

    /// The next step of a pod that comes: of the one on its way, or of a new one.
    fn pod_comes(&mut self) -> Change {
        let Some(number) = self.coming else { return self.make_pod() };
        if self.pods[number].node.is_none() {
            self.pods[number].node = Some(self.place_for_pod());
        } else {
            self.pods[number].phase = Phase::Running;
            self.give_address(number);
            self.coming = None;
        }
        self.pod_is(What::PodComes, number)
    }

    /// One in two hundred comes to the first node.
    fn place_for_pod(&mut self) -> u32 {
        if self.size.local == Local::Scattered && self.dice.roll(200) == 0 {
            return 0;
        }
        elsewhere(self.size.nodes, &mut self.dice)
    }

    /// One more pod of a Deployment.
    fn make_pod(&mut self) -> Change {
        let like = self.any_pod(|_, of| of.kind == Kind::Deployment && is_tenants(of));
        let model = self.pods[like];
        let ordinal = self.ordinals[model.workload as usize];
        self.ordinals[model.workload as usize] += 1;
        let serial = self.serial();
        self.pods.push(Instance {
            ordinal,
            serial,
            node: None,
            host: None,
            phase: Phase::Pending,
            ending: false,
            version: 0,
            ..model
        });
        let number = self.pods.len() - 1;
        self.coming = Some(number);
        self.pod_is(What::PodComes, number)
    }

    /// The next step of a pod that goes: of the one on its way, or of some other.
    fn pod_goes(&mut self) -> Change {
        let what = What::PodGoes;
        let Some(number) = self.going else {
            let number = self.any_pod(|pod, of| pod.phase == Phase::Running && is_tenants(of));
            self.pods[number].ending = true;
            self.going = Some(number);
            return self.pod_is(what, number);
        };
        let instance = self.pods[number];
        if instance.phase == Phase::Running {
            self.pods[number].phase = Phase::Finished;
            if let (Some(node), Some(host)) = (instance.node, instance.host) {
                self.nodes.give_back(node, host);
            }
            return self.pod_is(what, number);
        }
        self.pods.swap_remove(number);
        self.going = None;
        // The last one has taken its place.
        if self.coming == Some(self.pods.len()) {
            self.coming = Some(number);
        }
        let workload = self.workload(&instance);
        let subject = Subject::PodGone(instance.key(workload));
        Change { what, subject, object: wire::pod(instance, workload, self.seed) }
    }
}

fn is_tenants(workload: &Workload) -> bool {
    workload.namespace >= namespace::LARGEST
}
