//! What each command says, byte for byte: `golden/NAME.txt` holds the command line, standard output,
//! standard error and the exit status. `BLESS=1` writes them anew; read the difference before
//! committing it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::run::policyc;

pub(crate) fn check(name: &str, line: &str) {
    let run = policyc(line);
    let mut shown = format!("$ policyc {line}\n{}", run.stdout);
    if !run.stderr.is_empty() {
        shown.push_str("--- standard error\n");
        shown.push_str(&run.stderr);
    }
    let _ = writeln!(shown, "--- exit status {}", run.status);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &shown).expect("golden files can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, golden, "{name} differs from {}", path.display());
}

macro_rules! golden {
    ($($name:ident: $line:literal;)*) => {
        $(#[test] fn $name() { check(stringify!($name), $line); })*
    };
}

golden! {
    explain_a_pod: "explain pod shop/cart-0 -f shop";
    explain_a_pod_in_one_family: "explain pod shop/cart-0 -f shop -6";
    explain_a_pod_with_open_ingress_and_a_wrong_port: "explain pod deploy/web -n shop -f shop";
    explain_a_pod_that_nothing_selects: "explain pod obs/shell -f shop";
    explain_a_pod_of_the_host_network: "explain pod obs/agent -f shop";
    explain_a_finished_pod: "explain pod shop/migrate-x1 -f shop";
    explain_pods_by_labels: "explain pod -l app -n obs -f shop";
    explain_a_template: "explain pod shop/sts/db -f templates";
    explain_as_json: "explain pod shop/cart-0 -f shop -o json";
    explain_as_yaml: "explain pod sts/db -n shop -f templates -o yaml";
    explain_under_an_invalid_policy: "explain pod shop/web -f invalid";
    can_allowed_by_name: "can obs/shell deploy/web http -n shop -f shop";
    can_denied_by_a_label: "can shop/api-0 shop/cart-0 8080 -f shop";
    can_denied_by_both_halves: "can shop/web-5d9c7-h7x2p shop/cart-0 9090/udp -f shop";
    can_from_an_excepted_address: "can 203.0.113.70 shop/cart-0 8080 -f shop";
    can_from_an_address: "can 203.0.113.7 shop/cart-0 8080 -f shop";
    can_from_the_own_node: "can node/node-a shop/cart-0 22 -f shop";
    can_ping: "can shop/web-5d9c7-h7x2p shop/cart-0 icmp -f shop";
    can_of_a_template_to_a_block: "can deploy/web sts/db 5432 -n shop -f templates";
    can_as_json: "can shop/api-0 shop/cart-0 8080 -f shop -o json";
    who_can_reach_a_pod: "who-can shop/cart-0 -f shop";
    who_can_reach_a_workload: "who-can deploy/half -n shop --ingress -f shop half.yaml";
    who_can_be_reached_by_a_template: "who-can shop/deploy/web --egress -f templates";
    who_can_reach_a_pod_of_the_shop: "who-can shop/db-0 -f ../../../../examples/shop";
    who_can_as_json: "who-can shop/cart-0 --ingress -4 -f shop -o json";
    who_can_reach_a_finished_pod: "who-can shop/migrate-x1 -f shop";
    explain_a_policy: "explain policy shop/cart-from-web -f shop";
    explain_a_policy_without_rules: "explain policy be-deny -n shop -f shop";
    explain_a_policy_of_egress: "explain policy shop/web-egress -f shop";
    explain_an_invalid_policy: "explain policy shop/web -f invalid";
    explain_a_policy_that_is_audited: "explain policy x/web-in -f audit.yaml";
    explain_a_policy_of_the_shop: "explain policy shop/cart-from-web -f ../../../../examples/shop";
    explain_a_policy_as_json: "explain policy shop/web-open -4 -f shop -o json";
    explain_a_misspelt_policy: "explain policy shop/cart-form-web -f shop";
    can_the_world: "can world shop/cart-0 8080 -f shop";
    can_reach_the_world: "can shop/web world 443/TCP -f invalid";
    can_the_world_of_one_family: "can world deploy/web 8080 -n shop -6 -f shop";
    matrix_of_workloads: "matrix -f shop half.yaml";
    matrix_of_namespaces: "matrix --by namespace -A -f shop";
    matrix_of_pods_in_one_namespace: "matrix --by pod -n shop -6 -f shop";
    matrix_of_one_port: "matrix --port 8080 --to ns/shop -f shop";
    matrix_with_nodes_and_networks: "matrix --nodes --networks --from world -f shop";
    matrix_of_templates: "matrix -f templates";
    matrix_of_halves: "matrix -f halves.yaml";
    matrix_as_csv: "matrix --networks -f shop -o csv";
    matrix_as_markdown: "matrix -f shop -o markdown";
    matrix_as_json: "matrix --to shop/cart-0 -f shop -o json";
    matrix_as_yaml: "matrix --to shop/cart-0 --from obs/shell -f shop -o yaml";
    matrix_of_a_named_port: "matrix --port http -f shop";
    matrix_of_an_address: "matrix --from 203.0.113.7 -f shop";
    matrix_of_a_misspelt_namespace: "matrix -n shob -f shop";
    matrix_under_an_invalid_policy: "matrix -f invalid";
    matrix_of_the_shop: "matrix -f ../../../../examples/shop";
    matrix_of_tenants: "matrix -f ../../../../examples/tenants";
    matrix_of_a_shared_address: "matrix -f shared.yaml";
    matrix_of_a_shared_address_as_markdown: "matrix -f shared.yaml -o markdown";
    who_can_reach_a_shared_address: "who-can x/client -f shared.yaml";
    who_can_reach_a_shared_address_as_json: "who-can x/client --ingress -f shared.yaml -o json";
    matrix_of_dual_stack: "matrix -f ../../../../examples/dual-stack";
    matrix_of_named_ports: "matrix -f ../../../../examples/named-ports";
    matrix_of_port_ranges: "matrix -f ../../../../examples/port-ranges";
    matrix_of_the_metadata_guard: "matrix --networks -f ../../../../examples/metadata-guard";
    matrix_of_audits: "matrix -f ../../../../examples/audit";
    render_a_node: "render --node node-a -f shop";
    render_a_pod: "render --pod shop/cart-0 -4 -f shop";
    render_as_json: "render --pod shop/cart-0 -4 -f shop -o json";
    can_denied_for_both_replicas: "can deploy/web shop/cart-0 http -n shop -f shop";
    lint_findings: "lint -f lint.yaml";
    lint_as_json: "lint -f lint.yaml -o json";
    lint_as_yaml: "lint -f lint.yaml --only PC013 -o yaml";
    lint_as_sarif: "lint -f lint.yaml --only PC013 -o sarif";
    lint_an_invalid_policy: "lint -f invalid";
    lint_shop: "lint -f shop service.yaml node.yaml";
    lint_mistakes: "lint -f mistakes.yaml";
    lint_explains_a_rule: "lint --explain PC013";
    lint_lists_its_rules: "lint --explain";
    lint_of_an_unknown_rule: "lint -f lint.yaml --ignore PC103";
    diff_a_policy: "diff ../../../../examples/shop/cart.yaml diff/cart.yaml --with ../../../../examples/shop";
    diff_a_policy_as_markdown: "diff ../../../../examples/shop/cart.yaml diff/cart.yaml --with ../../../../examples/shop -o markdown";
    diff_everything: "diff diff/old.yaml diff/new.yaml";
    diff_everything_as_markdown: "diff diff/old.yaml diff/new.yaml -o markdown";
    diff_everything_as_json: "diff diff/old.yaml diff/new.yaml -o json";
    diff_of_what_templates_do_not_tell: "diff templates diff/templates.yaml";
    diff_of_policies_alone: "diff policies.yaml diff/policies.yaml";
    diff_of_selectors_that_overlap: "diff overlaps.yaml diff/overlaps.yaml";
    diff_of_selectors_as_markdown: "diff overlaps.yaml diff/overlaps.yaml -o markdown";
    diff_of_the_same: "diff shop shop";
    diff_of_one_side: "diff shop";
    diff_of_a_hostile_revision: "diff git:--output=x shop";
    test_that_passes: "test cases/good.yaml";
    test_that_fails: "test cases/good.yaml cases/wrong.yaml";
    test_that_cannot_be_read: "test cases/misspelt.yaml cases/nowhere.yaml cases/good.yaml";
    test_as_junit: "test cases/good.yaml cases/wrong.yaml cases/misspelt.yaml -o junit";
    test_as_tap: "test cases/good.yaml cases/wrong.yaml cases/misspelt.yaml -o tap";
    no_input: "explain pod shop/cart-0";
    a_missing_file: "explain pod shop/cart-0 -f nowhere.yaml shop";
    a_file_that_is_not_yaml: "explain pod shop/cart-0 -f broken shop";
    a_misspelt_pod: "explain pod shop/cart-O -f shop";
    a_pod_without_its_namespace: "explain pod cart-0 -f shop";
    a_misspelt_port: "can obs/shell shop/cart-0 metric -f shop";
    a_misspelt_node: "render --node node-q -f shop";
    a_service_as_an_end: "can obs/shell svc/shop/cart 80 -f shop";
    a_service_address_as_an_end: "can obs/shell 10.96.0.80 80 -f shop service.yaml";
    a_service_with_its_port: "can shop/api-0 svc/shop/cart 80 -f shop service.yaml";
    a_service_without_that_port: "can obs/shell svc/cart 81 -n shop -f shop service.yaml";
    a_service_that_asks: "can svc/shop/cart obs/shell 80 -f shop service.yaml";
    explain_a_pod_without_the_family: "explain pod shop/api-0 -6 -f shop";
    explain_a_pod_without_the_family_as_json: "explain pod shop/api-0 -6 -f shop -o json";
    render_as_yaml: "render --pod shop/cart-0 -4 -f shop -o yaml";
    can_allowed_by_both_halves: "can x/a x/b 8080 -4 -f halves.yaml";
    explain_ingress_of_halves: "explain pod x/b -f halves.yaml";
    explain_egress_of_halves: "explain pod x/a -f halves.yaml";
    explain_a_pod_that_is_audited_alone: "explain pod x/web -f audit.yaml";
    explain_a_pod_that_is_audited_and_isolated: "explain pod x/db -f audit.yaml";
    explain_audits_as_json: "explain pod x/web -4 -f audit.yaml -o json";
    can_what_an_audit_would_deny: "can x/db x/web http -4 -f audit.yaml";
    can_from_an_address_that_audits_would_deny: "can 2001:db8::7 x/web 8081 -f audit.yaml";
    can_where_an_audit_adds_nothing: "can x/web x/db 5432 -f audit.yaml";
    can_with_audits_as_json: "can x/db x/web http -4 -f audit.yaml -o json";
    graph_for_graphviz: "graph -f ../../../../examples/shop";
    graph_for_mermaid: "graph -f ../../../../examples/shop -o mermaid";
    graph_too_large_to_look_at: "graph -f large.yaml -o svg";
    graph_by_pod: "graph -f halves.yaml --by pod";
    graph_by_namespace: "graph -f shop --by namespace -o mermaid";
    graph_as_json: "graph -f ../../../../examples/metadata-guard -o json";
    graph_as_yaml: "graph -f ../../../../examples/dual-stack -o yaml";
    matrix_of_selectors: "matrix -f policies.yaml";
    matrix_of_selectors_that_overlap: "matrix -f overlaps.yaml";
    matrix_of_one_selector: "matrix --to shop/app=db --port 5432 -f overlaps.yaml -o markdown";
    matrix_of_kinds_of_pods: "matrix --by pod -4 -f overlaps.yaml";
    matrix_of_namespaces_without_pods: "matrix --by namespace -4 -f overlaps.yaml";
    matrix_of_selectors_as_json: "matrix --from shop/tier=be -4 -f overlaps.yaml -o json";
    matrix_of_a_misspelt_selector: "matrix --from shop/app=bd -f overlaps.yaml";
    matrix_of_a_misspelt_port_name: "matrix --port htpt -f shop";
    graph_of_selectors: "graph -f policies.yaml -o mermaid";
    graph_of_one_family: "graph -4 -f shop -o mermaid";
    explain_a_policy_without_pods: "explain policy shop/db -f policies.yaml";
    explain_a_policy_of_overlapping_selectors: "explain policy shop/db -f overlaps.yaml";
    can_the_world_of_both_families: "can world shop/cart-0 22 -f shop";
    can_of_pods_that_labels_tell: "can shop/app=web app=db 5432 -n shop -f policies.yaml";
    can_of_pods_that_labels_tell_to_a_named_port: "can namespace/app=prom shop/app=db 9090 -f policies.yaml";
    can_of_labels_as_json: "can shop/app=db shop/app=web 8080 -4 -f overlaps.yaml -o json";
    can_from_labels_that_many_have: "can shop/app=web shop/cart-0 8080 -4 -f shop";
    can_of_a_description_that_is_none: "can shop/app!=web shop/app=db 80 -f policies.yaml";
    can_of_a_pod_where_there_are_none: "can shop/web shop/db 80 -f policies.yaml";
    render_audits: "render --pod x/web -4 -f audit.yaml";
    a_misspelt_schema: "schema PodExplanatoin";
    the_kinds_of_schema: "schema";
    what_was_passed_over: "can obs/shell shop/web-5d9c7-h7x2p 80 -f shop -v -4";
}
