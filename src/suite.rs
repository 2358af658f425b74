//! What makes a benchmark: the one trait that a new one implements.

mod codecontests;
mod humaneval;
mod mbpp;
mod micro;
mod plus;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dataset::{DatasetError, Source};
use crate::prompt::{Format, HUMANEVAL_STOPS};
use crate::task::Task;
pub use codecontests::CodeContests;
pub use humaneval::HumanEval;
pub use mbpp::{Mbpp, MbppSanitized};
pub use micro::Micro;
pub use plus::{HumanEvalPlus, MbppPlus};

/// A part of a dataset.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Its name for `--split`.
    pub name: &'static str,
    /// Whether it holds the task of this id.
    pub holds: fn(&str) -> bool,
}

/// A benchmark. Only its name and its tasks must be given; the rest is HumanEval's protocol.
pub trait Suite: Sync {
    /// Names the dataset in records, snapshots and folders.
    fn name(&self) -> &str;

    /// Every task, in the dataset's order.
    ///
    /// # Errors
    /// The rows are not there, or one of them is broken.
    fn tasks(&self, storage: &Path) -> Result<Vec<Task>, DatasetError>;

    /// Prompt formats that fit this benchmark, the default first.
    fn formats(&self) -> &[Format] {
        &[Format::Raw]
    }

    /// The strings before which a completion is cut, in formats that have none of their own.
    fn stops(&self) -> Vec<String> {
        HUMANEVAL_STOPS.map(str::to_owned).to_vec()
    }

    /// Lists of stops that have names of their own for `--stops`.
    fn named_stops(&self) -> Vec<(&'static str, Vec<String>)> {
        Vec::new()
    }

    /// The parts of the dataset that can be asked for, the default first; none where it is not parted.
    fn splits(&self) -> &[Split] {
        &[]
    }

    /// Ids of the solved tasks that [`Format::FewShot`] shows.
    fn shots(&self) -> &[&str] {
        &[]
    }

    /// At most so many tasks are asked, drawn by a stable hash of their ids.
    fn most_tasks(&self) -> Option<usize> {
        None
    }

    /// The suite that `--plus` asks instead: the same benchmark with more tests, as a second bar.
    fn plus(&self) -> Option<&dyn Suite> {
        None
    }

    /// Whether every solution of the dataset's own is known to pass. If so that is a test case of its own, and seen to
    /// before anything is evaluated.
    fn self_check(&self) -> bool {
        false
    }

    /// CPU time a program may use, unless `--timeout` says otherwise.
    fn cpu_limit(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// The folder that `--pipeline` looks in.
    fn checkpoints(&self, storage: &Path) -> PathBuf {
        storage.join("checkpoints")
    }

    /// The pipeline that is judged when nothing else is asked for.
    fn default_pipeline(&self) -> Option<&str> {
        None
    }
}

/// The benchmarks that `passk evaluate --dataset` knows.
pub const SUITES: [&dyn Suite; 7] =
    [&HumanEval, &HumanEvalPlus, &Mbpp, &MbppSanitized, &MbppPlus, &CodeContests, &Micro];

/// The datasets that `passk fetch` knows.
pub const SOURCES: [Source; 6] =
    [humaneval::SOURCE, plus::HUMANEVAL, mbpp::SOURCE, mbpp::SANITIZED, plus::MBPP, codecontests::SOURCE];
