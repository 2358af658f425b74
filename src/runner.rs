//! The only place where all parts meet: tasks are sampled, judged, recorded, and compared with what was accepted.
//!
//! Two fronts share it: [`harness()`], where every problem is a libtest-mimic test case, and [`evaluate`].

mod board;
mod ceiling;
mod contest;
mod entry;
mod harness;
mod interrupt;
mod judge;
mod say;
mod tracking;

use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use crate::args::{ArgsError, Settings};
use crate::checkpoint::CheckpointError;
use crate::dataset::DatasetError;
use crate::jail::JailError;
use crate::journal::JournalError;
use crate::model::ConfigError;
use crate::sampler::saved::SavedError;
use crate::snapshot::SnapshotError;
use crate::suite::Suite;
use crate::tokenizer::TokenizerError;
use contest::Contest;
pub use harness::harness;

/// Why an evaluation could not begin. One line: what, where, and the remedy.
#[derive(Debug, Error)]
#[allow(missing_docs)] // each is the error of the part it is named after
pub enum RunnerError {
    #[error(transparent)]
    Args(#[from] ArgsError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Flags and data do not fit each other.
    #[error("{0}")]
    Misfit(String),
    /// The system lets us start none.
    #[error("failed to start a thread: {0}")]
    Thread(std::io::Error),
    /// A file cannot be read or written.
    #[error("failed to {verb} `{}`: {source}", path.display())]
    Io { verb: &'static str, path: PathBuf, source: std::io::Error },
}

/// Which problems are wanted, by the rules of libtest with one addition: a filter that is a complete task id, or a
/// complete test name, is exact.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Wanted are those that match one of these; all, if there is none.
    pub filters: Vec<String>,
    /// But none that matches one of these.
    pub skip: Vec<String>,
    /// Whole names instead of parts of them.
    pub exact: bool,
}

impl Selection {
    /// What to say when nothing is selected.
    fn nothing(&self, suite: &dyn Suite) -> String {
        match self.filters.is_empty() {
            true => format!("every task of `{}` is skipped", suite.name()),
            false => format!("no task of `{}` matches {}", suite.name(), self.filters.join(" ")),
        }
    }
}

/// Evaluates without a test harness around it: progress and summary on stderr, the same records.
///
/// # Errors
/// [`RunnerError`] before anything ran. A failed problem shows in the exit status.
pub fn evaluate(suite: &dyn Suite, settings: Settings, selection: &Selection) -> Result<ExitCode, RunnerError> {
    let suite = contest::asked(suite, &settings)?;
    let tasks = contest::tasks(suite, &settings)?;
    let contest =
        Contest::prepare(suite, settings, tasks, selection, &say::again(&std::env::args().next().unwrap_or_default()))?;
    if contest.is_empty() {
        return Err(RunnerError::Misfit(selection.nothing(suite)));
    }
    let worker = contest.start()?;
    let mut failed = 0;
    for (at, (entry, task)) in contest.selected().enumerate() {
        let outcome = contest.outcome(entry, task);
        failed += usize::from(outcome.is_err());
        say::progress(at + 1, contest.len(), &contest.name(entry, task), &outcome);
    }
    let complete = contest.finish(worker);
    Ok(if failed == 0 && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
