//! The batched engine: prompts are run once and shared by their samples, and every finished sequence's place goes to
//! the next at once, across all samples of all tasks.

use std::path::Path;
use std::rc::Rc;

use super::noise::Noise;
use super::nucleus;
use super::stop::Watched;
use super::{Finish, Request, Sample, Sampler, SamplerError, Sampling};
use crate::checkpoint::Checkpoint;
use crate::model::{Cache, Config, Heads, MAX_ROWS, Model, Row, Span};
use crate::tokenizer::{Stream, Tokenizer};

/// Samples from a checkpoint.
pub struct Engine {
    model: Model,
    tokenizer: Tokenizer,
    sampling: Sampling,
    batch: usize,
}

impl Engine {
    /// Loads the weights of `checkpoint` and the tokenizer of its model folder. `batch` sequences run at once.
    ///
    /// # Errors
    /// The folder, the tokenizer or the weights are missing or broken.
    pub fn load(
        checkpoint: &Checkpoint,
        folder: &Path,
        sampling: Sampling,
        batch: usize,
    ) -> Result<Engine, SamplerError> {
        let tokenizer = Tokenizer::from_folder(folder)?;
        let model = Model::load(checkpoint, Config::from_folder(folder)?, Heads::Next)?;
        Ok(Engine { model, tokenizer, sampling, batch: batch.max(1) })
    }
}

impl Sampler for Engine {
    fn sample(&mut self, requests: &[Request], done: &mut dyn FnMut(Sample) -> bool) -> Result<(), SamplerError> {
        // All prompts are encoded before the first is run: one that does not fit shows at once, not after an hour.
        let prompts = requests.iter().map(|request| self.encode(request)).collect::<Result<Vec<_>, _>>()?;
        let mut waiting = requests.iter().zip(prompts);
        let mut cache = self.model.cache();
        let mut opening: Option<Opening> = None;
        let mut active: Vec<Sequence> = Vec::new();
        loop {
            while active.len() < self.batch {
                match opening.as_mut().and_then(Opening::next_index) {
                    Some((prompt, index)) => {
                        let mut sequence = Sequence::new(prompt, index, self)?;
                        let token = sequence.draw(&sequence.prompt.logits, self.sampling)?;
                        match sequence.accept(token, self)? {
                            Some(finish) => hand_over(sequence, finish, &mut cache, self, done)?,
                            None => active.push(sequence),
                        }
                    }
                    None => {
                        retire(opening.take().map(|spent| spent.prompt), &mut cache);
                        match waiting.next() {
                            Some((request, ids)) => opening = Some(self.open(request, ids, &mut cache)?),
                            None => break,
                        }
                    }
                }
            }
            if active.is_empty() {
                return Ok(());
            }
            let tokens = self.step(&mut active, &mut cache)?;
            let mut running = Vec::with_capacity(active.len());
            for (mut sequence, token) in active.into_iter().zip(tokens) {
                match sequence.accept(token, self)? {
                    Some(finish) => hand_over(sequence, finish, &mut cache, self, done)?,
                    None => running.push(sequence),
                }
            }
            active = running;
        }
    }
}

/// A prompt in the cache, with the logits of its first new token: (vocab).
struct Prompt<'a> {
    request: &'a Request,
    ids: Vec<u32>,
    span: Span,
    logits: Vec<f32>,
}

/// A prompt some of whose samples are still to be started.
struct Opening<'a> {
    prompt: Rc<Prompt<'a>>,
    started: usize,
}

impl<'a> Opening<'a> {
    fn next_index(&mut self) -> Option<(Rc<Prompt<'a>>, u32)> {
        let index = *self.prompt.request.indices.get(self.started)?;
        self.started += 1;
        Some((Rc::clone(&self.prompt), index))
    }
}

/// One sample being written.
struct Sequence<'a> {
    prompt: Rc<Prompt<'a>>,
    index: u32,
    noise: Noise,
    own: Span,
    last: u32,
    tokens: usize,
    stream: Stream,
    text: Watched<'a>,
}

