//! Where completions come from.
//!
//! One row, one result: a sample is a pure function of (weights, device kind, dtype, prompt, sampling settings, task
//! id, sample index). Batch size, order, filters, threads, resuming and n never change one token of it.

pub mod backend;
pub mod engine;
mod lane;
pub mod noise;
pub mod nucleus;
pub mod saved;
mod sequence;
mod speculate;
mod stop;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{ConfigError, ModelError};
use crate::prompt::Prompt;
use crate::task::TaskId;
use crate::tokenizer::TokenizerError;

/// How tokens are chosen. Every field changes samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Mass of the nucleus, in (0, 1] (Holtzman et al. 2020, arXiv 1904.09751).
    pub top_p: f64,
    /// Most tokens in a completion.
    pub max_tokens: usize,
    /// Selects the noise.
    pub seed: u64,
}

/// Samples wanted of one task.
#[derive(Clone, Debug)]
pub struct Request {
    /// The task.
    pub task: TaskId,
    /// What is to be continued.
    pub prompt: Prompt,
    /// Which samples: a resumed run asks only for what it lacks.
    pub indices: Vec<u32>,
}

/// One finished completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The task.
    pub task: TaskId,
    /// Which of its samples.
    pub index: u32,
    /// The text, cut before the earliest stop string.
    pub completion: String,
    /// Tokens sampled, the one that ended the completion included; `None` when they were not sampled here.
    pub tokens: Option<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model said so.
    Eos,
    /// A stop string appeared.
    Stop,
    /// `max_tokens` was reached.
    Length,
    /// The model's context was full.
    Context,
    /// It was read from a file, as it stands.
    Given,
}

impl Finish {
    /// Whether the model had more to say.
    pub fn truncated(self) -> bool {
        matches!(self, Finish::Length | Finish::Context)
    }
}

/// Why sampling failed. Never a verdict on the model's answers.
#[derive(Debug, Error)]
pub enum SamplerError {
    /// The model could not be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's folder is missing or broken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's output is not a number.
    #[error("logits of `{task}` sample {index} hold NaN or infinity at position {position}: the weights are broken")]
    NotFinite {
        /// The task.
        task: TaskId,
        /// The sample.
        index: u32,
        /// The position.
        position: usize,
    },
    /// A prompt that leaves no room for an answer.
    #[error(
        "the prompt of `{task}` has {tokens} tokens, which must be at least 1 and leave room in the model's context of {context}: leave the task out with --skip"
    )]
    PromptTooLong {
        /// The task.
        task: TaskId,
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's max_seq_len.
        context: usize,
    },
    /// Whoever takes the samples has given up.
    #[error("judging stopped")]
    Stopped,
}

/// A source of completions.
pub trait Sampler: Send {
    /// Makes every sample of `requests`, in their order as far as the engine allows, and hands each to `done` as soon
    /// as it is finished. `done` returns false to stop.
    ///
    /// # Errors
    /// What the sampler could not do; samples handed over before stay good.
    fn sample(&mut self, requests: &[Request], done: &mut dyn FnMut(Sample) -> bool) -> Result<(), SamplerError>;

    /// How drafts of the model's extra heads fared, for a sampler that has them.
    fn speculation(&self) -> engine::Speculation {
        engine::Speculation::default()
    }
}
