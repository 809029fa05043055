//! Every case file of the workspace: it can be read, and the evaluator and the simulated rules agree
//! with its table.

use std::io;
use std::path::{Path, PathBuf};

use policy_manifest::case::{self, Case, CaseFile};
use policy_manifest::judge::judge;

/// `examples/*/test.yaml` and `tests/cases/*.yaml`, sorted.
fn case_files() -> io::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let entries = |directory: &str| {
        let entries = std::fs::read_dir(root.join(directory))?;
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()
    };
    let examples = entries("examples")?.into_iter().map(|example| example.join("test.yaml"));
    let tables = entries("tests/cases")?.into_iter();
    let tables = tables.filter(|file| file.extension() == Some("yaml".as_ref()));
    let mut files: Vec<PathBuf> = examples.filter(|file| file.is_file()).chain(tables).collect();
    files.sort();
    assert!(files.len() > 6, "only these case files were found: {files:?}");
    Ok(files)
}

fn load_all() -> io::Result<Vec<CaseFile>> {
    let mut faults = Vec::new();
    let mut loaded = Vec::new();
    for file in case_files()? {
        match case::load(&file) {
            Ok(file) => loaded.push(file),
            Err(error) => faults.push(error.to_string()),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(loaded)
}

/// What is wrong with a case, a line each, and how many flows were compared.
fn disagreements(file: &CaseFile, case: &Case) -> (Vec<String>, usize) {
    let judgement = judge(case);
    let mut found = Vec::new();
    for outcome in &judgement.outcomes {
        let flow = &outcome.flow;
        for fault in &outcome.faults {
            found.push(format!(
                "{}: {}: {} -> {} on {} ({}): {fault}",
                outcome.location, case.name, flow.from, flow.to, flow.traffic, flow.family
            ));
        }
    }
    let of_case = judgement.faults.iter();
    found.extend(of_case.map(|f| format!("{}: {}: {f}", file.name, case.name)));
    if !found.is_empty() {
        found.extend(judgement.diagnostics.iter().map(|d| format!("    {d}")));
    }
    (found, judgement.outcomes.iter().filter(|o| o.simulated.is_some()).count())
}

#[test]
fn evaluator_and_simulated_rules_agree_with_every_table() -> io::Result<()> {
    let mut compared = 0;
    let mut found = Vec::new();
    for file in &load_all()? {
        for case in &file.cases {
            let (disagreements, flows) = disagreements(file, case);
            found.extend(disagreements);
            compared += flows;
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(compared > 500, "only {compared} flows were judged by both");
    Ok(())
}
