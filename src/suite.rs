//! What makes a benchmark: the one trait that a new one implements.

mod humaneval;
mod micro;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dataset::{DatasetError, Source};
use crate::prompt::{Format, HUMANEVAL_STOPS};
use crate::task::Task;
pub use humaneval::HumanEval;
pub use micro::Micro;

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

    /// The strings before which a completion is cut.
    fn stops(&self) -> Vec<String> {
        HUMANEVAL_STOPS.map(str::to_owned).to_vec()
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
pub const SUITES: [&dyn Suite; 2] = [&HumanEval, &Micro];

/// The datasets that `passk fetch` knows.
pub const SOURCES: [Source; 1] = [humaneval::SOURCE];
