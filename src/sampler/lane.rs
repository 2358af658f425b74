//! One lane of the engine: a batch of sequences and the prompt that comes next, step by step.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::backend::{Backend, Draw, Drawn, Logits};
use super::engine::{Engine, PIECE, Queue, Work};
use super::noise::Noise;
use super::speculate::{Chooser, Speculation};
use super::stop::Watched;
use super::{Finish, Request, Sample, SamplerError};
use crate::model::{Picked, Row, Span, Threads};
use crate::tokenizer::Stream;

/// A batch of running sequences with the cache they live in.
pub(super) struct Lane<'e, B: Backend> {
    engine: &'e Engine<B>,
    model: &'e B,
    batch: usize,
    threads: Threads,
    pub(super) cache: B::Cache,
    work: B::Work,
    chooser: Chooser,
    pub(super) speculation: Speculation,
}

/// A prompt in the cache, with the logits of its first new token.
struct Prompt<'a, B: Backend> {
    request: &'a Request,
    ids: &'a [u32],
    span: Span,
    logits: B::Kept,
    stream: Stream,
}

/// A prompt on its way: first into the cache, then to its samples.
struct Opening<'a, B: Backend> {
    work: &'a Work<'a>,
    /// Until it is whole, the span and how much of it is filled.
    span: Span,
    fed: usize,
    /// Once it is whole.
    prompt: Option<Arc<Prompt<'a, B>>>,
    started: usize,
}

/// One sample being written.
struct Sequence<'a, B: Backend> {
    prompt: Arc<Prompt<'a, B>>,
    index: u32,
    noise: Noise,
    own: Span,
    /// Tokens chosen so far. All but the last have gone through the model.
    tokens: Vec<u32>,
    /// Drafts of the tokens after the last one.
    drafts: Vec<u32>,
    /// Own positions with keys and values of each extra head.
    headed: Vec<usize>,
    /// The own position of the last step's first row.
    from: usize,
    stream: Stream,
    text: Watched<'a>,
    /// What the last step made of it: tokens taken, and why it ended.
    taken: usize,
    outcome: Result<Option<Finish>, SamplerError>,
}

