//! Completion in shells. kubectl calls the plugin by a second name, with the words that follow `kubectl berth`, of which the
//! last is unfinished; the answer is cobra's: a candidate a line, its description after a tab, at the end whether file
//! names would do.

use std::{ffi::OsStr, fmt::Write as _, path::Path};

use clap::{Arg, Command, ValueHint};

/// The name by which kubectl asks.
const NAME: &str = "kubectl_complete-berth";

/// Ends an answer: file names would do, or would not.
const FILES: &str = ":0";
const NO_FILES: &str = ":4";

/// Whether a program that was started under this name is asked for candidates.
pub(crate) fn is_asked(program: Option<&OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some(OsStr::new(NAME))
}

/// The answer.
pub(crate) fn complete(mut command: Command, words: &[String]) -> String {
    command.build();
    let (unfinished, finished) = words.split_last().map_or(("", words), |(last, rest)| (last.as_str(), rest));
    let mut here = &command;
    for word in finished {
        here = here.find_subcommand(word).unwrap_or(here);
    }
    let awaited = finished.last().and_then(|word| here.get_arguments().find(|arg| takes(arg, word)));
    let (candidates, end) = match awaited {
        Some(arg) => (values(arg), if is_file(arg) { FILES } else { NO_FILES }),
        None if unfinished.starts_with('-') => (flags(here), NO_FILES),
        None => (subcommands(here), NO_FILES),
    };
    let mut answer = String::new();
    for (candidate, about) in
        candidates.into_iter().filter(|(candidate, _)| candidate.starts_with(unfinished))
    {
        let _ = writeln!(answer, "{candidate}\t{about}");
    }
    answer + end + "\n"
}

/// Whether a word is the flag and the next one its value.
fn takes(arg: &Arg, word: &str) -> bool {
    let is_it = |name: &str| arg.get_long() == Some(name);
    let short = |name: &str| arg.get_short().is_some_and(|short| name.chars().eq([short]));
    let named = match word.strip_prefix("--") {
        Some(name) => is_it(name),
        None => word.strip_prefix('-').is_some_and(short),
    };
    named && arg.get_action().takes_values()
}

fn is_file(arg: &Arg) -> bool {
    matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath)
        || arg.get_value_names().into_iter().flatten().any(|name| name.starts_with("FILE"))
}

fn values(arg: &Arg) -> Vec<(String, String)> {
    let values = arg.get_possible_values();
    values.iter().map(|value| (value.get_name().to_owned(), text(value.get_help()))).collect()
}

fn flags(command: &Command) -> Vec<(String, String)> {
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    flags.filter_map(|arg| Some((format!("--{}", arg.get_long()?), text(arg.get_help())))).collect()
}

fn subcommands(command: &Command) -> Vec<(String, String)> {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    commands.map(|command| (command.get_name().to_owned(), text(command.get_about()))).collect()
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[""], &["images", "policy", "verify", "why"], NO_FILES)]
    #[case(&["ver"], &["verify"], NO_FILES)]
    #[case(&["policy", ""], &["test"], NO_FILES)]
    #[case(&["policy", "test", "--fi"], &["--filename"], NO_FILES)]
    #[case(&["policy", "test", "-f", ""], &[], FILES)]
    #[case(&["images", "-o", "w"], &["wide"], NO_FILES)]
    #[case(&["images", "--output", ""], &["json", "wide", "yaml"], NO_FILES)]
    #[case(&["images", "--all"], &["--all-namespaces"], NO_FILES)]
    #[case(&["images", "-n", ""], &[], NO_FILES)]
    fn candidates(#[case] words: &[&str], #[case] expected: &[&str], #[case] end: &str) {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let answer = complete(crate::cli::command(), &words);
        let mut lines: Vec<_> = answer.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(lines.pop(), Some(end));
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }

    #[test]
    fn it_is_asked_by_its_second_name() {
        assert!(is_asked(Some(OsStr::new("/usr/bin/kubectl_complete-berth"))));
        assert!(!is_asked(Some(OsStr::new("kubectl-berth"))) && !is_asked(None));
    }
}
