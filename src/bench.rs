//! `passk bench gpu`: what only a GPU can prove, by one command, with weights that are made on it.
//!
//! 1. *Agreement*: logits of a small random model in every type, beside the CPU engine's in f32.
//! 2. *One row, one result*: its samples in several batches and ways of decoding, which must be equal.
//! 3. *Replaying*: decode steps of few sequences with and without it, on a model of the size that is evaluated.
//! 4. *Speed*: HumanEval's prompts on that model, with completions of fixed lengths.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use serde::Serialize;
use thiserror::Error;

use crate::dataset::DatasetError;
use crate::model::device::{self, Dtype, Replays};
use crate::model::{Config, ConfigError, Heads, Model, ModelError, Picked, Row, Span};
use crate::prompt::Prompt;
use crate::sampler::engine::{Decode, Engine, Options};
use crate::sampler::{Request, Sample, Sampler, SamplerError, Sampling};
use crate::suite::{HumanEval, Suite};
use crate::task::Task;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// What is measured, and on what.
pub struct Setup {
    /// Where models run.
    pub device: Device,
    /// What it is.
    pub kind: String,
    /// Types that are held against the CPU.
    pub dtypes: Vec<Dtype>,
    /// Shape of the model whose speed is measured.
    pub large: Config,
    /// Its type.
    pub dtype: Dtype,
    /// Sequences of the decode steps that are measured with and without replaying.
    pub steps: Vec<usize>,
    /// Lengths of completions, in tokens.
    pub lengths: Vec<usize>,
    /// Sequences at once, at most.
    pub batch: usize,
    /// Samples of each prompt.
    pub samples: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The device.
    pub device: String,
    /// Largest difference of a logit from the CPU's in f32, over the largest logit; by type.
    pub agreement: BTreeMap<String, f64>,
    /// Whether the samples of every batch and way of decoding were equal, replayed and not; by type.
    pub one_row_one_result: BTreeMap<String, bool>,
    /// What became of replaying there; by type.
    pub replays: BTreeMap<String, Replays>,
    /// By sequences.
    pub steps: Vec<Step>,
    /// By length.
    pub speed: Vec<Speed>,
}

/// How long a decode step takes, from tokens to the tokens that follow.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Sequences, one row each.
    pub sequences: usize,
    /// Mean time of its launches one by one.
    pub seconds: f64,
    /// Mean time of it replayed.
    pub replayed_seconds: f64,
    /// How many times as fast it is replayed.
    pub ratio: f64,
    /// Whether the last logits of both are the same bits.
    pub equal: bool,
    /// What became of replaying.
    pub replays: Replays,
}

/// How long sampling took.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// Parameters of the model.
    pub parameters: u64,
    /// Type of its weights.
    pub dtype: String,
    /// Prompts, and samples of each.
    pub prompts: usize,
    /// Samples of each prompt.
    pub samples: u32,
    /// Mean tokens of a prompt.
    pub mean_prompt_tokens: f64,
    /// Mean tokens of a completion.
    pub mean_completion_tokens: f64,
    /// Sequences at once.
    pub batch: usize,
    /// From the first prompt to the last token.
    pub seconds: f64,
    /// Completion tokens in a second.
    pub tokens_per_second: f64,
    /// Bytes of keys and values.
    pub cache_bytes: usize,
}

impl Outcome {
    /// Whether all types agree within their precision (f32 1e-4, 16 bits 2e-2), and neither a sample nor a logit
    /// depends on its company or on replaying.
    pub fn holds(&self) -> bool {
        let near = |(dtype, &off): (&String, &f64)| off <= if dtype == "f32" { 1e-4 } else { 2e-2 };
        let equal = self.one_row_one_result.values().copied().chain(self.steps.iter().map(|step| step.equal));
        self.agreement.iter().all(near) && equal.into_iter().all(|equal| equal)
    }
}

/// Why a benchmark could not run.
#[derive(Debug, Error)]
#[allow(missing_docs)] // each is the error of the part it is named after
pub enum BenchError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// The model that is evaluated: Meta's multi-token-prediction 7B, 6.7 B parameters (arXiv 2404.19737).
pub fn large() -> Config {
    Config {
        dim: 4096,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: 32,
        vocab_size: 32000,
        hidden_dim: 11008,
        norm_eps: 1e-5,
        n_future_tokens: 4,
        rope_theta: 10_000.0,
        rope_scaling: Default::default(),
        tied_output: false,
        max_seq_len: 4096,
    }
}