impl<'e, B: Backend> Lane<'e, B> {
    /// A lane of `batch` sequences on `model`, with a cache of at most `cache_bytes`.
    pub(super) fn new(
        engine: &'e Engine<B>,
        model: &'e B,
        batch: usize,
        cache_bytes: usize,
        threads: Threads,
    ) -> Result<Lane<'e, B>, SamplerError> {
        Ok(Lane {
            engine,
            model,
            batch,
            threads,
            cache: model.cache(cache_bytes)?,
            work: model.workspace(threads),
            chooser: Chooser::new(engine.options.decode, model.heads()),
            speculation: Speculation::default(),
        })
    }

    /// Works until the queue is empty. `done` returns false to stop.
    pub(super) fn run(
        &mut self,
        queue: &'e Queue<'e>,
        done: &mut dyn FnMut(Sample) -> bool,
    ) -> Result<(), SamplerError> {
        let mut opening: Option<Opening<B>> = None;
        let mut active: Vec<Sequence<B>> = Vec::new();
        loop {
            if queue.stopped() {
                return Err(SamplerError::Stopped);
            }
            while active.len() < self.batch {
                let Some(open) = &mut opening else {
                    match queue.take() {
                        Some(work) => opening = Some(self.open(work)),
                        None => break,
                    }
                    continue;
                };
                let Some(prompt) = &open.prompt else { break };
                match open.work.indices.get(open.started) {
                    Some(&index) => {
                        open.started += 1;
                        let mut sequence = Sequence::new(Arc::clone(prompt), index, self.engine);
                        let first = self.model.draw_kept(&prompt.logits, sequence.draw(0, 0), self.engine.sampling)?;
                        sequence.accept_all(1, |_| first, self.engine);
                        active.extend(self.settle(sequence, done)?);
                    }
                    None => {
                        let spent = opening.take().and_then(|opening| opening.prompt);
                        self.retire(spent);
                    }
                }
            }
            let filling = opening.as_mut().filter(|opening| opening.prompt.is_none());
            if active.is_empty() && filling.is_none() {
                return Ok(());
            }
            self.step(&mut active, filling)?;
            let mut running = Vec::with_capacity(self.batch);
            for sequence in active.drain(..) {
                running.extend(self.settle(sequence, done)?);
            }
            active = running;
        }
    }

    fn open(&mut self, work: &'e Work<'e>) -> Opening<'e, B> {
        let mut span = Span::default();
        B::grow(&mut self.cache, &mut span, work.ids.len());
        Opening { work, span, fed: 0, prompt: None, started: 0 }
    }

    /// Passes a sequence on when it is finished, and back when it is not.
    fn settle<'a>(
        &mut self,
        mut sequence: Sequence<'a, B>,
        done: &mut dyn FnMut(Sample) -> bool,
    ) -> Result<Option<Sequence<'a, B>>, SamplerError> {
        let Some(finish) = std::mem::replace(&mut sequence.outcome, Ok(None))? else { return Ok(Some(sequence)) };
        if finish != Finish::Stop {
            sequence.text.push(&sequence.stream.finish(&self.engine.tokenizer)?);
        }
        let sample = Sample {
            task: sequence.prompt.request.task.clone(),
            index: sequence.index,
            completion: sequence.text.into_text(),
            tokens: Some(sequence.tokens.len() as u32),
            finish,
        };
        B::release(&mut self.cache, sequence.own);
        self.retire(Some(sequence.prompt));
        if done(sample) { Ok(None) } else { Err(SamplerError::Stopped) }
    }

    /// Gives a prompt's blocks back when nobody needs them any more.
    fn retire(&mut self, prompt: Option<Arc<Prompt<B>>>) {
        if let Some(prompt) = prompt.and_then(Arc::into_inner) {
            B::release(&mut self.cache, prompt.span);
        }
    }

    /// One forward: every sequence's last token and its drafts, and a piece of the prompt that is being opened. Then
    /// each sequence takes the tokens that follow.
    fn step(&mut self, active: &mut [Sequence<B>], filling: Option<&mut Opening<'e, B>>) -> Result<(), SamplerError> {
        let begun = Instant::now();
        let (model, sampling) = (self.model, self.engine.sampling);
        let ahead = self.chooser.drafts(active.len());
        let nothing = Span::default();

        // Rows of each sequence: positions whose extra heads lag behind, the last token, the drafts.
        let mut firsts = Vec::with_capacity(active.len() + 1);
        let mut count = 0;
        for sequence in active.iter_mut() {
            sequence.drafts.truncate(ahead);
            sequence.from = sequence.lag(ahead);
            let end = sequence.tokens.len() + sequence.drafts.len();
            let more = end.saturating_sub(sequence.own.len());
            B::grow(&mut self.cache, &mut sequence.own, more);
            firsts.push(count);
            count += end - sequence.from;
        }
        firsts.push(count);
        let mut rows: Vec<Row> = Vec::with_capacity(count + PIECE);
        let mut picked: Vec<usize> = Vec::with_capacity(count + 1);
        for sequence in active.iter() {
            let (prefix, own) = (&sequence.prompt.span, &sequence.own);
            for at in sequence.from..sequence.tokens.len() + sequence.drafts.len() {
                if at + 1 >= sequence.tokens.len() {
                    picked.push(rows.len());
                }
                let token = sequence.token(at);
                rows.push(Row { token, position: prefix.len() + at, prefix, own });
            }
        }
        let mut last_of_prompt = false;
        if let Some(opening) = &filling {
            let ids = &opening.work.ids;
            let end = ids.len().min(opening.fed + PIECE);
            for (position, &token) in ids.iter().enumerate().take(end).skip(opening.fed) {
                rows.push(Row { token, position, prefix: &nothing, own: &opening.span });
            }
            last_of_prompt = end == ids.len();
            if last_of_prompt {
                picked.push(rows.len() - 1);
            }
        }

        model.trunk(&rows, &mut self.cache, &mut self.work)?;
        model.run_heads(0..1, &rows, Picked::All, Picked::These(&picked), &mut self.cache, &mut self.work)?;
        let prompt_rows = rows.len() - count;
        drop(rows);

        // Every sequence chooses on rows of its own.
        let mut wanted = Vec::with_capacity(picked.len());
        let mut choosing: Vec<(&mut Sequence<B>, usize)> = Vec::with_capacity(active.len());
        for sequence in active.iter_mut() {
            let first = wanted.len();
            wanted.extend((0..=sequence.drafts.len()).map(|ahead| sequence.draw(first + ahead, ahead)));
            choosing.push((sequence, first));
        }
        let mut prompt_logits = None;
        if !picked.is_empty() {
            let logits = model.logits(&mut self.work, &wanted, sampling)?;
            let engine = self.engine;
            let choose = |(sequence, first): (&mut Sequence<B>, usize)| {
                let draws = &wanted[first..=first + sequence.drafts.len()];
                sequence.accept_all(draws.len(), |ahead| logits.draw(draws[ahead], sampling), engine);
            };
            match self.threads {
                Threads::All => choosing.into_par_iter().with_max_len(1).for_each(choose),
                Threads::One => choosing.into_iter().for_each(choose),
            }
            if last_of_prompt {
                prompt_logits = Some(logits.keep(picked.len() - 1)?);
            }
        }
        let taken: usize = active.iter().map(|sequence| sequence.taken).sum();
        // What a model's heads are worth is told of those steps alone in which all of them drafted.
        if ahead > 0 && ahead + 1 == model.heads() {
            for sequence in active.iter() {
                self.speculation.note(sequence.drafts.len(), sequence.taken);
            }
        }

        if self.chooser.may() && (ahead > 0 || prompt_rows > 0) {
            self.draft(active, ahead, &firsts, filling.as_deref(), prompt_rows)?;
        }
        if prompt_rows == 0 {
            self.chooser.note(active.len(), ahead, taken, begun.elapsed());
        }
        if let Some(opening) = filling {
            opening.fed += prompt_rows;
            if let Some(logits) = prompt_logits {
                let ids = &opening.work.ids;
                opening.prompt = Some(Arc::new(Prompt {
                    request: opening.work.request,
                    ids,
                    span: std::mem::take(&mut opening.span),
                    logits,
                    stream: self.engine.tokenizer.stream(ids)?,
                }));
            }
        }
        Ok(())
    }

    /// Runs the extra heads over the rows that turned out right, for their keys and values, and lets the first `ahead` of
    /// them draft one token each for every sequence that goes on. A prompt's rows are run by all of them.
    fn draft(
        &mut self,
        active: &mut [Sequence<B>],
        ahead: usize,
        firsts: &[usize],
        filling: Option<&Opening<B>>,
        prompt_rows: usize,
    ) -> Result<(), SamplerError> {
        let nothing = Span::default();
        let (mut rows, mut from, mut picked): (Vec<Row>, Vec<usize>, Vec<usize>) = Default::default();
        let mut drafting = Vec::new();
        for (i, (sequence, &first)) in active.iter().zip(firsts).enumerate() {
            if ahead == 0 || !matches!(sequence.outcome, Ok(None)) {
                continue;
            }
            let (prefix, own) = (&sequence.prompt.span, &sequence.own);
            // The last token taken has not been through the model yet.
            for at in sequence.from..sequence.tokens.len() - 1 {
                from.push(first + at - sequence.from);
                rows.push(Row { token: sequence.tokens[at], position: prefix.len() + at, prefix, own });
            }
            picked.push(rows.len() - 1);
            drafting.push(i);
        }
        if let Some(opening) = filling {
            let start = firsts.last().copied().unwrap_or(0);
            for i in 0..prompt_rows {
                let position = opening.fed + i;
                from.push(start + i);
                rows.push(Row { token: opening.work.ids[position], position, prefix: &nothing, own: &opening.span });
            }
        }
        let heads = if prompt_rows > 0 { self.model.heads() } else { 1 + ahead };
        let (from, picked) = (Picked::These(&from), Picked::These(&picked));
        self.model.run_heads(1..heads, &rows, from, picked, &mut self.cache, &mut self.work)?;
        if drafting.is_empty() {
            return Ok(());
        }
        let count = drafting.len();
        let draw = |row: usize| active[drafting[row % count]].draw(row, row / count);
        let draws: Vec<Draw> = (0..(heads - 1) * count).map(draw).collect();
        let sampling = self.engine.sampling;
        let logits = self.model.logits(&mut self.work, &draws, sampling)?;
        let draw = |&draw: &Draw| logits.draw(draw, sampling).ok();
        let drafts: Vec<Option<u32>> = match self.threads {
            Threads::All => draws.par_iter().map(draw).collect(),
            Threads::One => draws.iter().map(draw).collect(),
        };
        let context = self.model.config().max_seq_len;
        for (at, &i) in drafting.iter().enumerate() {
            let sequence = &mut active[i];
            sequence.headed[..ahead].fill(sequence.tokens.len() - 1);
            // A draft beyond the last token there can be helps nobody. A head without a number to say ends the chain.
            let room = (sampling.max_tokens - sequence.tokens.len()).min(context - sequence.position());
            let most = ahead.min(room.saturating_sub(1));
            sequence.drafts.clear();
            sequence.drafts.extend(drafts[at..].iter().step_by(count).map_while(|&draft| draft).take(most));
        }
        Ok(())
    }
}

