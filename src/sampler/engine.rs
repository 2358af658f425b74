//! The batched engine: prompts are run once and shared by their samples, and every finished sequence's place goes to
//! the next at once, across all samples of all tasks.
//!
//! Work is done in lanes, each with a cache of its own: several threads' lanes on one model, or one for each device.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use candle_core::{DType, Device};

use super::backend::Backend;
use super::lane::Lane;
use super::speculate::CATCH_UP;
pub use super::speculate::{Decode, Speculation};
use super::{Request, Sample, Sampler, SamplerError, Sampling};
use crate::checkpoint::Checkpoint;
use crate::model::device::Dtype;
use crate::model::{self, Config, Model, ModelError, Threads, device};
use crate::task::TaskId;
use crate::tokenizer::Tokenizer;

/// Prompt rows that go with a step's other rows.
pub(super) const PIECE: usize = 128;

/// How the engine works. Nothing of it changes a sample.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sequences that run at once, at most.
    pub batch: usize,
    /// Plain, speculative, or what is faster.
    pub decode: Decode,
    /// Lanes that share the work; `None` for what suits the model.
    pub lanes: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options { batch: 64, decode: Decode::Auto, lanes: None }
    }
}

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the CPU, in f32.
    Cpu,
    /// On CUDA devices, each with a copy of its own.
    Cuda {
        /// Their numbers.
        ordinals: Vec<usize>,
        /// Type of the weights; `None` for the checkpoint's own.
        dtype: Option<Dtype>,
    },
    /// On the machine's Apple GPU.
    Metal {
        /// Type of the weights; `None` for the checkpoint's own.
        dtype: Option<Dtype>,
    },
}

impl Place {
    /// What arithmetic a sample depends on beside the weights: kind of device, and type.
    ///
    /// # Errors
    /// A device cannot be opened.
    pub fn arithmetic(&self, checkpoint: &Checkpoint) -> Result<(String, String), SamplerError> {
        let (kind, dtype) = match self {
            Place::Cpu => return Ok((model::DEVICE.to_owned(), model::DTYPE.to_owned())),
            Place::Cuda { ordinals, dtype } => (device::kind(ordinals.first().copied().unwrap_or(0))?, dtype),
            Place::Metal { dtype } => (device::METAL.to_owned(), dtype),
        };
        Ok((kind, dtype.unwrap_or_else(|| Dtype::native(checkpoint)).to_string()))
    }
}

/// Loads the weights of `checkpoint` and the tokenizer of its model folder. Returns the sampler with what sampling
/// `requests` takes; fewer sequences run at once where memory has no room for more. On the CPU `progress` is told bytes of
/// weights that are in place, and all bytes.
///
/// # Errors
/// The folder, the tokenizer or the weights are missing or broken; a device is full or fails; a prompt does not fit.
pub fn open(
    place: &Place,
    checkpoint: &Checkpoint,
    folder: &Path,
    sampling: Sampling,
    options: Options,
    requests: &[Request],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Box<dyn Sampler>, Plan), SamplerError> {
    fn fitted<B: Backend + 'static>(
        mut engine: Engine<B>,
        requests: &[Request],
    ) -> Result<(Box<dyn Sampler>, Plan), SamplerError> {
        let plan = engine.fit(requests)?;
        Ok((Box::new(engine), plan))
    }
    let (devices, dtype) = match place {
        Place::Cpu => return fitted(Engine::load(checkpoint, folder, sampling, options, progress)?, requests),
        Place::Cuda { ordinals, dtype } => {
            (ordinals.iter().map(|&ordinal| device::open(ordinal)).collect::<Result<_, _>>()?, dtype)
        }
        Place::Metal { dtype } => (vec![device::open_metal()?], dtype),
    };
    let dtype = dtype.unwrap_or_else(|| Dtype::native(checkpoint)).into();
    fitted(Engine::load_onto(devices, dtype, checkpoint, folder, sampling, options)?, requests)
}

/// Samples from a checkpoint.
pub struct Engine<B: Backend = Model> {
    models: Vec<B>, // one for each device, all with the same weights
    pub(super) tokenizer: Tokenizer,
    pub(super) sampling: Sampling,
    pub(super) options: Options,
    speculation: Speculation,
    cache_bytes: usize,
}

