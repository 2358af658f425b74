//! The batched engine: prompts are run once and shared by their samples, and every finished sequence's place goes to
//! the next at once, across all samples of all tasks.
//!
//! Work is done in lanes, each with a cache of its own. A model whose weights stay in the processor's cache runs in as
//! many lanes as there are threads, which never wait for each other; a larger one in a single lane whose products all
//! threads share, so that weights are read from memory once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::lane::Lane;
pub use super::speculate::{Decode, Speculation};
use super::{Request, Sample, Sampler, SamplerError, Sampling};
use crate::checkpoint::Checkpoint;
use crate::model::{Config, Heads, Model, Threads};
use crate::tokenizer::Tokenizer;

/// Weights up to this size are read from the processor's own cache by every thread.
const STAYS_IN_CACHE: usize = 16 << 20;
/// Prompt rows that go with a step's other rows.
pub(super) const PIECE: usize = 128;

/// How the engine works. Nothing of it changes a sample.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sequences that run at once.
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

/// Samples from a checkpoint.
pub struct Engine {
    pub(super) model: Model,
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
    /// Loads the weights of `checkpoint` and the tokenizer of its model folder.
    ///
    /// # Errors
    /// The folder, the tokenizer or the weights are missing or broken.
    pub fn load(
        checkpoint: &Checkpoint,
        folder: &Path,
        sampling: Sampling,
        options: Options,
    ) -> Result<Engine, SamplerError> {
        let tokenizer = Tokenizer::from_folder(folder)?;
        let heads = if options.decode == Decode::Plain { Heads::Next } else { Heads::All };
        let model = Model::load(checkpoint, Config::from_folder(folder)?, heads)?;
        Ok(Engine::new(model, tokenizer, sampling, options))
    }

    /// An engine of parts that are there already.
    pub fn new(model: Model, tokenizer: Tokenizer, sampling: Sampling, options: Options) -> Engine {
        let speculation = Speculation::default();
        Engine { model, tokenizer, sampling, options, speculation, cache_bytes: 0 }
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
        let lanes = self.lanes();
        let batch = self.options.batch.max(1).div_ceil(lanes);
        let mut longest = 0;
        let mut fewest = usize::MAX;
        let mut samples = 0;
        for request in requests {
            longest = longest.max(self.encode(request)?.len());
            fewest = fewest.min(request.indices.len().div_ceil(lanes).max(1));
            samples += request.indices.len();
        }
        let cache = self.model.cache();
        let heads = self.model.heads();
        let room = self.model.config().max_seq_len.saturating_sub(longest.min(self.model.config().max_seq_len));
        let own = (self.sampling.max_tokens + heads).min(room.max(1));
        let batch = batch.min(samples.max(1));
        let prompts = (batch.div_ceil(fewest.min(batch).max(1)) + 1).min(requests.len());
        let per_lane = batch * cache.bytes_of(own) + prompts * cache.bytes_of(longest);
        let rows = batch * if self.options.decode == Decode::Plain { 1 } else { heads };
        Ok(Plan {
            weights: self.model.bytes(),
            cache: lanes * per_lane,
            workspace: lanes * self.model.workspace_bytes(rows + PIECE, rows + 1),
        })
    }

    /// Lanes that work side by side.
    fn lanes(&self) -> usize {
        let suits = match self.model.bytes() <= STAYS_IN_CACHE {
            true => rayon::current_num_threads(),
            false => 1,
        };
        self.options.lanes.unwrap_or(suits).clamp(1, self.options.batch.max(1))
    }

    /// A prompt's ids.
    fn encode(&self, request: &Request) -> Result<Vec<u32>, SamplerError> {
        let ids = self.tokenizer.encode(&request.prompt.text)?;
        let context = self.model.config().max_seq_len;
        match ids.is_empty() || ids.len() >= context {
            true => Err(SamplerError::PromptTooLong { task: request.task.clone(), tokens: ids.len(), context }),
            false => Ok(ids),
        }
    }

    /// Requests as pieces of work. The last few are split, so that lanes end together.
    fn work<'a>(&self, requests: &'a [Request], lanes: usize) -> Result<Vec<Work<'a>>, SamplerError> {
        let mut work = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            // All prompts are encoded before the first is run: one that does not fit shows at once, not after an hour.
            let ids = self.encode(request)?;
            let parts = if at + lanes >= requests.len() { lanes } else { 1 };
            let share = request.indices.len().div_ceil(parts).max(1);
            work.extend(request.indices.chunks(share).map(|indices| Work { request, ids: ids.clone(), indices }));
        }
        Ok(work)
    }
}

impl Sampler for Engine {
    fn sample(&mut self, requests: &[Request], done: &mut dyn FnMut(Sample) -> bool) -> Result<(), SamplerError> {
        let lanes = self.lanes();
        let queue =
            Queue { work: self.work(requests, lanes)?, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
        let engine = &*self;
        let (sender, receiver) = mpsc::channel();
        let batch = self.options.batch.max(1).div_ceil(lanes);
        let lane = |threads: Threads, sender: Sender<Message>| {
            let mut lane = Lane::new(engine, batch, threads);
            let ran = lane.run(&queue, &mut |sample| sender.send(Message::Sample(sample)).is_ok());
            // The receiver is there until all lanes have said this.
            let _ = sender.send(Message::Ended(ran, lane.speculation, lane.cache.bytes()));
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
                scope.spawn(|_| lane(Threads::All, sender));
                receive()
            }),
            _ => thread::scope(|scope| {
                for _ in 0..lanes {
                    let (lane, sender) = (&lane, sender.clone());
                    scope.spawn(move || lane(Threads::One, sender));
                }
                drop(sender);
                receive()
            }),
        };
        self.speculation.add(&speculation);
        self.cache_bytes = bytes;
        outcome
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