impl<'a, B: Backend> Sequence<'a, B> {
    fn new(prompt: Arc<Prompt<'a, B>>, index: u32, engine: &Engine<B>) -> Sequence<'a, B> {
        Sequence {
            noise: Noise::new(engine.sampling.seed, &prompt.request.task, index),
            stream: prompt.stream.clone(),
            text: Watched::new(&prompt.request.prompt.stop),
            own: Span::default(),
            tokens: Vec::new(),
            drafts: Vec::new(),
            headed: vec![0; engine.heads() - 1],
            from: 0,
            taken: 0,
            outcome: Ok(None),
            index,
            prompt,
        }
    }

    /// The position of the token that comes next.
    fn position(&self) -> usize {
        self.prompt.ids.len() + self.tokens.len()
    }

    /// The first own position that must go through the model, for head 0 and `ahead` extra heads.
    fn lag(&self, ahead: usize) -> usize {
        self.headed[..ahead].iter().copied().fold(self.tokens.len() - 1, usize::min)
    }

    /// The token, or draft, at an own position.
    fn token(&self, at: usize) -> u32 {
        match at.checked_sub(self.tokens.len()) {
            None => self.tokens[at],
            Some(draft) => self.drafts[draft],
        }
    }

    /// The draw from `row` of the token `ahead` positions after the next one.
    fn draw(&self, row: usize, ahead: usize) -> Draw {
        Draw { row, noise: self.noise, position: self.position() + ahead }
    }

    /// Takes the token after the last one and, as long as the drafts hold, those after the drafts: as many as `most`,
    /// of which `draw` says the i-th.
    fn accept_all(&mut self, most: usize, draw: impl Fn(usize) -> Drawn, engine: &Engine<B>) {
        self.taken = 0;
        for i in 0..most {
            let Ok(token) = draw(i) else {
                self.outcome = Err(SamplerError::NotFinite {
                    task: self.prompt.request.task.clone(),
                    index: self.index,
                    position: self.position(),
                });
                return;
            };
            self.taken += 1;
            self.outcome = self.accept(token, engine);
            if !matches!(self.outcome, Ok(None)) || self.drafts.get(i) != Some(&token) {
                return;
            }
        }
    }

    /// Appends a token; says why the sequence is finished, if it is.
    fn accept(&mut self, token: u32, engine: &Engine<B>) -> Result<Option<Finish>, SamplerError> {
        self.tokens.push(token);
        if engine.tokenizer.is_eos(token) {
            return Ok(Some(Finish::Eos));
        }
        if self.text.push(&self.stream.push(&engine.tokenizer, token)?) {
            return Ok(Some(Finish::Stop));
        }
        if self.tokens.len() >= engine.sampling.max_tokens {
            return Ok(Some(Finish::Length));
        }
        let full = self.position() >= engine.config().max_seq_len;
        Ok(full.then_some(Finish::Context))
    }
}