/// Bytes that sampling takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The model.
    pub weights: usize,
    /// Keys and values.
    pub cache: usize,
    /// What steps compute in.
    pub workspace: usize,
    /// Sequences at once.
    pub batch: usize,
}

/// What of requests their memory depends on.
struct Extent {
    prompts: usize,
    /// Tokens of the longest prompt, and of the shortest.
    longest: usize,
    shortest: usize,
    /// The fewest samples of one prompt in one lane.
    fewest: usize,
    samples: usize,
}

/// A prompt and those of its samples that one lane makes.
pub(super) struct Work<'a> {
    pub(super) request: &'a Request,
    pub(super) ids: Vec<u32>,
    pub(super) indices: &'a [u32],
}

/// What lanes share.
pub(super) struct Queue<'a> {
    work: Vec<Work<'a>>,
    next: AtomicUsize,
    stop: AtomicBool,
}

impl<'a> Queue<'a> {
    /// The next piece of work, in order.
    pub(super) fn take(&self) -> Option<&Work<'a>> {
        self.work.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether lanes should give up.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Loads the weights of `checkpoint` and the tokenizer of its model folder, to run on the CPU. `progress` is told
    /// bytes of weights that are in place, and all bytes.
    ///
    /// # Errors
    /// The folder, the tokenizer or the weights are missing or broken.
    pub fn load(
        checkpoint: &Checkpoint,
        folder: &Path,
        sampling: Sampling,
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Engine, SamplerError> {
        let tokenizer = Tokenizer::from_folder(folder)?;
        let heads = options.decode.heads();
        let model = Model::load_with_progress(checkpoint, Config::from_folder(folder)?, heads, progress)?;
        Ok(Engine::new(model, tokenizer, sampling, options))
    }

    /// An engine of parts that are there already.
    pub fn new(model: Model, tokenizer: Tokenizer, sampling: Sampling, options: Options) -> Engine {
        Engine::of(vec![model], tokenizer, sampling, options)
    }
}

impl Engine<device::Model> {
    /// Loads the weights of `checkpoint` onto each of `devices` in `dtype`.
    ///
    /// # Errors
    /// As [`load`](Engine::load); a device is full or fails.
    pub fn load_onto(
        devices: Vec<Device>,
        dtype: DType,
        checkpoint: &Checkpoint,
        folder: &Path,
        sampling: Sampling,
        options: Options,
    ) -> Result<Self, SamplerError> {
        let tokenizer = Tokenizer::from_folder(folder)?;
        let config = Config::from_folder(folder)?;
        let load = |device| device::Model::load(checkpoint, config.clone(), options.decode.heads(), device, dtype);
        let models = devices.into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(Engine::of(models, tokenizer, sampling, options))
    }
}

impl<B: Backend> Engine<B> {
    /// An engine of parts that are there already; there is at least one model, and all have the same weights.
    pub fn of(models: Vec<B>, tokenizer: Tokenizer, sampling: Sampling, options: Options) -> Engine<B> {
        let speculation = Speculation::default();
        Engine { models, tokenizer, sampling, options, speculation, cache_bytes: 0 }
    }

    /// The models, for another engine.
    pub fn into_models(self) -> Vec<B> {
        self.models
    }

    /// The model's shape.
    pub(super) fn config(&self) -> &Config {
        self.models[0].config()
    }

    /// Heads that were loaded.
    pub(super) fn heads(&self) -> usize {
        self.models[0].heads()
    }

    /// Bytes of the cache that the last call of [`sample`](Sampler::sample) needed.
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// What sampling `requests` takes at most.
    ///
    /// # Errors
    /// A prompt does not fit the model.
    pub fn plan(&self, requests: &[Request]) -> Result<Plan, SamplerError> {
        Ok(self.plan_of(&self.extent(requests, &self.encode(requests)?), self.options.batch))
    }

