//! A pod that is told by its labels, where the input has none: `shop/app=web`.
//!
//! Such a pod is made up, with exactly these labels, and judged like any other. What its labels do not
//! tell (which numbers it calls by which names, which labels its namespace has) is in doubt: rules that
//! depend on it neither surely allow nor deny.

use std::borrow::Cow;
use std::collections::BTreeMap;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::flow::End;
use policy_compiler::labels::Labels;
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::reach::Bounds;
use policy_compiler::selector::Operator;

use crate::can::Port;
use crate::error::CommandError;
use crate::subject::{self, NamedEnd, Outside};

/// The objects of the input with the pods that a command line describes, and its two ends.
#[derive(Debug)]
pub struct Described<'a> {
    /// The objects.
    pub snapshot: Cow<'a, Snapshot>,
    /// Who opens the connection, and to whom.
    pub ends: [NamedEnd; 2],
    /// Whether some end is described.
    pub any: bool,
}

impl<'a> Described<'a> {
    /// The ends that `texts` name or describe.
    ///
    /// # Errors
    /// Where the input lacks what is named, or a description is none.
    pub fn of(
        snapshot: &'a Snapshot,
        texts: [&str; 2],
        namespace: &str,
        port: &Port,
    ) -> Result<Self, CommandError> {
        let mut given = Cow::Borrowed(snapshot);
        let mut made: [Option<NamedEnd>; 2] = [None, None];
        for (n, (text, end)) in texts.into_iter().zip(&mut made).enumerate() {
            let Some((namespace, labels)) = subject::labelled(text, namespace) else { continue };
            if !snapshot.pods.is_empty() {
                continue;
            }
            if let (1, Port::Name(name, _)) = (n, port) {
                return Err(CommandError::usage(
                    format!("`{name}`: no pod of the input says which port it calls so"),
                    "name it by its number",
                ));
            }
            let pod = pod(n, text, namespace, labels)?;
            let named = format!("{}/{}", pod.key.namespace, pod.labels);
            *end = Some(called(End::Pod(pod.key.clone()), named));
            given.to_mut().pods.insert(pod.key.clone(), pod);
        }
        let any = made.iter().any(Option::is_some);
        let [from, to] = made;
        let end = |made: Option<NamedEnd>, text| match made {
            Some(end) => Ok(end),
            None => subject::end(text, &given, namespace),
        };
        let ends = [end(from, texts[0])?, end(to, texts[1])?];
        Ok(Self { ends, any, snapshot: given })
    }

    /// What is sure of described pods, and what may be.
    #[must_use]
    pub fn bounds(&self) -> Bounds<'_> {
        if self.any {
            Bounds::of_kinds(&self.snapshot)
        } else {
            Bounds::exact(Cow::Borrowed(&self.snapshot))
        }
    }

    /// The pods that are ends.
    #[must_use]
    pub fn pods(&self) -> Vec<ObjectKey> {
        let ends = self.ends.iter().flat_map(|end| &end.ends);
        let key = |end: &End| match end {
            End::Pod(key) => Some(key.clone()),
            End::Node(_) | End::Address(_) => None,
        };
        ends.filter_map(key).collect()
    }

    /// What a reader has to know; nothing where all ends are of the input.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let note =
            "No pods in the input: a pod that is told by its labels has these and no others.";
        self.any.then(|| note.to_owned())
    }
}

fn called(end: End, text: String) -> NamedEnd {
    let outside = Outside { text: text.clone(), networks: Vec::new(), blocks: Vec::new() };
    NamedEnd {
        text,
        ends: vec![end.clone()],
        service: None,
        outside: BTreeMap::from([(end, outside)]),
    }
}

/// The pod of `namespace` with exactly `labels`.
fn pod(number: usize, text: &str, namespace: &str, labels: &str) -> Result<Pod, CommandError> {
    let wrong = |what: &str| {
        CommandError::usage(
            format!("`{text}` describes no pod: {what}"),
            "write the namespace and the labels that it has: `shop/app=web,tier=be`",
        )
    };
    let namespace = NamespaceName::new(namespace).map_err(|error| wrong(&error.to_string()))?;
    let mut described = Labels::default();
    for requirement in subject::selector(labels)?.requirements() {
        match &requirement.operator {
            Operator::In(values) if values.len() == 1 => {
                for value in values {
                    described.insert(&requirement.key, value);
                }
            }
            _ => return Err(wrong(&format!("`{requirement}` is no label with its value"))),
        }
    }
    let key = ObjectKey::new(namespace.as_str(), &format!("described-{number}"))
        .map_err(|error| wrong(&error.to_string()))?;
    Ok(Pod::described(key, described))
}
