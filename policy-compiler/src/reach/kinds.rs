//! Pods where a snapshot has none: those that its policies speak of.
//!
//! Selectors cut the pods that there could be in a namespace into kinds: two pods of one kind are met by
//! the same selectors. One pod is made up of each kind, with the fewest labels that make it one, without
//! an address, a node or ports. They are asked about like any others, so that what is said of a kind is
//! [`evaluate`](crate::evaluate)'s own answer for a pod with these labels. Each selector is a [`Party`] of
//! all kinds that it meets: what holds for all of them holds for every pod that it means, and what holds
//! for some depends on labels that it does not ask for.
//!
//! Namespaces are cut by `namespaceSelector`s in the same way: one is made up for each kind that no
//! known namespace is of, and one that no selector asks for.
//!
//! Kinds are as many as selectors overlap, which is a product: where they are more than [`MOST`] in one
//! namespace, only pods with exactly the labels that each selector asks for are made up, and
//! [`Kinds::crowded`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::{METADATA_NAME_LABEL, Namespace, Pod, Snapshot, Workload};
use crate::document::Location;
use crate::flow::End;
use crate::labels::Labels;
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::{Direction, Grant, NamespaceScope, PeerSelects, Peers, Policy};
use crate::selector::{Operator, Selector};

use super::party::{Level, Party, Who};

/// The most kinds that are told apart in one namespace.
pub const MOST: usize = 128;

/// The kind of workload that a made up pod says it is of.
pub const KIND: &str = "Selector";

/// Two, so that one of a kind may be asked about towards another of that kind.
const REPLICAS: u32 = 2;

/// The pods and namespaces that policies speak of.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    namespaces: Vec<Namespace>,
    pods: Vec<Pod>,
    rows: Vec<Party>,
    places: Vec<Party>,
    crowded: BTreeSet<Arc<str>>,
}

/// Namespaces of which the same is asked.
struct Place {
    /// `shop`, `namespaces team=obs`, `other namespaces`.
    text: Arc<str>,
    /// The name, of one that has it.
    name: Option<NamespaceName>,
    /// Which namespaces these are: made up ones may be several.
    members: Vec<NamespaceName>,
}

impl Kinds {
    /// The kinds that any policy of `snapshots` tells apart. Their own pods are not looked at.
    #[must_use]
    pub fn of(snapshots: &[&Snapshot]) -> Self {
        let mut kinds = Self::default();
        let spoken = Spoken::of(snapshots);
        let (places, made_up) = spoken.places();
        kinds.namespaces = made_up;
        let labels = |name: &NamespaceName| -> Vec<Labels> {
            let made_up = kinds.namespaces.iter().find(|namespace| namespace.name() == name);
            match made_up {
                Some(namespace) => vec![namespace.labels().clone()],
                None => snapshots.iter().map(|snapshot| snapshot.namespace_labels(name)).collect(),
            }
        };
        let names: BTreeSet<&NamespaceName> =
            places.iter().flat_map(|place| &place.members).collect();
        let asked: BTreeMap<NamespaceName, BTreeSet<&Selector>> = names
            .into_iter()
            .map(|name| (name.clone(), spoken.selectors(name, &labels(name))))
            .collect();
        let mut pods: BTreeMap<&NamespaceName, Vec<ObjectKey>> = BTreeMap::new();
        for (namespace, selectors) in &asked {
            let selectors: Vec<&Selector> = selectors.iter().copied().collect();
            let (told, crowded) = kinds_of(&selectors);
            if crowded {
                let place = places.iter().find(|place| place.members.contains(namespace));
                kinds.crowded.extend(place.map(|place| Arc::clone(&place.text)));
            }
            for (number, kind) in told.into_iter().enumerate() {
                if let Ok(key) = ObjectKey::new(namespace.as_str(), &format!("kind-{number}")) {
                    pods.entry(namespace).or_default().push(key.clone());
                    kinds.pods.push(kind.pod(key));
                }
            }
        }
        for place in &places {
            kinds.add_rows(place, &asked, &pods);
        }
        kinds
    }