    fn extent(&self, requests: &[Request], prompts: &[Vec<u32>]) -> Extent {
        let samples = || requests.iter().map(|request| request.indices.len());
        Extent {
            prompts: prompts.len(),
            longest: prompts.iter().map(Vec::len).max().unwrap_or(0),
            shortest: prompts.iter().map(Vec::len).min().unwrap_or(0),
            fewest: samples().map(|samples| samples.div_ceil(self.lanes()).max(1)).min().unwrap_or(usize::MAX),
            samples: samples().sum(),
        }
    }

    fn plan_of(&self, &Extent { prompts, longest, shortest, fewest, samples }: &Extent, batch: usize) -> Plan {
        let (model, lanes) = (&self.models[0], self.lanes());
        let batch = self.share(batch, samples);
        let room = self.config().max_seq_len.saturating_sub(shortest);
        // The last token never goes through the model, nor does a draft beyond it.
        let own = self.sampling.max_tokens.min(room).saturating_sub(1).max(1);
        let prompts = (batch.div_ceil(fewest.min(batch).max(1)) + 1).min(prompts);
        let per_lane = batch * model.cache_bytes(own) + prompts * model.cache_bytes(longest);
        let catching_up = if self.options.decode == Decode::Auto { CATCH_UP } else { 0 };
        let rows = batch * (self.rows_of_a_sequence() + catching_up);
        Plan {
            weights: self.models.iter().map(B::bytes).sum(),
            cache: lanes * per_lane,
            workspace: lanes * model.workspace_bytes(rows + PIECE, batch * self.rows_of_a_sequence() + 1),
            batch: batch * lanes,
        }
    }

    /// Halves the batch until cache and workspace fit into four fifths of what is free; see [`plan`](Self::plan).
    ///
    /// # Errors
    /// A prompt does not fit the model.
    pub fn fit(&mut self, requests: &[Request]) -> Result<Plan, SamplerError> {
        let prompts = self.encode(requests)?;
        loop {
            let plan = self.plan_of(&self.extent(requests, &prompts), self.options.batch);
            let free = self.models[0].free().map_or(usize::MAX, |free| free / 5 * 4);
            if plan.cache + plan.workspace <= free || self.options.batch <= 1 {
                return Ok(plan);
            }
            self.options.batch = self.options.batch.div_ceil(2);
        }
    }

    /// Lanes that work side by side.
    fn lanes(&self) -> usize {
        let suits = self.options.lanes.unwrap_or(self.models[0].lanes()).clamp(1, self.options.batch.max(1));
        suits.max(self.models.len())
    }

    /// Sequences of one lane when of `samples` no more than `batch` run at once: as many as make the fewest rounds, if all
    /// were of one length, and no round of a few stragglers.
    fn share(&self, batch: usize, samples: usize) -> usize {
        let most = self.models[0].max_rows().saturating_sub(PIECE) / self.rows_of_a_sequence();
        let most = batch.max(1).div_ceil(self.lanes()).min(most.max(1)).min(self.models[0].enough());
        let samples = samples.max(1).div_ceil(self.lanes());
        samples.div_ceil(samples.div_ceil(most))
    }

    fn rows_of_a_sequence(&self) -> usize {
        if self.options.decode == Decode::Plain { 1 } else { self.heads() }
    }

    /// The ids of every prompt, before the first is run: one that does not fit shows at once, not after an hour.
    fn encode(&self, requests: &[Request]) -> Result<Vec<Vec<u32>>, SamplerError> {
        let context = self.config().max_seq_len;
        let encode = |request: &Request| {
            let ids = self.tokenizer.encode(&request.prompt.text)?;
            match ids.is_empty() || ids.len() >= context {
                true => Err(SamplerError::PromptTooLong { task: request.task.clone(), tokens: ids.len(), context }),
                false => Ok(ids),
            }
        };
        requests.iter().map(encode).collect()
    }
}

/// Requests as pieces of work. The last few are split, so that lanes end together.
fn work(requests: &[Request], prompts: Vec<Vec<u32>>, lanes: usize) -> Vec<Work<'_>> {
    let mut work = Vec::new();
    for (at, (request, ids)) in requests.iter().zip(prompts).enumerate() {
        let parts = if at + lanes >= requests.len() { lanes } else { 1 };
        let share = request.indices.len().div_ceil(parts).max(1);
        work.extend(request.indices.chunks(share).map(|indices| Work { request, ids: ids.clone(), indices }));
    }
    work
}

