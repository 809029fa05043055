//! PC007: of two policies with one namespace and name only the last in path order counts.

use std::collections::BTreeMap;

use crate::diagnostic::ObjectRef;
use crate::lint::Found;
use crate::lint::finding::Related;
use crate::lint::rule::Rule;
use crate::lint::scene::{Scene, finding};
use crate::lint::written::Written;

/// Policies that share a name with another of their layer.
pub(super) fn duplicate(scene: &Scene<'_>, found: &mut Found) {
    let mut same: BTreeMap<(usize, ObjectRef), Vec<&Written>> = BTreeMap::new();
    for written in scene.material.written {
        // What has no name yet gets one from the API server.
        let object = written.object();
        if !object.name.is_empty() && written.field("metadata.name").is_some() {
            same.entry((written.layer, object)).or_default().push(written);
        }
    }
    for ((_, object), documents) in same {
        let Some((last, earlier)) = documents.split_last() else { continue };
        let location = |written: &Written| written.locate("metadata.name");
        for written in earlier {
            let mut one = finding(
                Rule::Duplicate,
                Rule::Duplicate.severity(),
                location(written),
                Some(object.clone()),
                "metadata.name",
                "another policy has this namespace and name: this one does not count",
                "give one of them another name, or remove it",
            );
            one.related
                .push(Related { location: location(last), message: "this one counts".to_owned() });
            found.add(one);
        }
    }
}
