//! What the commands write as JSON meets the schemas that `policyc schema` prints, and YAML says the
//! same as JSON.

use policy_compiler::document::{Node, Value as Yaml};
use serde_json::Value;

use crate::run::policyc;

const ANSWERS: &[(&str, &str)] = &[
    ("PodExplanation", "explain pod shop/cart-0 -f shop"),
    ("PodExplanation", "explain pod obs/agent -f shop"),
    ("PodExplanation", "explain pod shop/web -f invalid"),
    ("PodExplanation", "explain pod shop/api-0 -6 -f shop"),
    ("PodExplanation", "explain pod x/b -f halves.yaml"),
    ("PodExplanationList", "explain pod deploy/web -n shop -f shop"),
    ("PodExplanationList", "explain pod sts/db -n shop -f templates"),
    ("Connection", "can deploy/web shop/cart-0 http -n shop -f shop"),
    ("Connection", "can shop/web-5d9c7-h7x2p shop/cart-0 9090/udp -f shop"),
    ("Connection", "can shop/web-5d9c7-h7x2p shop/cart-0 icmp -f shop"),
    ("Connection", "can deploy/web sts/db 5432 -n shop -f templates"),
    ("Connection", "can shop/migrate-x1 shop/cart-0 8080 -4 -f shop"),
    ("PodExplanation", "explain pod x/web -f audit.yaml"),
    ("Connection", "can x/db x/web http -f audit.yaml"),
    ("Connection", "can 203.0.113.7 x/db 5432 -f audit.yaml"),
    ("AllowList", "who-can shop/cart-0 -f shop"),
    ("AllowList", "who-can sts/db -n shop --egress -f templates"),
    ("PolicyExplanation", "explain policy shop/cart-from-web -f shop"),
    ("PolicyExplanation", "explain policy shop/web -f invalid"),
    ("PolicyExplanation", "explain policy x/web-in -f audit.yaml"),
    ("Connection", "can world shop/cart-0 8080 -f shop"),
    ("Matrix", "matrix -f shop"),
    ("Matrix", "matrix -f shop --by namespace --networks --nodes"),
    ("Matrix", "matrix -f templates --by pod -4 --port 5432"),
    ("Connection", "can shop/app=web shop/app=db 5432 -f policies.yaml"),
    ("Connection", "can obs/app=prom shop/app=db 9090 -f policies.yaml"),
    ("Comparison", "diff policies.yaml diff/policies.yaml"),
    ("Matrix", "matrix -f policies.yaml"),
    ("Matrix", "matrix --by namespace --port http -f shop"),
    ("Graph", "graph -f policies.yaml"),
    ("Matrix", "matrix -f shared.yaml"),
    ("AllowList", "who-can x/client -f shared.yaml"),
    ("Graph", "graph -f shared.yaml"),
    ("PolicyExplanation", "explain policy x/db -f shared.yaml"),
    ("PolicyExplanation", "explain policy shop/db -f overlaps.yaml"),
    ("Comparison", "diff diff/old.yaml diff/new.yaml"),
    ("Comparison", "diff templates diff/templates.yaml"),
    ("Comparison", "diff shop shop"),
    ("LintReport", "lint -f lint.yaml"),
    ("LintReport", "lint -f invalid"),
    ("LintReport", "lint -f shop"),
    ("Graph", "graph -f shop"),
    ("Graph", "graph --by pod -f templates"),
    ("Rulesets", "render -f shop"),
    ("TestReport", "test cases/good.yaml cases/wrong.yaml cases/misspelt.yaml"),
];

#[test]
fn every_answer_meets_its_schema() {
    for &(kind, line) in ANSWERS {
        let answer = json(&policyc(&format!("{line} -o json")).stdout);
        let schema = json(&policyc(&format!("schema {kind}")).stdout);
        assert_eq!(answer["kind"], kind, "{line}");
        let mut errors = Vec::new();
        validate(&answer, &schema, &schema, "$", &mut errors);
        assert_eq!(errors, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn a_schema_refuses_what_it_does_not_know() {
    let schema = json(&policyc("schema Connection").stdout);
    let mut answer = json(&policyc("can obs/shell shop/cart-0 80 -f shop -o json").stdout);
    answer["surprise"] = Value::from(1);
    answer["decision"] = Value::from("perhaps");
    answer["answers"][0].as_object_mut().expect("an object").remove("egress");
    let mut errors = Vec::new();
    validate(&answer, &schema, &schema, "$", &mut errors);
    assert_eq!(
        errors,
        [
            "$.decision: \"perhaps\" is not among the values",
            "$.answers[0]: lacks egress",
            "$: has surprise",
        ]
    );
}

#[test]
fn yaml_says_the_same_as_json() {
    for &(kind, line) in ANSWERS {
        let answer = json(&policyc(&format!("{line} -o json")).stdout);
        let text = policyc(&format!("{line} -o yaml")).stdout;
        let nodes = policy_manifest::yaml::parse(&text).expect("valid YAML");
        assert!(plain(&nodes[0]) == answer, "{kind}: {line}\n{text}");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}\n{text}"))
}

fn plain(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(b) => Value::from(*b),
        Yaml::Int(i) => Value::from(*i),
        Yaml::Float(f) => Value::from(*f),
        Yaml::String(s) => Value::from(s.as_str()),
        Yaml::List(items) => items.iter().map(plain).collect(),
        Yaml::Map(entries) => {
            Value::Object(entries.iter().map(|e| (e.key.clone(), plain(&e.node))).collect())
        }
    }
}

/// The part of JSON Schema that ours use: `$ref`, `type`, `const`, `enum`, `minimum`, `required`,
/// `properties`, `additionalProperties`, `items`.
fn validate(value: &Value, schema: &Value, root: &Value, path: &str, errors: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        let target = &root["$defs"][name];
        assert!(target.is_object(), "{reference} leads nowhere");
        return validate(value, target, root, path, errors);
    }
    if schema["type"].is_null() {
        // Whatever it is.
        return;
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_u64().is_some(),
        other => panic!("{path}: the schema has type {other:?}"),
    };
    if !fits {
        errors.push(format!("{path}: {value} is no {}", schema["type"]));
        return;
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        errors.push(format!("{path}: {value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        errors.push(format!("{path}: {value} is not among the values"));
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        validate(item, &schema["items"], root, &format!("{path}[{i}]"), errors);
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(key).is_none() {
            errors.push(format!("{path}: lacks {key}"));
        }
    }
    let mut unknown = Vec::new();
    for (key, member) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(property), _) => validate(member, property, root, &path, errors),
            (None, extra @ Value::Object(_)) => validate(member, extra, root, &path, errors),
            (None, _) => unknown.push(key.as_str()),
        }
    }
    errors.extend(unknown.into_iter().map(|key| format!("{path}: has {key}")));
}