impl<'a> Sequence<'a> {
    fn new(prompt: Rc<Prompt<'a>>, index: u32, engine: &Engine) -> Result<Sequence<'a>, SamplerError> {
        Ok(Sequence {
            noise: Noise::new(engine.sampling.seed, &prompt.request.task, index),
            stream: engine.tokenizer.stream(&prompt.ids)?,
            text: Watched::new(&prompt.request.prompt.stop),
            own: Span::default(),
            last: 0,
            tokens: 0,
            index,
            prompt,
        })
    }

    /// The position of the token that comes next.
    fn position(&self) -> usize {
        self.prompt.ids.len() + self.tokens
    }

    /// Chooses the next token from its logits, (vocab).
    fn draw(&self, logits: &[f32], sampling: Sampling) -> Result<u32, SamplerError> {
        let position = self.position();
        nucleus::sample(logits, sampling, self.noise, position).map_err(|nucleus::NotFinite| SamplerError::NotFinite {
            task: self.prompt.request.task.clone(),
            index: self.index,
            position,
        })
    }

    /// Appends a token; says why the sequence is finished, if it is.
    fn accept(&mut self, token: u32, engine: &Engine) -> Result<Option<Finish>, SamplerError> {
        self.last = token;
        self.tokens += 1;
        if engine.tokenizer.is_eos(token) {
            return Ok(Some(Finish::Eos));
        }
        if self.text.push(&self.stream.push(&engine.tokenizer, token)?) {
            return Ok(Some(Finish::Stop));
        }
        if self.tokens >= engine.sampling.max_tokens {
            return Ok(Some(Finish::Length));
        }
        let full = self.position() >= engine.model.config().max_seq_len;
        Ok(full.then_some(Finish::Context))
    }
}

/// Passes a finished sample on and gives its blocks back.
fn hand_over(
    mut sequence: Sequence,
    finish: Finish,
    cache: &mut Cache,
    engine: &Engine,
    done: &mut dyn FnMut(Sample) -> bool,
) -> Result<(), SamplerError> {
    if finish != Finish::Stop {
        sequence.text.push(&sequence.stream.finish(&engine.tokenizer)?);
    }
    let sample = Sample {
        task: sequence.prompt.request.task.clone(),
        index: sequence.index,
        completion: sequence.text.into_text(),
        tokens: Some(sequence.tokens as u32),
        finish,
    };
    cache.release(sequence.own);
    retire(Some(sequence.prompt), cache);
    if done(sample) { Ok(()) } else { Err(SamplerError::Stopped) }
}

/// Gives a prompt's blocks back when nobody needs them any more.
fn retire(prompt: Option<Rc<Prompt>>, cache: &mut Cache) {
    if let Some(prompt) = prompt.and_then(Rc::into_inner) {
        cache.release(prompt.span);
    }
}

impl Engine {
    /// A prompt's ids.
    fn encode(&self, request: &Request) -> Result<Vec<u32>, SamplerError> {
        let ids = self.tokenizer.encode(&request.prompt.text)?;
        let context = self.model.config().max_seq_len;
        match ids.is_empty() || ids.len() >= context {
            true => Err(SamplerError::PromptTooLong { task: request.task.clone(), tokens: ids.len(), context }),
            false => Ok(ids),
        }
    }

    /// Runs a prompt through the model.
    fn open<'a>(&self, request: &'a Request, ids: Vec<u32>, cache: &mut Cache) -> Result<Opening<'a>, SamplerError> {
        let mut span = Span::default();
        cache.grow(&mut span, ids.len());
        let nothing = Span::default();
        let mut hidden = Vec::new();
        for (piece, tokens) in ids.chunks(MAX_ROWS).enumerate() {
            let row = |(i, &token)| Row { token, position: piece * MAX_ROWS + i, prefix: &nothing, own: &span };
            let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
            hidden = self.model.forward(&rows, cache)?;
        }
        let last = hidden.split_off(hidden.len() - self.model.config().dim);
        let logits = self.model.logits(&last)?;
        Ok(Opening { prompt: Rc::new(Prompt { request, ids, span, logits }), started: 0 })
    }

    /// One token further for every sequence: its last token goes through the model, and the next one is chosen.
    fn step(&self, active: &mut [Sequence], cache: &mut Cache) -> Result<Vec<u32>, SamplerError> {
        let mut tokens = Vec::with_capacity(active.len());
        for sequences in active.chunks_mut(MAX_ROWS) {
            for sequence in sequences.iter_mut() {
                cache.grow(&mut sequence.own, 1);
            }
            let rows: Vec<Row> = sequences
                .iter()
                .map(|sequence| Row {
                    token: sequence.last,
                    position: sequence.position() - 1,
                    prefix: &sequence.prompt.span,
                    own: &sequence.own,
                })
                .collect();
            let logits = self.model.logits(&self.model.forward(&rows, cache)?)?;
            let rows = logits.chunks_exact(self.model.config().vocab_size);
            for (sequence, logits) in sequences.iter().zip(rows) {
                tokens.push(sequence.draw(logits, self.sampling)?);
            }
        }
        Ok(tokens)
    }
}
