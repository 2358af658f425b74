//! The front that is a test harness: every problem is a libtest-mimic trial.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser};
use libtest_mimic::{Arguments, ColorSetting, Completion, Trial};

use super::contest::{self, Contest, test_name};
use super::entry::End;
use super::{RunnerError, Selection, ceiling, protocol, say, screen};
use crate::args::{EvaluateArgs, Settings, with_twins};
use crate::dataset::DatasetError;
use crate::jail;
use crate::suite::Suite;
use crate::task::Task;

/// Our flags beside libtest's own.
#[derive(Parser)]
struct HarnessArgs {
    #[command(flatten)]
    libtest: Arguments,
    #[command(flatten)]
    evaluate: EvaluateArgs,
}

/// The `main` of a harness target: reads the command line, runs the suite, prints as libtest does.
///
/// Called by [`main!`](crate::main).
pub fn harness(suite: &dyn Suite) -> ExitCode {
    jail::host();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let (args, libtest, selection) = parse(&argv);
    match run(suite, args, libtest, selection, &argv) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// libtest-mimic's own parser takes one filter; libtest takes several, and calls a flag `--no-capture` too.
fn parse(argv: &[OsString]) -> (EvaluateArgs, Arguments, Selection) {
    let command = with_twins(HarnessArgs::command(), argv)
        .help_template("{usage-heading} {usage}\n\n{all-args}\n\n{after-help}")
        .override_usage("cargo test --test NAME -- [OPTIONS] [FILTER]...")
        .after_help(
            "Every evaluation flag has an environment twin: --num-samples is PASSK_NUM_SAMPLES; an empty one counts as unset.\n\
             A FILTER that is a complete task id is exact: HumanEval/3 is one problem.",
        )
        .mut_arg("nocapture", |arg| arg.alias("no-capture"))
        .mut_arg("filter", |arg| {
            arg.num_args(0..)
                .action(clap::ArgAction::Append)
                .help("Only problems whose names contain one of these; a complete task id is exact")
        });
    let mut matches = command.get_matches_from(argv);
    let filters = matches.remove_many::<String>("filter").map(Iterator::collect).unwrap_or_default();
    let args = HarnessArgs::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let selection = Selection { filters, skip: args.libtest.skip.clone(), exact: args.libtest.exact };
    (args.evaluate, args.libtest, selection)
}

fn run(
    suite: &dyn Suite,
    args: EvaluateArgs,
    libtest: Arguments,
    selection: Selection,
    argv: &[OsString],
) -> Result<ExitCode, RunnerError> {
    let settings = args.resolve()?;
    let suite = protocol::asked(suite, &settings)?;
    let labels = contest::labels(suite, &settings)?;
    let tasks = match protocol::tasks(suite, &settings) {
        Err(RunnerError::Dataset(error @ DatasetError::NotFetched { .. })) if labels.is_empty() => {
            say::line(&error.to_string());
            Vec::new()
        }
        tasks => tasks?,
    };
    // `--ignored` and `--bench` select none of our tests: nothing must be sampled for them either.
    if labels.is_empty() || libtest.list || libtest.ignored || libtest.bench {
        return list(suite, &settings, tasks, &labels, libtest, &selection);
    }
    let mut names = cases(&tasks, &labels).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let checks_itself = suite.self_check() && selection.wants(ceiling::NAME, ceiling::NAME, &HashSet::new());
    let contest = Contest::prepare(suite, settings, tasks, &selection, &say::again(&rerun(argv)))?;
    if contest.is_empty() && !checks_itself {
        say::line(&selection.nothing(suite));
    }
    let mut trials = Vec::new();
    let mut selected = HashSet::new();
    for (entry, task) in contest.selected() {
        let name = contest.name(entry, task);
        let shared = Arc::clone(&contest);
        selected.insert(name.clone());
        trials.push(Trial::test(name, move || {
            Ok(shared.outcome(entry, task).map(drop).map_err(|why| why.to_string())?)
        }));
    }
    // The others are there to be counted as filtered out.
    trials.extend(names.iter().filter(|name| !selected.contains(*name)).map(|name| Trial::test(name, || Ok(()))));
    if suite.self_check() {
        names.push(ceiling::NAME.to_owned());
        let shared = Arc::clone(&contest);
        trials.push(Trial::test(ceiling::NAME, move || Ok(shared.check_itself()?)));
        if checks_itself {
            selected.insert(ceiling::NAME.to_owned());
        }
    }
    let worker = contest.start()?;
    let through = screen::Through::begin();
    let mut arguments = filtered(libtest, names, &selected);
    // What goes to a terminal by a detour is coloured all the same.
    if through.is_some() && std::env::var_os("NO_COLOR").is_none() {
        arguments.color = arguments.color.or(Some(ColorSetting::Always));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(through);
    match contest.finish(worker) {
        End::Held => Ok(conclusion.exit_code()),
        End::Regressed | End::Broken => Ok(ExitCode::from(101)),
    }
}

/// Lists the tests; without a checkpoint they are all there, ignored for that reason, but for the self-check.
fn list(
    suite: &dyn Suite,
    settings: &Settings,
    tasks: Vec<Task>,
    labels: &[String],
    libtest: Arguments,
    selection: &Selection,
) -> Result<ExitCode, RunnerError> {
    const REASON: &str = "no checkpoint: give --checkpoint, --pipeline or --samples";
    let cases = cases(&tasks, labels);
    let whole: HashSet<&str> = cases.iter().flat_map(|(name, id)| [name.as_str(), id]).collect();
    let wanted = |(name, id): &&(String, &str)| selection.wants(name, id, &whole);
    let mut selected: HashSet<String> = cases.iter().filter(wanted).map(|(name, _)| name.clone()).collect();
    // A trial with libtest's own mark is ignored without a word; one that decides when it is run can say why.
    let mark = labels.is_empty() && (libtest.list || libtest.ignored);
    let mut names: Vec<String> = cases.into_iter().map(|(name, _)| name).collect();
    let trial = |name: &String| {
        Trial::ignorable_test(name.clone(), || Ok(Completion::ignored_with(REASON))).with_ignored_flag(mark)
    };
    let mut trials: Vec<Trial> = names.iter().map(trial).collect();
    if suite.self_check() && !tasks.is_empty() && !libtest.ignored {
        let wanted = selection.wants(ceiling::NAME, ceiling::NAME, &HashSet::new());
        let listed = libtest.list || !wanted || libtest.bench;
        let judge = if listed { None } else { Some(contest::judge(suite, settings)?) };
        let (dataset, storage) = (suite.name().to_owned(), settings.storage.clone());
        trials.push(Trial::test(ceiling::NAME, move || match judge {
            Some(judge) => Ok(contest::check_itself(&judge, &tasks, &dataset, &storage)?),
            None => Ok(()),
        }));
        names.push(ceiling::NAME.to_owned());
        if wanted {
            selected.insert(ceiling::NAME.to_owned());
        }
    }
    let libtest = Arguments { include_ignored: true, ..filtered(libtest, names, &selected) };
    Ok(libtest_mimic::run(&libtest, trials).exit_code())
}

/// Name and task id of every test case, in order.
fn cases<'a>(tasks: &'a [Task], labels: &[String]) -> Vec<(String, &'a str)> {
    let ids = tasks.iter().map(|task| task.id.as_str());
    match labels {
        [] => ids.map(|id| (id.to_owned(), id)).collect(),
        labels => {
            labels.iter().flat_map(|label| ids.clone().map(|id| (test_name(label, id, labels.len() > 1), id))).collect()
        }
    }
}

/// Arguments that make libtest-mimic select exactly `selected`: our rules are richer than its own.
fn filtered(libtest: Arguments, names: Vec<String>, selected: &HashSet<String>) -> Arguments {
    let skip = names.into_iter().filter(|name| !selected.contains(name)).collect();
    Arguments { filter: None, exact: true, skip, ..libtest }
}

/// `cargo test --test micro --` for `…/deps/micro-0123456789abcdef`.
fn rerun(argv: &[OsString]) -> String {
    let program =
        argv.first().map(Path::new).and_then(Path::file_stem).unwrap_or_default().to_string_lossy().into_owned();
    match program.rsplit_once('-') {
        Some((target, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            format!("cargo test --test {target} --")
        }
        _ => program,
    }
}
