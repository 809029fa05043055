//! `make bench`, the kernel's side.

use std::path::PathBuf;
use std::process::ExitCode;

use policy_tests::bench::BenchError;
use policy_tests::bench::report::{Report, Row, Verdict};
use policy_tests::bench::rows::{GROUPS, Selection, Size, measure};
use policyd::dataplane::error_chain;

const HELP: &str = "\
Measures what policies cost packets and nodes, in network namespaces of its own.

Usage: bench [--quick] [--output DIR] [GROUP ...]

  --quick        Little of each: within a minute, for a first look
  --output DIR   Where to write datapath.json, datapath.md and datapath.svg

Groups (all where none is named):
";

fn main() -> ExitCode {
    let mut selection = Selection::default();
    let mut output = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => selection.size = Size::Quick,
            "--output" => output = words.next().map(PathBuf::from),
            "-h" | "--help" => {
                print!("{}", help());
                return ExitCode::SUCCESS;
            }
            group => selection.groups.push(group.to_owned()),
        }
    }
    if let Some(unknown) = selection.unknown() {
        eprintln!("bench: there is no group `{unknown}`\n\n{}", help());
        return ExitCode::from(2);
    }
    match run(&selection, output) {
        Ok(report) => {
            print!("\n{}", report.table());
            for (verdict, words) in [
                (Verdict::Missed, "missed"),
                (Verdict::Unproven, "not proven, for its control strayed"),
            ] {
                for row in report.named(verdict) {
                    println!("{words}: {row}");
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {}", error_chain(&error));
            ExitCode::from(if error.is_wrong_path() { 1 } else { 2 })
        }
    }
}

fn help() -> String {
    let groups = GROUPS.map(|(group, meaning)| format!("  {group:<12} {meaning}\n"));
    format!("{HELP}{}", groups.concat())
}

fn run(selection: &Selection, output: Option<PathBuf>) -> Result<Report, BenchError> {
    let mut progress = |row: &Row| {
        let backend = row.backend.map(|backend| format!(" [{backend:?}]")).unwrap_or_default();
        eprintln!("{}{backend}: {}", row.title.trim_start(), row.unit.show(row.figure));
    };
    let report = measure(selection, &mut progress)?;
    if let Some(folder) = output {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|source| BenchError::System {
                operation: format!("write {}", path.display()),
                source,
            })
        };
        std::fs::create_dir_all(&folder).map_err(|source| BenchError::System {
            operation: format!("make {}", folder.display()),
            source,
        })?;
        write("datapath.json", &format!("{:#}\n", report.json()))?;
        write("datapath.md", &report.markdown())?;
        write("datapath.svg", &report.chart())?;
    }
    Ok(report)
}
