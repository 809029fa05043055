//! What a run of `policyc diff -o json` told, in lines.

use serde_json::Value as Json;

use crate::run::Run;

fn comparison(run: &Run) -> Json {
    serde_json::from_str(&run.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", run.stdout, run.stderr))
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

fn joined<'v>(texts: impl Iterator<Item = &'v str>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

/// A connection: `opened shop/api -> shop/cart 8080/TCP`, with what closes behind a minus.
fn line(line: &Json) -> String {
    let names = |key: &str| joined(list(&line[key]).map(|end| text(&end["name"])));
    let traffic = |key: &str| joined(list(&line[key]).map(text));
    let mut told = format!("{} {} -> {}", text(&line["change"]), names("from"), names("to"));
    for (sign, key) in [("", "opened"), ("-", "closed"), ("?", "mayOpen"), ("?-", "mayClose")] {
        let traffic = traffic(key);
        if !traffic.is_empty() {
            told = format!("{told} {sign}{traffic}");
        }
    }
    told
}

/// The connections: `opened shop/api -> shop/cart 8080/TCP`, with what closes behind a minus.
pub(crate) fn told(run: &Run) -> Vec<String> {
    list(&comparison(run)["connections"]).map(line).collect()
}

/// The same, with families and causes: `... over IPv4: NetworkPolicy x/p ingress[0]`.
pub(crate) fn caused(run: &Run) -> Vec<String> {
    let cause = |cause: &Json| {
        format!("{} {} {}", text(&cause["kind"]), text(&cause["name"]), text(&cause["field"]))
            .trim_end()
            .to_owned()
    };
    let caused = |connection: &Json| {
        let causes: Vec<String> = list(&connection["causes"]).map(cause).collect();
        let families = list(&connection["families"]).map(text).collect::<Vec<_>>().join("+");
        format!("{} over {families}: {}", line(connection), causes.join("; "))
    };
    list(&comparison(run)["connections"]).map(caused).collect()
}

/// Who came or went: `added x/web`.
pub(crate) fn workloads(run: &Run) -> Vec<String> {
    let told = |w: &Json| format!("{} {}", text(&w["change"]), text(&w["name"]));
    list(&comparison(run)["workloads"]).map(told).collect()
}