    fn add_rows(
        &mut self,
        place: &Place,
        asked: &BTreeMap<NamespaceName, BTreeSet<&Selector>>,
        pods: &BTreeMap<&NamespaceName, Vec<ObjectKey>>,
    ) {
        let by_key: BTreeMap<&ObjectKey, &Pod> =
            self.pods.iter().map(|pod| (&pod.key, pod)).collect();
        let keys: Vec<&ObjectKey> =
            place.members.iter().filter_map(|name| pods.get(name)).flatten().collect();
        let selectors: BTreeSet<&Selector> =
            place.members.iter().filter_map(|name| asked.get(name)).flatten().copied().collect();
        let party = |text: &str, meets: &dyn Fn(&Labels) -> bool| {
            let met = keys.iter().filter(|key| by_key.get(*key).is_some_and(|p| meets(&p.labels)));
            let members: Vec<End> = met.map(|key| End::Pod((*key).clone())).collect();
            let who = Who::Selected {
                place: Arc::clone(&place.text),
                namespace: place.name.clone(),
                pods: Arc::from(text),
            };
            (!members.is_empty()).then_some(Party { who, members })
        };
        let rows = selectors
            .iter()
            .filter_map(|selector| party(&selector.to_string(), &|labels| selector.matches(labels)))
            .chain(party(rest_of(&selectors), &|labels| {
                !selectors.iter().any(|selector| selector.matches(labels))
            }));
        let rows: Vec<Party> = rows.collect();
        let whole = party("every pod", &|_| true);
        self.rows.extend(rows);
        self.places.extend(whole);
    }

    /// `snapshot` with these pods and namespaces besides.
    #[must_use]
    pub fn laid_over(&self, snapshot: &Snapshot) -> Snapshot {
        let mut all = snapshot.clone();
        for namespace in &self.namespaces {
            all.namespaces.entry(namespace.name().clone()).or_insert_with(|| namespace.clone());
        }
        for pod in &self.pods {
            all.pods.entry(pod.key.clone()).or_insert_with(|| pod.clone());
        }
        all
    }

    /// Each kind, each selector with all kinds that it meets, or all kinds of each namespace.
    #[must_use]
    pub fn parties(&self, level: Level) -> Vec<Party> {
        match level {
            Level::Workload => self.rows.clone(),
            Level::Namespace => self.places.clone(),
            Level::Pod => {
                let mut seen = BTreeSet::new();
                let places = self.places.iter();
                let each = places
                    .flat_map(|place| place.members.iter().map(move |member| (&place.who, member)));
                each.filter(|(_, member)| seen.insert(*member))
                    .filter_map(|(who, member)| self.one(who, member))
                    .collect()
            }
        }
    }

    /// What each of the pods is called: `shop/app=web`.
    #[must_use]
    pub fn names(&self) -> BTreeMap<ObjectKey, String> {
        let kinds = self.parties(Level::Pod).into_iter();
        let named = kinds.filter_map(|party| match party.members.first() {
            Some(End::Pod(key)) => Some((key.clone(), party.to_string())),
            _ => None,
        });
        named.collect()
    }

    fn one(&self, who: &Who, member: &End) -> Option<Party> {
        let Who::Selected { place, namespace, .. } = who else { return None };
        let pod =
            self.pods.iter().find(|pod| matches!(member, End::Pod(key) if *key == pod.key))?;
        let pods = Arc::clone(&pod.workload.as_ref()?.name);
        let who = Who::Selected { place: Arc::clone(place), namespace: namespace.clone(), pods };
        Some(Party { who, members: vec![member.clone()] })
    }

    /// The namespaces in which selectors overlap in too many ways for each to be told.
    #[must_use]
    pub fn crowded(&self) -> &BTreeSet<Arc<str>> {
        &self.crowded
    }
}

/// Pods that none of `selectors` means.
fn rest_of(selectors: &BTreeSet<&Selector>) -> &'static str {
    if selectors.is_empty() { "every pod" } else { "other pods" }
}

/// What policies speak of.
struct Spoken<'a> {
    snapshots: &'a [&'a Snapshot],
    policies: Vec<&'a Policy>,
    /// The `namespaceSelector`s that do not mean all.
    namespaces: BTreeSet<&'a Selector>,
}

