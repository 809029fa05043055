//! Completion under kubectl, which has no script of ours but asks a program.
//!
//! kubectl runs `kubectl_complete-policyc` with the words behind `kubectl policyc`, the last of them
//! unfinished or empty, and reads candidates a line each, a tab before what they mean, and in the last
//! line what to do with them. That program is [`SCRIPT`]; it asks the plugin, which asks [`answer`].

use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};

/// What `kubectl_complete-policyc` has to be.
pub const SCRIPT: &str = "\
#!/bin/sh
# Completes `kubectl policyc`. Belongs on the PATH as kubectl_complete-policyc, executable.
exec kubectl-policyc __complete \"$@\"
";

/// The command line under the name that a person types for the plugin, in its examples too.
#[must_use]
pub fn of_plugin(command: Command) -> Command {
    renamed(command.bin_name(PLUGIN).display_name("kubectl-policyc"))
}

const PLUGIN: &str = "kubectl policyc";

fn renamed(command: Command) -> Command {
    let help = command.get_after_help().map(|help| {
        help.to_string()
            .replace("  policyc ", &format!("  {PLUGIN} "))
            .replace("| policyc ", &format!("| {PLUGIN} "))
    });
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, renamed))
}

/// Nothing but the candidates may follow.
const NO_FILES: &str = ":4";
/// Where there are no candidates, file names may follow.
const FILES: &str = ":0";

/// What could stand in the place of the last of `words`.
#[must_use]
pub fn answer(command: &Command, words: &[String]) -> String {
    let (begun, before) = words.split_last().map_or(("", &[][..]), |(last, rest)| (last, rest));
    let mut here = command;
    let mut awaited: Option<&Arg> = None;
    for word in before {
        if awaited.take().is_some() {
            continue;
        }
        if let Some(option) = option_of(here, word) {
            awaited = Some(option).filter(|o| o.get_action().takes_values() && !word.contains('='));
        } else if let Some(next) = here.find_subcommand(word) {
            here = next;
        }
    }
    let mut candidates: Vec<(String, String)> = match awaited {
        Some(option) => values(option),
        None if begun.starts_with('-') => options(command, here),
        None => subcommands(here),
    };
    candidates.retain(|(name, _)| name.starts_with(begun));
    let takes_files = awaited.is_some_and(|option| {
        option.get_possible_values().is_empty() && option.get_value_hint() != ValueHint::Other
    });
    let operand = awaited.is_none() && !begun.starts_with('-') && candidates.is_empty();
    let mut out = String::new();
    for (name, help) in candidates {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{name}\t{help}");
    }
    out.push_str(if takes_files || operand { FILES } else { NO_FILES });
    out.push('\n');
    out
}

/// The option that a word names, of `command` or of all commands.
fn option_of<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let long = word.strip_prefix("--").map(|long| long.split('=').next().unwrap_or(long));
    let short = word.strip_prefix('-').and_then(|short| short.chars().next());
    command.get_arguments().find(|arg| match long {
        Some(long) => arg.get_long() == Some(long),
        None => short.is_some() && arg.get_short() == short,
    })
}

fn values(option: &Arg) -> Vec<(String, String)> {
    let values = option.get_possible_values();
    let described = |value: &clap::builder::PossibleValue| {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        (value.get_name().to_owned(), first_line(&help))
    };
    values.iter().filter(|value| !value.is_hide_set()).map(described).collect()
}

fn options(root: &Command, here: &Command) -> Vec<(String, String)> {
    let global = root.get_arguments().filter(|arg| arg.is_global_set());
    let shown = here.get_arguments().chain(global).filter(|arg| !arg.is_hide_set());
    let mut named: Vec<(String, String)> = shown
        .filter_map(|arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            Some((format!("--{}", arg.get_long()?), first_line(&help)))
        })
        .collect();
    named.sort();
    named.dedup();
    named
}

fn subcommands(here: &Command) -> Vec<(String, String)> {
    let shown = here.get_subcommands().filter(|command| !command.is_hide_set());
    shown
        .map(|command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            (command.get_name().to_owned(), first_line(&about))
        })
        .collect()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
