//! The rules, a question a file. Each looks through the scene on its own; the order in which they run
//! does not matter.

use super::Found;
use super::scene::Scene;

mod address;
mod allow_all;
pub(super) mod audit;
mod default_deny;
mod dns;
mod duplicate;
mod except;
mod indentation;
mod invalid;
mod one_sided;
mod peer;
mod port_name;
mod protocol;
mod service_port;
mod shadow;
mod subject;
mod types;
mod world;

/// All of them.
pub(super) const ALL: &[fn(&Scene<'_>, &mut Found)] = &[
    invalid::invalid,
    invalid::host_bits,
    types::inert_rules,
    types::omitted,
    types::empty_egress,
    protocol::omitted,
    duplicate::duplicate,
    indentation::indentation,
    subject::selects_no_pod,
    subject::host_network,
    peer::no_such_namespace,
    peer::no_such_peer,
    port_name::unresolved,
    service_port::service_port,
    address::service_range,
    address::pod_addresses,
    except::undone,
    dns::no_dns,
    allow_all::allow_all,
    shadow::shadowed,
    default_deny::no_default_deny,
    world::open_to_world,
    one_sided::one_sided,
];

/// Whom a policy selects, by name where the input tells: `shop/web`, `every pod of shop`.
fn subject_words(scene: &Scene<'_>, policy: &crate::policy::Policy) -> String {
    let subjects = scene.subjects(policy);
    let namespace = &policy.key.namespace;
    if policy.pod_selector.is_everything() {
        format!("every pod of {namespace}")
    } else if subjects.is_empty() {
        format!("pods {} in {namespace}", policy.pod_selector)
    } else {
        scene.pods(&subjects)
    }
}
