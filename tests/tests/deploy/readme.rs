//! The README's table of flags is that of the program.

use clap::{Arg, CommandFactory};
use policyd::args::Cli;

use crate::text;

/// A flag as the README has it: its name and value, its variable, its default.
fn row(arg: &Arg) -> String {
    let cell = |text: &str| match text {
        "" => "—".to_owned(),
        text => format!("`{}`", text.replace('|', "\\|")),
    };
    let (mut flag, mut default) = (format!("--{}", arg.get_long().unwrap()), String::new());
    if arg.get_action().takes_values() {
        let choice: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| value.get_name().to_owned())
            .collect();
        let name = arg.get_value_names().map(|names| names[0].to_string()).unwrap_or_default();
        flag = format!("{flag} {}", if choice.is_empty() { name } else { choice.join("|") });
        let values = arg.get_default_values().iter();
        default = values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
    }
    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
    format!("| {} | {} | {} |", cell(&flag), cell(&variable), cell(&default))
}

/// The flags of `run`, and of every command.
fn flags() -> Vec<String> {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    run.get_arguments()
        .chain(command.get_arguments())
        .filter(|arg| arg.get_long().is_some() && !arg.is_hide_set())
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .map(row)
        .collect()
}

#[test]
fn the_readme_lists_every_flag_of_run_with_its_variable_and_default() {
    let readme = text("README.md");
    let (_, table) = readme.split_once("| flag | variable | default |").expect("a table of flags");
    let table = table.split("\n\n").next().unwrap();
    let shown: Vec<&str> = table.lines().filter(|line| line.starts_with("| `--")).collect();
    let flags = flags();
    for flag in &flags {
        assert!(shown.iter().any(|line| line.starts_with(flag)), "not in the README: {flag}");
    }
    for line in &shown {
        assert!(flags.iter().any(|flag| line.starts_with(flag)), "not a flag of run: {line}");
    }
}

#[test]
fn every_flag_of_run_but_once_has_a_variable() {
    let without: Vec<String> =
        flags().into_iter().filter(|flag| flag.split(" | ").nth(1) == Some("—")).collect();
    assert_eq!(without, ["| `--once` | — | — |"]);
}
