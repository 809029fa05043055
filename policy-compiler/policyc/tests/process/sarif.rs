//! `-o sarif` against the schema of SARIF 2.1.0 as OASIS publishes it (`tests/sarif-schema-2.1.0.json`,
//! copyright OASIS Open, unchanged).

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::run::{fixtures, policyc, policyc_with};

fn schema() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sarif-schema-2.1.0.json");
    serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("JSON")
}

fn log_of(line: &str) -> Value {
    serde_json::from_str(&policyc(line).stdout).expect("JSON")
}

#[test]
fn what_is_written_meets_the_schema() {
    let schema = schema();
    for line in ["lint -f shop -o sarif", "lint -f lint.yaml -o sarif", "lint -f invalid -o sarif"]
    {
        let mut errors = Vec::new();
        validate(&log_of(line), &schema, &schema, "$", &mut errors);
        assert_eq!(errors, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn the_schema_refuses_what_it_should() {
    let schema = schema();
    let mut log = log_of("lint -f lint.yaml -o sarif");
    log["runs"][0]["results"][0]["level"] = "bad".into();
    log["runs"][0]["results"][0]["surprise"] = 1.into();
    log["runs"][0]["results"][1]["locations"][0]["physicalLocation"]["region"]["startLine"] =
        0.into();
    log["runs"][0]["tool"].as_object_mut().expect("an object").remove("driver");
    let mut errors = Vec::new();
    validate(&log, &schema, &schema, "$", &mut errors);
    errors.sort();
    assert_eq!(
        errors,
        [
            "$.runs[0].results[0].level: \"bad\" is not among the values",
            "$.runs[0].results[0]: has surprise",
            "$.runs[0].results[1].locations[0].physicalLocation.region.startLine: 0 is below 1",
            "$.runs[0].tool: lacks driver",
        ]
    );
}

#[test]
fn results_have_rules_places_and_suppressions() {
    let log = log_of("lint -f lint.yaml -o sarif");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let results = run["results"].as_array().expect("results");
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    let place = |result: &Value| {
        let location = &result["locations"][0]["physicalLocation"];
        format!(
            "{} {}:{}:{} {}",
            result["ruleId"].as_str().unwrap(),
            location["artifactLocation"]["uri"].as_str().unwrap(),
            location["region"]["startLine"],
            location["region"]["startColumn"],
            result["suppressions"][0]["kind"].as_str().unwrap_or("open"),
        )
    };
    let places: Vec<String> = results.iter().map(place).collect();
    assert_eq!(
        places,
        [
            "PC023 lint.yaml:7:1 open",
            "PC013 lint.yaml:18:7 open",
            "PC000 lint.yaml:19:18 open",
            "PC024 lint.yaml:16:7 inSource",
        ]
    );
    let unchecked = &run["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(unchecked[0]["descriptor"]["id"], "PC015", "{unchecked}");
}

#[test]
fn what_has_no_file_has_a_logical_location_alone() {
    let text = fs::read_to_string(fixtures().join("lint.yaml")).unwrap();
    let run = policyc_with("lint -f - -o sarif", &text, &[]);
    let log: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let location = &log["runs"][0]["results"][1]["locations"][0];
    assert_eq!(
        location,
        &serde_json::json!({"logicalLocations": [{
            "fullyQualifiedName": "NetworkPolicy shop/web spec.ingress[0].ports[0]", "kind": "object",
        }]})
    );
}

/// The keywords of JSON Schema that the schema has. An unknown one ends the test.
fn validate(value: &Value, schema: &Value, root: &Value, path: &str, errors: &mut Vec<String>) {
    let no_keywords = serde_json::Map::new();
    for (keyword, wanted) in schema.as_object().unwrap_or(&no_keywords) {
        match keyword.as_str() {
            "$ref" => {
                let name = wanted.as_str().expect("text").rsplit('/').next().expect("a name");
                let target = &root["definitions"][name];
                assert!(target.is_object(), "{wanted} leads nowhere");
                validate(value, target, root, path, errors);
            }
            "type" if !is_of(value, wanted) => {
                errors.push(format!("{path}: {value} is no {wanted}"));
            }
            "enum" if !wanted.as_array().expect("values").contains(value) => {
                errors.push(format!("{path}: {value} is not among the values"));
            }
            "minimum" | "maximum" => bound(keyword, wanted, value, path, errors),
            "minItems" | "uniqueItems" | "items" => {
                items(keyword, wanted, value, root, path, errors);
            }
            "required" => {
                for key in wanted.as_array().expect("names").iter().filter_map(Value::as_str) {
                    if value.is_object() && value.get(key).is_none() {
                        errors.push(format!("{path}: lacks {key}"));
                    }
                }
            }
            "anyOf" | "oneOf" => {
                let fits = |schema: &&Value| {
                    let mut errors = Vec::new();
                    validate(value, schema, root, path, &mut errors);
                    errors.is_empty()
                };
                let n = wanted.as_array().expect("schemas").iter().filter(fits).count();
                if n == 0 || (keyword == "oneOf" && n > 1) {
                    errors.push(format!("{path}: fits {n} of {keyword}"));
                }
            }
            "format" | "pattern" => text(keyword, wanted, value, path, errors),
            // Prose, what has been looked at above, and what is looked at with each member.
            "$schema"
            | "$id"
            | "title"
            | "description"
            | "default"
            | "definitions"
            | "type"
            | "enum"
            | "additionalProperties"
            | "properties" => {}
            other => panic!("{path}: the schema has {other}, which is not understood here"),
        }
    }
    members(value, schema, root, path, errors);
}

fn is_of(value: &Value, wanted: &Value) -> bool {
    let one = |name: &Value| match name.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the schema has type {other}"),
    };
    wanted.as_array().map_or_else(|| one(wanted), |names| names.iter().any(one))
}

fn bound(keyword: &str, wanted: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    let Some((number, limit)) = value.as_f64().zip(wanted.as_f64()) else { return };
    if keyword == "minimum" && number < limit {
        errors.push(format!("{path}: {value} is below {wanted}"));
    }
    if keyword == "maximum" && number > limit {
        errors.push(format!("{path}: {value} is above {wanted}"));
    }
}

fn items(
    keyword: &str,
    wanted: &Value,
    value: &Value,
    root: &Value,
    path: &str,
    errors: &mut Vec<String>,
) {
    let Some(list) = value.as_array() else { return };
    match keyword {
        "minItems" if list.len() < usize::try_from(wanted.as_u64().expect("a number")).unwrap() => {
            errors.push(format!("{path}: has fewer than {wanted} items"));
        }
        "uniqueItems" if *wanted == Value::Bool(true) => {
            for (i, item) in list.iter().enumerate() {
                if list[..i].contains(item) {
                    errors.push(format!("{path}[{i}]: is there twice"));
                }
            }
        }
        "items" => {
            for (i, item) in list.iter().enumerate() {
                validate(item, wanted, root, &format!("{path}[{i}]"), errors);
            }
        }
        _ => {}
    }
}

fn text(keyword: &str, wanted: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    let (Some(text), Some(wanted)) = (value.as_str(), wanted.as_str()) else { return };
    let uri =
        |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&b));
    let fits = match (keyword, wanted) {
        ("format", "uri") => uri(text) && text.contains(':'),
        ("format", "uri-reference") => {
            uri(text) && !text.split('/').next().unwrap_or("").contains(':')
                || uri(text) && text.contains("://")
        }
        // Languages, versions of libraries, times and GUIDs are things that we do not write.
        _ => panic!("{path}: {keyword} {wanted} is not understood here"),
    };
    if !fits {
        errors.push(format!("{path}: {text:?} is no {wanted}"));
    }
}

fn members(value: &Value, schema: &Value, root: &Value, path: &str, errors: &mut Vec<String>) {
    for (key, member) in value.as_object().into_iter().flatten() {
        let at = format!("{path}.{key}");
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(property), _) => validate(member, property, root, &at, errors),
            (None, extra @ Value::Object(_)) => validate(member, extra, root, &at, errors),
            (None, Value::Bool(false)) => errors.push(format!("{path}: has {key}")),
            (None, _) => {}
        }
    }
}
