//! What the settings ask of a suite: which of its bars, which of its tasks, shown how, cut where.

use std::collections::HashSet;

use super::RunnerError;
use crate::args::Settings;
use crate::prompt::Format;
use crate::suite::{Split, Suite};
use crate::task::Task;

/// The suite that is asked: with `--plus` the one that has the plus tests.
pub(super) fn asked<'a>(suite: &'a dyn Suite, settings: &Settings) -> Result<&'a dyn Suite, RunnerError> {
    match settings.plus {
        false => Ok(suite),
        true => suite.plus().ok_or_else(|| {
            RunnerError::Misfit(format!("`{}` has no plus tests: --plus goes with humaneval and mbpp", suite.name()))
        }),
    }
}

/// The part of the dataset that is asked, `None` where it is not parted.
pub(super) fn split(suite: &dyn Suite, settings: &Settings) -> Result<Option<Split>, RunnerError> {
    let splits = suite.splits();
    let Some(asked) = &settings.split else { return Ok(splits.first().copied()) };
    let names: Vec<&str> = splits.iter().map(|split| split.name).collect();
    let found = splits.iter().find(|split| split.name == asked).copied();
    found.map(Some).ok_or_else(|| {
        RunnerError::Misfit(match names.is_empty() {
            true => format!("`{}` is not parted into splits: leave --split away", suite.name()),
            false => format!("unknown split `{asked}`: `{}` has {}", suite.name(), names.join(", ")),
        })
    })
}

/// The tasks of a suite's split, at most `--max-tasks` of them: those whose ids hash lowest, the same for everyone, for
/// ever.
pub(super) fn tasks(suite: &dyn Suite, settings: &Settings) -> Result<Vec<Task>, RunnerError> {
    let mut tasks = suite.tasks(&settings.storage)?;
    let mut seen = HashSet::new();
    if let Some(twice) = tasks.iter().find(|task| !seen.insert(&task.id)) {
        return Err(RunnerError::Misfit(format!("suite `{}` has two tasks `{}`", suite.name(), twice.id)));
    }
    if let Some(split) = split(suite, settings)? {
        tasks.retain(|task| (split.holds)(task.id.as_str()));
        if tasks.is_empty() {
            return Err(RunnerError::Misfit(format!("no task of `{}` is in its split `{}`", suite.name(), split.name)));
        }
    }
    if let Some(most) = [settings.max_tasks, suite.most_tasks()].into_iter().flatten().min() {
        let hash = |task: &Task| *blake3::hash(task.id.as_str().as_bytes()).as_bytes();
        let mut hashes: Vec<_> = tasks.iter().map(hash).collect();
        hashes.sort_unstable();
        let kept: HashSet<_> = hashes.into_iter().take(most).collect();
        tasks.retain(|task| kept.contains(&hash(task)));
    }
    Ok(tasks)
}

/// The format that was asked for, or the suite's first.
pub(super) fn format(asked: Option<&str>, offered: &[Format]) -> Result<Format, RunnerError> {
    let names: Vec<&str> = offered.iter().map(|format| format.name()).collect();
    let found = match asked {
        Some(asked) => offered.iter().find(|format| format.name() == asked),
        None => offered.first(),
    };
    found.copied().ok_or_else(|| {
        let asked = asked.unwrap_or_default();
        RunnerError::Misfit(format!("unknown prompt format `{asked}`: this suite has {}", names.join(", ")))
    })
}

/// Where completions are cut: the format's own list, the one that was asked for, or the suite's.
pub(super) fn stops(suite: &dyn Suite, format: Format, asked: Option<&str>) -> Result<Vec<String>, RunnerError> {
    let named = suite.named_stops();
    match (asked, format.own_stops()) {
        (None, Some(own)) => Ok(own.iter().map(|&stop| stop.to_owned()).collect()),
        (None, None) => Ok(suite.stops()),
        (Some(name), _) => {
            let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
            let found = named.iter().find(|(other, _)| *other == name).map(|(_, stops)| stops.clone());
            found.ok_or_else(|| {
                let names = if names.is_empty() { "none by name".to_owned() } else { names.join(", ") };
                RunnerError::Misfit(format!("unknown list of stops `{name}`: `{}` has {names}", suite.name()))
            })
        }
    }
}

/// The solved tasks that the format shows, whatever split is asked.
pub(super) fn shots(suite: &dyn Suite, format: Format, settings: &Settings) -> Result<Vec<Task>, RunnerError> {
    if format != Format::FewShot {
        return Ok(Vec::new());
    }
    let all = suite.tasks(&settings.storage)?;
    let find = |id: &&str| {
        let found = all.iter().find(|task| task.id.as_str() == *id && task.canonical.is_some());
        found.cloned().ok_or_else(|| {
            let name = suite.name();
            RunnerError::Misfit(format!(
                "the shots need task `{id}` with its solution, and `{name}` here lacks it: passk fetch {name}"
            ))
        })
    };
    suite.shots().iter().map(find).collect()
}
