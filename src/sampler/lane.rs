//! One lane of the engine: a batch of sequences and the prompt that comes next, step by step.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::backend::{Backend, Draw, Logits};
use super::engine::{Engine, PIECE, Queue, Work};
use super::sequence::{Opening, Prompt, Sequence};
use super::speculate::{CATCH_UP, Chooser, Speculation};
use super::{Finish, Sample, SamplerError};
use crate::model::{Picked, Row, Span, Threads};

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
        let mut ahead = self.chooser.drafts(active.len());
        // Not where heads would have to catch up with more rows than memory was planned for.
        let behind: usize = active.iter().map(|sequence| sequence.behind(ahead)).sum();
        if behind > self.batch * CATCH_UP {
            ahead = 0;
        }
        let piece = filling.as_ref().map_or(0..0, |opening| opening.piece());
        let prompt_ends = filling.as_ref().is_some_and(|opening| piece.end == opening.work.ids.len());

        let count = self.place(active, ahead);
        self.forward(active, count, filling.as_deref(), prompt_ends)?;
        let prompt_logits = self.choose(active, prompt_ends)?;
        // What a model's heads are worth is told of those steps alone in which all of them drafted.
        if ahead > 0 && ahead + 1 == self.model.heads() {
            active.iter().for_each(|sequence| self.speculation.note(sequence.drafts.len(), sequence.taken));
        }
        if self.chooser.may() && (ahead > 0 || !piece.is_empty()) {
            self.draft(active, ahead, count, filling.as_deref())?;
        }

        if let Some(opening) = filling {
            opening.fed = piece.end;
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
        } else {
            let taken = active.iter().map(|sequence| sequence.taken).sum();
            self.chooser.note(active.len(), ahead, taken, begun.elapsed());
        }
        Ok(())
    }

    /// Gives every sequence rows, and room in the cache for them: positions whose extra heads lag behind, the last token,
    /// and at most `ahead` drafts. Returns how many rows that is.
    fn place(&mut self, active: &mut [Sequence<B>], ahead: usize) -> usize {
        let mut count = 0;
        for sequence in active {
            sequence.drafts.truncate(ahead);
            sequence.first = count;
            sequence.from = sequence.tokens.len() - 1 - sequence.behind(ahead);
            let end = sequence.tokens.len() + sequence.drafts.len();
            let more = end.saturating_sub(sequence.own.len());
            B::grow(&mut self.cache, &mut sequence.own, more);
            count += end - sequence.from;
        }
        count
    }

    /// Runs trunk and head 0 over the `count` rows of the sequences and then the prompt's piece. Hidden states are left
    /// for each sequence's last token and drafts, and for the prompt's last token where it ends.
    fn forward(
        &mut self,
        active: &[Sequence<B>],
        count: usize,
        filling: Option<&Opening<B>>,
        prompt_ends: bool,
    ) -> Result<(), SamplerError> {
        let nothing = Span::default();
        let mut rows: Vec<Row> = Vec::with_capacity(count + PIECE);
        let mut picked: Vec<usize> = Vec::with_capacity(count + 1);
        for sequence in active {
            rows.extend(sequence.rows(sequence.from..sequence.tokens.len() + sequence.drafts.len()));
            picked.extend(rows.len() - sequence.drafts.len() - 1..rows.len());
        }
        rows.extend(filling.iter().flat_map(|opening| opening.rows(&nothing)));
        picked.extend(prompt_ends.then(|| rows.len() - 1));
        let (all, picked) = (Picked::All, Picked::These(&picked));
        self.model.trunk(&rows, &mut self.cache, &mut self.work)?;
        Ok(self.model.run_heads(0..1, &rows, all, picked, &mut self.cache, &mut self.work)?)
    }

    /// Lets every sequence choose from logits of its own. Returns the prompt's, where it ends.
    fn choose(&mut self, active: &mut [Sequence<B>], prompt_ends: bool) -> Result<Option<B::Kept>, SamplerError> {
        if active.is_empty() && !prompt_ends {
            return Ok(None);
        }
        let (engine, sampling) = (self.engine, self.engine.sampling);
        let mut wanted = Vec::new();
        let mut choosing: Vec<(&mut Sequence<B>, usize)> = Vec::with_capacity(active.len());
        for sequence in active {
            let first = wanted.len();
            wanted.extend((0..=sequence.drafts.len()).map(|ahead| sequence.draw(first + ahead, ahead)));
            choosing.push((sequence, first));
        }
        let share = self.share(wanted.len());
        let logits = self.model.logits(&mut self.work, &wanted, sampling)?;
        let choose = |(sequence, first): (&mut Sequence<B>, usize)| {
            let draws = &wanted[first..=first + sequence.drafts.len()];
            sequence.accept_all(draws.len(), |ahead| logits.draw(draws[ahead], sampling), engine);
        };
        match share {
            true => choosing.into_par_iter().with_max_len(1).for_each(choose),
            false => choosing.into_iter().for_each(choose),
        }
        Ok(if prompt_ends { Some(logits.keep(wanted.len())?) } else { None })
    }

    /// Whether threads share so many draws: not where one is done with them before another is awake.
    fn share(&self, draws: usize) -> bool {
        self.threads == Threads::All && draws * self.model.config().vocab_size > 1 << 16
    }

    /// Runs the extra heads over the rows that turned out right, for their keys and values, and lets the first `ahead` of
    /// them draft one token each for every sequence that goes on. A prompt's rows, which begin at `count`, are run by all
    /// of them.
    fn draft(
        &mut self,
        active: &mut [Sequence<B>],
        ahead: usize,
        count: usize,
        filling: Option<&Opening<B>>,
    ) -> Result<(), SamplerError> {
        let nothing = Span::default();
        let (mut rows, mut from, mut picked): (Vec<Row>, Vec<usize>, Vec<usize>) = Default::default();
        let mut drafting = Vec::new();
        for (i, sequence) in active.iter().enumerate().filter(|(_, sequence)| ahead > 0 && sequence.runs()) {
            // The last token taken has not been through the model yet.
            let right = sequence.from..sequence.tokens.len() - 1;
            from.extend(sequence.first..sequence.first + right.len());
            rows.extend(sequence.rows(right));
            picked.push(rows.len() - 1);
            drafting.push(i);
        }
        let heads = 1..filling.map_or(1 + ahead, |_| self.model.heads());
        if let Some(opening) = filling {
            from.extend(count..count + opening.piece().len());
            rows.extend(opening.rows(&nothing));
        }
        let (from, picked) = (Picked::These(&from), Picked::These(&picked));
        self.model.run_heads(heads.clone(), &rows, from, picked, &mut self.cache, &mut self.work)?;
        if drafting.is_empty() {
            return Ok(());
        }
        let each = drafting.len();
        let draw = |row: usize| active[drafting[row % each]].draw(row, row / each);
        let draws: Vec<Draw> = (0..heads.len() * each).map(draw).collect();
        let (share, sampling) = (self.share(draws.len()), self.engine.sampling);
        let logits = self.model.logits(&mut self.work, &draws, sampling)?;
        let draw = |&draw: &Draw| logits.draw(draw, sampling).ok();
        let drafts: Vec<Option<u32>> = match share {
            true => draws.par_iter().map(draw).collect(),
            false => draws.iter().map(draw).collect(),
        };
        let context = self.model.config().max_seq_len;
        for (at, &i) in drafting.iter().enumerate() {
            let sequence = &mut active[i];
            sequence.headed[..ahead].fill(sequence.tokens.len() - 1);
            // A draft beyond the last token there can be helps nobody. A head without a number to say ends the chain.
            let room = (sampling.max_tokens - sequence.tokens.len()).min(context - sequence.position());
            let most = ahead.min(room.saturating_sub(1));
            sequence.drafts.clear();
            sequence.drafts.extend(drafts[at..].iter().step_by(each).map_while(|&draft| draft).take(most));
        }
        Ok(())
    }
}
