//! What can be wrong with a checkpoint.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be found, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no such file.
    #[error("failed to find the checkpoint `{}`: {found}", path.display())]
    NotFound {
        /// What was asked for; its last part may be a pattern.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// There is no such folder of checkpoints.
    #[error("unknown pipeline `{pipeline}`: {found}")]
    UnknownPipeline {
        /// What was asked for.
        pipeline: String,
        /// What is there instead.
        found: String,
    },
    /// A pattern that is no glob.
    #[error("failed to read the pattern `{pattern}`: {cause}")]
    Pattern {
        /// What was asked for.
        pattern: String,
        /// What is wrong with it.
        cause: glob::PatternError,
    },
    /// A folder without the weights of a model.
    #[error("no weights in model folder `{}`: it has none of {}", path.display(), looked_for.join(", "))]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// Files that would have been read.
        looked_for: &'static [&'static str],
    },
    /// Low-rank changes without what tells how strong they are.
    #[error("failed to use `{}`: it has low-rank changes but no lora_config.{what}: give it with {flag}", path.display())]
    LoraConfig {
        /// The file.
        path: PathBuf,
        /// rank or alpha.
        what: &'static str,
        /// The flag that gives it.
        flag: &'static str,
    },
    /// The file is not a checkpoint, is damaged, or holds what passk does not read.
    #[error("failed to read `{}`: {trouble}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        trouble: String,
    },
    /// The weights are not those of the model.
    #[error("failed to use `{}`: its weights are not those of the model; {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// How they differ.
        mismatch: Box<Mismatch>,
    },
}

/// How a checkpoint's tensors differ from those of a model.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Names the model has and the checkpoint has not.
    pub missing: Vec<String>,
    /// Names the checkpoint has and the model has not.
    pub unexpected: Vec<String>,
    /// Names both have, with the two shapes.
    pub misshapen: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("missing", &self.missing), ("unexpected", &self.unexpected), ("misshapen", &self.misshapen)];
        let mut separator = "";
        for (what, names) in parts.into_iter().filter(|(_, names)| !names.is_empty()) {
            let first: Vec<&str> = names.iter().map(String::as_str).take(3).collect();
            let dots = if names.len() > first.len() { ", …" } else { "" };
            write!(f, "{separator}{} {what}: {}{dots}", names.len(), first.join(", "))?;
            separator = "; ";
        }
        Ok(())
    }
}

/// What is wrong with a file; the boundary adds which file.
#[derive(Debug)]
pub(super) struct Trouble(String);

impl Trouble {
    /// Says which part of the file has the trouble.
    pub(super) fn of(self, part: &str) -> Self {
        Self(format!("{part}: {}", self.0))
    }
}

impl<T: ToString> From<T> for Trouble {
    fn from(cause: T) -> Self {
        Self(cause.to_string())
    }
}

pub(super) fn unreadable(path: &Path, trouble: Trouble) -> CheckpointError {
    CheckpointError::Unreadable { path: path.to_owned(), trouble: trouble.0 }
}