impl<'a> Spoken<'a> {
    fn of(snapshots: &'a [&'a Snapshot]) -> Self {
        let policies: Vec<&Policy> = snapshots.iter().flat_map(|s| s.policies.values()).collect();
        let scopes =
            policies.iter().copied().flat_map(peers).filter_map(|(scope, _)| match scope {
                NamespaceScope::Matching(selector) if !selector.is_everything() => Some(selector),
                _ => None,
            });
        let namespaces = scopes.collect();
        Self { snapshots, policies, namespaces }
    }

    /// The namespaces that are known by name, and those that are made up.
    fn places(&self) -> (Vec<Place>, Vec<Namespace>) {
        let own = self.policies.iter().map(|policy| policy.key.namespace.clone());
        let declared = self.snapshots.iter().flat_map(|s| s.namespaces.keys().cloned());
        let asked = self.namespaces.iter().flat_map(|selector| names(selector));
        let known: BTreeSet<NamespaceName> = own.chain(declared).chain(asked).collect();
        let meets = |selector: &Selector| {
            let of = |s: &&Snapshot| {
                known.iter().any(|name| selector.matches(&s.namespace_labels(name)))
            };
            self.snapshots.iter().any(of)
        };
        let unmet: Vec<&Selector> =
            self.namespaces.iter().copied().filter(|selector| !meets(selector)).collect();
        let (kinds, _) = kinds_of(&unmet);
        let mut made_up: Vec<Namespace> = Vec::new();
        let mut free = (0..=known.len() + kinds.len())
            .filter_map(|n| NamespaceName::new(&format!("namespace-{n}")).ok())
            .filter(|name| !known.contains(name));
        for (kind, name) in kinds.into_iter().zip(&mut free) {
            made_up.push(Namespace::new(name, kind.labels, Location::default()));
        }
        let mut places: Vec<Place> = known
            .into_iter()
            .map(|name| Place {
                text: Arc::from(name.as_str()),
                members: vec![name.clone()],
                name: Some(name),
            })
            .collect();
        let those = |test: &dyn Fn(&Labels) -> bool| -> Vec<NamespaceName> {
            let of = made_up.iter().filter(|namespace| test(namespace.labels()));
            of.map(|namespace| namespace.name().clone()).collect()
        };
        let by_selector = unmet.iter().map(|selector| {
            (format!("namespaces {selector}"), those(&|labels| selector.matches(labels)))
        });
        let rest = those(&|labels| !unmet.iter().any(|selector| selector.matches(labels)));
        let unnamed = by_selector.chain([("other namespaces".to_owned(), rest)]);
        places.extend(
            unnamed.filter(|(_, members)| !members.is_empty()).map(|(text, members)| Place {
                text: Arc::from(text),
                name: None,
                members,
            }),
        );
        (places, made_up)
    }

    /// The selectors of pods that are asked in a namespace with one of these `labels`, but for those that
    /// mean all.
    fn selectors(&self, namespace: &NamespaceName, labels: &[Labels]) -> BTreeSet<&'a Selector> {
        let mut asked = BTreeSet::new();
        for policy in &self.policies {
            let own = policy.key.namespace == *namespace;
            asked.extend(own.then_some(&policy.pod_selector));
            for (scope, pods) in peers(policy) {
                let meant = match scope {
                    NamespaceScope::Own => own,
                    NamespaceScope::Matching(selector) => {
                        let may = |labels| selector.matches(labels);
                        labels.iter().any(may) || self.may_mean(selector, namespace)
                    }
                };
                asked.extend(meant.then_some(pods));
            }
        }
        asked.retain(|selector| !selector.is_everything());
        asked
    }

    fn may_mean(&self, selector: &Selector, namespace: &NamespaceName) -> bool {
        let undeclared = |s: &&Snapshot| !s.namespaces.contains_key(namespace);
        self.snapshots.iter().any(undeclared) && super::bounds::depends(selector, namespace)
    }
}

/// The peers of a policy that are pods, of its rules that count.
fn peers(policy: &Policy) -> impl Iterator<Item = (&NamespaceScope, &Selector)> {
    let rules = Direction::ALL.into_iter().flat_map(|direction| policy.rules(direction));
    let listed = rules.flat_map(|rule| match &rule.grant {
        Grant::Traffic { peers: Peers::Listed(peers), .. } => peers.as_slice(),
        _ => &[],
    });
    listed.filter_map(|peer| match &peer.selects {
        PeerSelects::Pods { namespaces, pods } => Some((namespaces, pods)),
        PeerSelects::Block(_) => None,
    })
}

/// The namespaces that a selector asks for by name.
fn names(selector: &Selector) -> Vec<NamespaceName> {
    let values = selector.requirements().filter_map(|requirement| match &requirement.operator {
        Operator::In(values) if &*requirement.key == METADATA_NAME_LABEL => Some(values),
        _ => None,
    });
    values.flatten().filter_map(|name| NamespaceName::new(name).ok()).collect()
}

/// What tells a kind.
#[derive(Clone, Debug, Default)]
struct Kind {
    labels: Labels,
    /// `app=web,tier`: a key alone has a value that no selector asks for.
    text: String,
    /// How many labels it takes.
    size: usize,
}