impl<B: Backend> Engine<B> {
    /// Makes the samples of `requests` with `batch` sequences at once.
    fn run(
        &mut self,
        requests: &[Request],
        batch: usize,
        done: &mut dyn FnMut(Sample) -> bool,
    ) -> Result<(), SamplerError> {
        let lanes = self.lanes();
        let prompts = self.encode(requests)?;
        let plan = self.plan_of(&self.extent(requests, &prompts), batch);
        let (batch, cache_bytes) = (plan.batch / lanes, plan.cache / lanes);
        let work = work(requests, prompts, lanes);
        let queue = Queue { work, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
        let engine = &*self;
        let (sender, receiver) = mpsc::channel();
        let lane = |number: usize, threads: Threads, sender: Sender<Message>| {
            let model = &engine.models[number % engine.models.len()];
            let (ran, speculation, bytes) = match Lane::new(engine, model, batch, cache_bytes, threads) {
                Ok(mut lane) => {
                    let ran = lane.run(&queue, &mut |sample| sender.send(Message::Sample(sample)).is_ok());
                    (ran, lane.speculation, B::allocated(&lane.cache))
                }
                Err(error) => (Err(error), Speculation::default(), 0),
            };
            // The receiver is there until all lanes have said this.
            let _ = sender.send(Message::Ended(ran, speculation, bytes));
        };
        let mut receive = || {
            let mut outcome = Ok(());
            let (mut speculation, mut bytes) = (Speculation::default(), 0);
            for message in receiver.iter() {
                let trouble = match message {
                    Message::Sample(sample) => (outcome.is_ok() && !done(sample)).then_some(SamplerError::Stopped),
                    Message::Ended(ran, lanes_own, cache_bytes) => {
                        speculation.add(&lanes_own);
                        bytes += cache_bytes;
                        ran.err()
                    }
                };
                if let Some(trouble) = trouble {
                    queue.stop.store(true, Ordering::Relaxed);
                    outcome = outcome.and(Err(trouble));
                }
            }
            (outcome, speculation, bytes)
        };
        let (outcome, speculation, bytes) = match lanes {
            // On a thread of the pool, where sharing work with the others costs least.
            1 => rayon::in_place_scope(|scope| {
                scope.spawn(|_| lane(0, Threads::All, sender));
                receive()
            }),
            _ => thread::scope(|scope| {
                for number in 0..lanes {
                    let (lane, sender) = (&lane, sender.clone());
                    scope.spawn(move || lane(number, Threads::One, sender));
                }
                drop(sender);
                receive()
            }),
        };
        self.speculation.add(&speculation);
        self.cache_bytes = bytes;
        outcome
    }
}

impl<B: Backend> Sampler for Engine<B> {
    /// Where the device has no room for the batch, what is still missing is sampled with half of it.
    fn sample(&mut self, requests: &[Request], done: &mut dyn FnMut(Sample) -> bool) -> Result<(), SamplerError> {
        let mut batch = self.options.batch;
        let mut made: HashSet<(TaskId, u32)> = HashSet::new();
        let mut missing = Cow::Borrowed(requests);
        loop {
            let ran = self.run(&missing, batch, &mut |sample| {
                made.insert((sample.task.clone(), sample.index));
                done(sample)
            });
            match ran {
                Err(SamplerError::Model(ModelError::OutOfMemory)) if batch > 1 => batch = batch.div_ceil(2),
                ran => return ran,
            }
            let mut rest = requests.to_vec();
            for request in &mut rest {
                request.indices.retain(|&index| !made.contains(&(request.task.clone(), index)));
            }
            rest.retain(|request| !request.indices.is_empty());
            missing = Cow::Owned(rest);
        }
    }

    fn speculation(&self) -> Speculation {
        self.speculation.clone()
    }
}

/// What a lane says.
enum Message {
    Sample(Sample),
    /// Its outcome, its drafts and the bytes of its cache.
    Ended(Result<(), SamplerError>, Speculation, usize),
}
