//! Prints the manifests of a generated cluster, to try programs on one that is large.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use policy_tests::generate::{Cluster, Local, Size};
use serde_json::Value;

const HELP: &str = "\
Prints the objects of a made-up cluster, as `kubectl get nodes,namespaces,pods,networkpolicies -A` would.

Usage: generate [--nodes N] [--namespaces N] [--pods N] [--policies N] [--seed N] [-o json|yaml]

  The default is 200 nodes, 300 namespaces, 5,000 pods and 500 policies in YAML. The same numbers give the
  same cluster.
";

/// What the command line says.
struct Asked {
    size: Size,
    seed: u64,
    write: fn(&mut dyn Write, &Value) -> std::io::Result<()>,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("generate: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let cluster = Cluster::new(asked.size, asked.seed);
    let written = cluster.objects().try_for_each(|object| (asked.write)(&mut out, &object));
    match written.and_then(|()| out.flush()) {
        // A reader that went away has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("generate: cannot write: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// None where help is asked for.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let size = Size {
        nodes: 200,
        namespaces: 300,
        pods: 5_000,
        policies: 500,
        local_pods: 30,
        local: Local::Scattered,
    };
    let mut asked = Asked { size, seed: 1, write: yaml };
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        let number = || value.parse().map_err(|_| format!("`{word} {value}`: not a number"));
        match word.as_str() {
            "--nodes" => asked.size.nodes = number()?,
            "--namespaces" => asked.size.namespaces = number()?,
            "--pods" => asked.size.pods = number()?,
            "--policies" => asked.size.policies = number()?,
            "--seed" => asked.seed = number()?.into(),
            "-o" if value == "json" => asked.write = |out, object| writeln!(out, "{object}"),
            "-o" if value == "yaml" => asked.write = yaml,
            _ => return Err(format!("unknown argument `{word} {value}`")),
        }
    }
    Ok(Some(asked))
}

/// A document in the style of kubectl: blocks, and quotes only where words need them.
fn yaml(out: &mut dyn Write, object: &Value) -> std::io::Result<()> {
    out.write_all(b"---\n")?;
    block(out, object, 0)
}

fn block(out: &mut dyn Write, value: &Value, indent: usize) -> std::io::Result<()> {
    match value {
        Value::Object(fields) => fields.iter().enumerate().try_for_each(|(n, (key, value))| {
            // The first field of an item stands beside its dash.
            let margin = if n == 0 { 0 } else { indent };
            write!(out, "{:margin$}{}:", "", scalar(&Value::from(key.as_str())))?;
            below(out, value, indent)
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(n, item)| {
            let margin = if n == 0 { 0 } else { indent };
            write!(out, "{:margin$}- ", "")?;
            match item {
                Value::Object(fields) if !fields.is_empty() => block(out, item, indent + 2),
                Value::Array(items) if !items.is_empty() => block(out, item, indent + 2),
                item => writeln!(out, "{}", scalar(item)),
            }
        }),
        value => writeln!(out, "{}", scalar(value)),
    }
}

/// What stands behind `key:`.
fn below(out: &mut dyn Write, value: &Value, indent: usize) -> std::io::Result<()> {
    let deeper = match value {
        Value::Object(fields) if !fields.is_empty() => indent + 2,
        Value::Array(items) if !items.is_empty() => indent,
        value => return writeln!(out, " {}", scalar(value)),
    };
    write!(out, "\n{:deeper$}", "")?;
    block(out, value, deeper)
}

/// A scalar, `{}` or `[]`. Quoted as JSON, which YAML reads, unless it can only be a word.
fn scalar(value: &Value) -> String {
    let is_word = |text: &str| {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "-./_".contains(c));
        let means_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
        first && rest && !means_else.contains(&text.to_ascii_lowercase().as_str())
    };
    match value {
        Value::String(text) if is_word(text) => text.clone(),
        value => value.to_string(),
    }
}
