//! What the model is shown, and where its answer ends.

use crate::task::Task;

/// A text to be continued, and the strings at which the continuation is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Encoded as it is, byte for byte.
    pub text: String,
    /// The completion ends before the earliest of these; the prompt is never searched.
    pub stop: Vec<String>,
}

/// How a task becomes a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The dataset's own prompt and nothing else.
    Raw,
}

impl Format {
    /// The name that `--prompt-format` takes and records keep.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
        }
    }

    /// Writes the prompt of `task`.
    pub fn prompt(self, task: &Task, stop: &[String]) -> Prompt {
        match self {
            Format::Raw => Prompt { text: task.prompt.clone(), stop: stop.to_vec() },
        }
    }
}

/// The stop strings of Chen et al. 2021 (arXiv 2107.03374, section 2.2).
pub const HUMANEVAL_STOPS: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];