impl Kind {
    fn with(&self, key: &str, value: &Value<'_>) -> Self {
        let mut kind = self.clone();
        let comma = if kind.text.is_empty() { "" } else { "," };
        match value {
            Value::Absent => return kind,
            Value::One(value) => {
                kind.labels.insert(key, value);
                kind.text = format!("{}{comma}{key}={value}", kind.text);
            }
            Value::Another(value) => {
                kind.labels.insert(key, value);
                kind.text = format!("{}{comma}{key}", kind.text);
            }
        }
        kind.size += 1;
        kind
    }

    fn pod(self, key: ObjectKey) -> Pod {
        let text = if self.text.is_empty() { "other pods" } else { &self.text };
        let (kind, name) = (Arc::from(KIND), Arc::from(text));
        let workload = Workload { kind, name, replicas: REPLICAS };
        Pod { workload: Some(workload), ..Pod::described(key, self.labels) }
    }
}

/// What a label may be, as far as selectors care.
enum Value<'a> {
    Absent,
    One(&'a str),
    /// One that is there and that none asks for.
    Another(String),
}

/// The kinds that `selectors` tell apart, each by the fewest labels; or where they are too many those with
/// exactly the labels of each selector, and whether that is so.
fn kinds_of(selectors: &[&Selector]) -> (Vec<Kind>, bool) {
    let keys: BTreeSet<&str> =
        selectors.iter().flat_map(|s| s.requirements()).map(|r| &*r.key).collect();
    // By which selectors are missed.
    let mut kinds: BTreeMap<Vec<bool>, Kind> =
        BTreeMap::from([(vec![false; selectors.len()], Kind::default())]);
    for key in keys {
        let mut next: BTreeMap<Vec<bool>, Kind> = BTreeMap::new();
        for (missed, kind) in &kinds {
            for value in values(selectors, key) {
                let made = kind.with(key, &value);
                let missed = missed.iter().zip(selectors).map(|(missed, selector)| {
                    let mut own = selector.requirements().filter(|r| &*r.key == key);
                    *missed || own.any(|requirement| !requirement.holds(&made.labels))
                });
                let entry = next.entry(missed.collect());
                let known = entry.or_insert_with(|| made.clone());
                if made.size < known.size {
                    *known = made;
                }
            }
            if next.len() > MOST {
                return (exactly(selectors), true);
            }
        }
        kinds = next;
    }
    let mut kinds: Vec<Kind> = kinds.into_values().collect();
    kinds.sort_by(|a, b| a.labels.cmp(&b.labels));
    (kinds, false)
}

fn values<'a>(selectors: &[&'a Selector], key: &str) -> Vec<Value<'a>> {
    let mut told: BTreeSet<&'a str> = BTreeSet::new();
    let mut presence = false;
    for requirement in selectors.iter().flat_map(|s| s.requirements()).filter(|r| &*r.key == key) {
        match &requirement.operator {
            Operator::In(values) | Operator::NotIn(values) => {
                told.extend(values.iter().map(|value| &**value));
            }
            Operator::Exists | Operator::DoesNotExist => presence = true,
        }
    }
    // One of more values than are told is not among them.
    let another = (0..=told.len())
        .map(|n| format!("value-{n}"))
        .find(|value| !told.contains(value.as_str()))
        .filter(|_| presence);
    [Value::Absent]
        .into_iter()
        .chain(told.into_iter().map(Value::One))
        .chain(another.map(Value::Another))
        .collect()
}

/// For each selector a kind with the labels that it asks for and no others, and one without any.
fn exactly(selectors: &[&Selector]) -> Vec<Kind> {
    let mut kinds: BTreeMap<Labels, Kind> = BTreeMap::new();
    kinds.insert(Labels::default(), Kind::default());
    for selector in selectors {
        let keys: BTreeSet<&str> = selector.requirements().map(|r| &*r.key).collect();
        let mut kind = Kind::default();
        for key in keys {
            let found = values(&[*selector], key).into_iter().find(|value| {
                let labels = kind.with(key, value).labels;
                let mut own = selector.requirements().filter(|r| &*r.key == key);
                own.all(|requirement| requirement.holds(&labels))
            });
            if let Some(value) = found {
                kind = kind.with(key, &value);
            }
        }
        if selector.matches(&kind.labels) {
            kinds.insert(kind.labels.clone(), kind);
        }
    }
    kinds.into_values().take(MOST).collect()
}