/// Runs all of it; `say` is told each result as it comes. Prompts are HumanEval's, in the tokens of the micro model,
/// both under `storage`.
///
/// # Errors
/// HumanEval was not fetched, the micro model is not there, or the device fails.
pub fn gpu(setup: &Setup, storage: &Path, say: &mut dyn FnMut(&str)) -> Result<Outcome, BenchError> {
    let folder = storage.join("micro/models/micro-mtp");
    let tasks = HumanEval.tasks(storage)?;
    let micro = Config::from_folder(&folder)?;
    let small = Config { dim: 512, n_layers: 6, n_heads: 8, n_kv_heads: 4, hidden_dim: 1024, ..micro };
    let mut outcome = Outcome {
        device: setup.kind.clone(),
        agreement: BTreeMap::new(),
        one_row_one_result: BTreeMap::new(),
        replays: BTreeMap::new(),
        steps: Vec::new(),
        speed: Vec::new(),
    };
    let ids: Vec<u32> = (0..300).map(|i| (i * 31 + 7) % small.vocab_size as u32).collect();
    let reference = Model::random(small.clone(), Heads::All, 1)?.all_logits(&ids)?;
    for &dtype in &setup.dtypes {
        let model = device::Model::random(small.clone(), Heads::All, 1, setup.device.clone(), dtype.into())?;
        let off = difference(&reference, &model.all_logits(&ids)?);
        say(&format!("{dtype}: logits are within {off:.1e} of the CPU's"));
        outcome.agreement.insert(dtype.to_string(), off);
        let (mut models, mut first, mut equal) = (vec![model], None, true);
        for replaying in [false, true] {
            models = models.into_iter().map(|model| model.replaying(replaying)).collect();
            for (batch, decode) in [
                (1, Decode::Plain),
                (7, Decode::Plain),
                (200, Decode::Plain),
                (5, Decode::Speculative),
                (64, Decode::Auto),
            ] {
                let sampling = Sampling { temperature: 0.8, top_p: 0.95, max_tokens: 32, seed: 0 };
                let options = Options { batch, decode, lanes: None };
                let mut engine = Engine::of(models, Tokenizer::from_folder(&folder)?, sampling, options);
                let requests = requests(&tasks[..tasks.len().min(12)], 5);
                let samples = samples(&mut engine, &requests)?;
                equal &= first.get_or_insert_with(|| samples.clone()) == &samples;
                models = engine.into_models();
            }
        }
        let which = if equal { "do not depend" } else { "DEPEND" };
        say(&format!("{dtype}: samples {which} on batch, decoding and replaying"));
        outcome.one_row_one_result.insert(dtype.to_string(), equal);
        for replays in models.iter().map(device::Model::replays) {
            say(&format!("{dtype}: {}", told(&replays)));
            outcome.replays.insert(dtype.to_string(), replays);
        }
    }
    let mut model = device::Model::drawn(setup.large.clone(), Heads::Next, setup.device.clone(), setup.dtype.into())?;
    for &sequences in &setup.steps {
        model = model.replaying(false);
        let (seconds, plain) = step(&model, sequences)?;
        model = model.replaying(true);
        let (replayed_seconds, replayed) = step(&model, sequences)?;
        let (ratio, replays) = (seconds / replayed_seconds, model.replays());
        let equal = plain.iter().map(|x| x.to_bits()).eq(replayed.iter().map(|x| x.to_bits()));
        say(&format!(
            "a step of {sequences}: {:.2} ms, replayed {:.2} ms, {ratio:.2} times as fast, logits {}; {}",
            1e3 * seconds,
            1e3 * replayed_seconds,
            if equal { "equal" } else { "NOT equal" },
            told(&replays)
        ));
        outcome.steps.push(Step { sequences, seconds, replayed_seconds, ratio, equal, replays });
    }
    let mut models = vec![model];
    let requests = requests(&tasks, setup.samples);
    let tokenizer = Tokenizer::from_folder(&folder)?;
    let mut prompt_tokens = 0;
    for request in &requests {
        prompt_tokens += tokenizer.encode(&request.prompt.text)?.len();
    }
    for &length in &setup.lengths {
        let sampling = Sampling { temperature: 0.2, top_p: 0.95, max_tokens: length, seed: 0 };
        let options = Options { batch: setup.batch, decode: Decode::Plain, lanes: None };
        let mut engine = Engine::of(models, Tokenizer::from_folder(&folder)?.endless(), sampling, options);
        let plan = engine.fit(&requests)?;
        let mut tokens = 0;
        let begun = Instant::now();
        engine.sample(&requests, &mut |sample| {
            tokens += u64::from(sample.tokens.unwrap_or(0));
            true
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let count = requests.len() * setup.samples as usize;
        let speed = Speed {
            parameters: setup.large.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum(),
            dtype: setup.dtype.to_string(),
            prompts: requests.len(),
            samples: setup.samples,
            mean_prompt_tokens: prompt_tokens as f64 / requests.len() as f64,
            mean_completion_tokens: tokens as f64 / count as f64,
            batch: plan.batch,
            seconds,
            tokens_per_second: tokens as f64 / seconds,
            cache_bytes: engine.cache_bytes(),
        };
        say(&format!(
            "{:.1} B in {}: {count} completions of {:.0} tokens (mean) in {seconds:.1} s, {:.0} tokens/s, {} at once",
            speed.parameters as f64 / 1e9,
            speed.dtype,
            speed.mean_completion_tokens,
            speed.tokens_per_second,
            speed.batch
        ));
        outcome.speed.push(speed);
        models = engine.into_models();
    }
    Ok(outcome)
}

fn told(replays: &Replays) -> String {
    let Replays { recordings, replays, refused } = replays;
    match refused {
        Some(why) => format!("nothing is replayed: {why}"),
        None => format!("{recordings} recordings were replayed {replays} times"),
    }
}

/// Mean seconds of a decode step of so many sequences, and the logits of the last: (sequences, vocab).
fn step(model: &device::Model, sequences: usize) -> Result<(f64, Vec<f32>), ModelError> {
    const WARM: usize = 3; // a recording is replayed from the third step on
    const STEPS: usize = 32;
    let mut cache = model.cache(sequences * model.cache_bytes(WARM + STEPS))?;
    let (nothing, mut work) = (Span::default(), device::Workspace::default());
    let mut owns: Vec<Span> = (0..sequences).map(|_| Span::default()).collect();
    let (mut begun, mut last) = (Instant::now(), None);
    for position in 0..WARM + STEPS {
        if position == WARM {
            begun = Instant::now();
        }
        owns.iter_mut().for_each(|own| cache.grow(own, 1));
        let token = |row: usize| ((31 * row + 7 * position) % model.config().vocab_size) as u32;
        let row = |(row, own)| Row { token: token(row), position, prefix: &nothing, own };
        let rows: Vec<Row> = owns.iter().enumerate().map(row).collect();
        model.trunk(&rows, &mut cache, &mut work)?;
        model.run_heads(0..1, &rows, Picked::All, Picked::All, &mut cache, &mut work)?;
        let logits = model.logits(&work)?;
        // Tokens leave the device, as in sampling: a step is over before the next begins.
        let draws: Vec<device::Draw> = (0..sequences).map(|row| device::Draw { row, key: [0, 0], position }).collect();
        if model.draw(&logits, &draws, 0.2, 0.95)?.is_none() {
            model.fetch(&logits)?;
        }
        last = Some(logits);
    }
    let seconds = begun.elapsed().as_secs_f64() / STEPS as f64;
    Ok((seconds, last.map(|logits| model.fetch(&logits)).transpose()?.unwrap_or_default()))
}

/// The largest difference over the largest value.
fn difference(reference: &[Vec<f32>], others: &[Vec<f32>]) -> f64 {
    let pairs = || reference.iter().flatten().zip(others.iter().flatten());
    let largest = pairs().map(|(a, _)| a.abs()).fold(0f32, f32::max);
    // A difference that is not a number must not pass for none, nor be forgotten for one that is.
    let worse = |most: f32, off: f32| if most.is_nan() || off <= most { most } else { off };
    let off = pairs().map(|(a, b)| (a - b).abs()).fold(0f32, worse);
    f64::from(off / largest)
}

fn requests(tasks: &[Task], samples: u32) -> Vec<Request> {
    let request = |task: &Task| Request {
        task: task.id.clone(),
        prompt: Prompt { text: task.prompt.clone(), stop: Vec::new() },
        indices: (0..samples).collect(),
    };
    tasks.iter().map(request).collect()
}

fn samples(
    engine: &mut Engine<device::Model>,
    requests: &[Request],
) -> Result<BTreeMap<(String, u32), Sample>, SamplerError> {
    let mut samples = BTreeMap::new();
    engine.sample(requests, &mut |sample| {
        samples.insert((sample.task.to_string(), sample.index), sample);
        true
    })?;
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_no_agreement() {
        assert_eq!(difference(&[vec![1.0, -4.0]], &[vec![1.5, -4.0]]), 0.125);
        assert!(difference(&[vec![1.0, 2.0, 3.0]], &[vec![1.0, f32::NAN, 3.5]]).is_nan());
    }
}
