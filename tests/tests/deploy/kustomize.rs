//! The part of kustomize that the manifests use: resources, components, and patches in the form of
//! JSON patches. Whatever else a kustomization says is refused, and where `kubectl` is there it must
//! build the same objects.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use policy_compiler::document::{Node, Value as Yaml};
use policy_manifest::yaml;
use serde_json::{Map, Value};

use crate::top;

/// Every folder that `kubectl apply -k` is meant for.
pub(crate) const FOLDERS: [&str; 8] = [
    "manifests/base",
    "manifests/cleanup",
    "manifests/overlays/antispoof",
    "manifests/overlays/bridge-sysctls",
    "manifests/overlays/isolate-unknown",
    "manifests/overlays/no-events",
    "manifests/overlays/scoped-watch",
    "manifests/overlays/startup-taint",
];

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<(String, String), Value>;

/// What a folder with a kustomization stands for.
pub(crate) fn build(folder: &str) -> Objects {
    let mut objects = Objects::new();
    add(&top().join(folder), "Kustomization", &mut objects);
    objects
}

/// The documents of a text, as JSON.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    yaml::parse(text).unwrap_or_else(|error| panic!("{error}")).iter().map(json).collect()
}

fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => (*value).into(),
        Yaml::Int(value) => (*value).into(),
        Yaml::Float(value) => (*value).into(),
        Yaml::String(value) => value.as_str().into(),
        Yaml::List(items) => items.iter().map(json).collect(),
        Yaml::Map(entries) => {
            let mut map = Map::new();
            for entry in entries {
                let twice = map.insert(entry.key.clone(), json(&entry.node));
                assert_eq!(twice, None, "the key `{}` is there twice", entry.key);
            }
            Value::Object(map)
        }
    }
}

/// The only document of a file.
fn read(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut documents = documents(&text);
    assert_eq!(documents.len(), 1, "{} holds one object", path.display());
    documents.remove(0)
}

fn add(folder: &Path, kind: &str, objects: &mut Objects) {
    let kustomization = read(&folder.join("kustomization.yaml"));
    assert_eq!(kustomization["kind"], kind, "{}", folder.display());
    for (key, value) in kustomization.as_object().expect("a mapping") {
        let items = || value.as_array().expect("a list").iter();
        let paths = || items().map(|path| folder.join(path.as_str().expect("a path")));
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "resources" => paths().for_each(|path| {
                if path.is_dir() {
                    add(&path, "Kustomization", objects);
                } else {
                    let object = read(&path);
                    let twice = objects.insert(identity(&object), object);
                    assert_eq!(twice, None, "{}", path.display());
                }
            }),
            "components" => paths().for_each(|path| add(&path, "Component", objects)),
            "patches" => items().for_each(|patch| apply(patch, folder, objects)),
            other => panic!("{}: `{other}` is not read here", folder.display()),
        }
    }
}

fn identity(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().expect("kind and name").to_owned();
    (text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn apply(patch: &Value, folder: &Path, objects: &mut Objects) {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let target = (word(&patch["target"]["kind"]), word(&patch["target"]["name"]));
    let object = objects.get_mut(&target).unwrap_or_else(|| panic!("no {target:?} to patch"));
    for operation in read(&folder.join(word(&patch["path"]))).as_array().expect("operations") {
        let field = word(&operation["path"]);
        let (parent, last) = field.rsplit_once('/').expect("a path of a field");
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}"));
        let value = &operation["value"];
        let name = word(&operation["op"]);
        match (name.as_str(), parent) {
            ("test", parent) => {
                assert_eq!(parent.pointer(&format!("/{last}")), Some(value), "{field}");
            }
            ("add", Value::Array(items)) if last == "-" => items.push(value.clone()),
            ("add", Value::Object(fields)) => {
                let replaced = fields.insert(last.to_owned(), value.clone());
                assert_eq!(replaced, None, "{field} is there already");
            }
            ("remove", Value::Array(items)) => drop(items.remove(last.parse().expect("an index"))),
            (name, _) => panic!("`{name}` at {field} is not carried out here"),
        }
    }
}

#[test]
fn kubectl_builds_the_same_objects() {
    let kubectl = |words: &[&str]| Command::new("kubectl").args(words).output();
    // The kustomize of kubectl 1.20 and earlier knows no components.
    let knows_components = kubectl(&["version", "--client", "--output=json"]).is_ok_and(|output| {
        let version: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        version["clientVersion"]["minor"]
            .as_str()
            .and_then(|minor| minor.trim_end_matches('+').parse::<u32>().ok())
            .is_some_and(|minor| minor >= 21)
    });
    if !knows_components {
        println!("not compared: there is no kubectl of 1.21 or later here");
        return;
    }
    for folder in FOLDERS {
        let output = kubectl(&["kustomize", &top().join(folder).to_string_lossy()]).unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{folder}: {complaints}");
        let built: Objects = documents(&String::from_utf8_lossy(&output.stdout))
            .into_iter()
            .map(|object| (identity(&object), object))
            .collect();
        assert_eq!(built, build(folder), "{folder}");
    }
}
