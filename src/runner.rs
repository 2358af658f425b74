//! The only place where all parts meet: tasks are sampled, judged, recorded, and compared with what was accepted.
//!
//! Two fronts share it: [`harness()`], where every problem is a libtest-mimic test case, and [`evaluate`].

mod board;
mod ceiling;
mod contest;
mod duplicates;
mod entry;
mod gate;
mod harness;
mod interrupt;
mod judge;
mod junit;
mod opened;
mod protocol;
mod say;
mod screen;
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
use crate::sampler::SamplerError;
use crate::sampler::saved::SavedError;
use crate::snapshot::SnapshotError;
use crate::suite::Suite;
use crate::tokenizer::TokenizerError;
use contest::Contest;
use entry::{End, Trouble};
pub use harness::harness;
pub use say::hashing;

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
    Sampler(#[from] SamplerError),
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
/// The exit status is 0 when everything was judged and no gate failed, 1 when a gate failed, and 3 when something could
/// not be judged or written. (`cargo test` has 101 for both, and `passk` 2 for what could not begin.)
///
/// # Errors
/// [`RunnerError`] before anything ran.
pub fn evaluate(suite: &dyn Suite, settings: Settings, selection: &Selection) -> Result<ExitCode, RunnerError> {
    let suite = protocol::asked(suite, &settings)?;
    let tasks = protocol::tasks(suite, &settings)?;
    let contest =
        Contest::prepare(suite, settings, tasks, selection, &say::again(&std::env::args().next().unwrap_or_default()))?;
    if contest.is_empty() {
        return Err(RunnerError::Misfit(selection.nothing(suite)));
    }
    if contest.settings.sample_only {
        return contest.sample_only().map(|()| ExitCode::SUCCESS);
    }
    let worker = contest.start()?;
    let mut moved = false;
    for (at, (entry, task)) in contest.selected().enumerate() {
        let outcome = contest.outcome(entry, task);
        moved |= matches!(outcome, Err(Trouble::Moved(_)));
        say::progress(at + 1, contest.len(), &contest.name(entry, task), &outcome);
    }
    Ok(match contest.finish(worker) {
        End::Held if !moved => ExitCode::SUCCESS,
        End::Held | End::Regressed => ExitCode::from(1),
        End::Broken => ExitCode::from(3),
    })
}
