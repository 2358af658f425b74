//! What a lane works on: prompts, and the samples that are being written after them.

use std::ops::Range;
use std::sync::Arc;

use super::backend::{Backend, Draw, Drawn};
use super::engine::{Engine, PIECE, Work};
use super::noise::Noise;
use super::stop::Watched;
use super::{Finish, Request, SamplerError};
use crate::model::{Row, Span};
use crate::tokenizer::Stream;

/// A prompt in the cache, with the logits of its first new token.
pub(super) struct Prompt<'a, B: Backend> {
    pub(super) request: &'a Request,
    pub(super) ids: &'a [u32],
    pub(super) span: Span,
    pub(super) logits: B::Kept,
    pub(super) stream: Stream,
}

/// A prompt on its way: first into the cache, then to its samples.
pub(super) struct Opening<'a, B: Backend> {
    pub(super) work: &'a Work<'a>,
    /// Until it is whole, the span and how much of it is filled.
    pub(super) span: Span,
    pub(super) fed: usize,
    /// Once it is whole.
    pub(super) prompt: Option<Arc<Prompt<'a, B>>>,
    pub(super) started: usize,
}

impl<B: Backend> Opening<'_, B> {
    /// The positions that go with the next step.
    pub(super) fn piece(&self) -> Range<usize> {
        self.fed..self.work.ids.len().min(self.fed + PIECE)
    }

    /// Their rows, which have no prefix: `nothing`.
    pub(super) fn rows<'r>(&'r self, nothing: &'r Span) -> impl Iterator<Item = Row<'r>> {
        let row = |position| Row { token: self.work.ids[position], position, prefix: nothing, own: &self.span };
        self.piece().map(row)
    }
}

/// One sample being written.
pub(super) struct Sequence<'a, B: Backend> {
    pub(super) prompt: Arc<Prompt<'a, B>>,
    pub(super) index: u32,
    pub(super) own: Span,
    /// Tokens chosen so far. All but the last have gone through the model.
    pub(super) tokens: Vec<u32>,
    /// Drafts of the tokens after the last one.
    pub(super) drafts: Vec<u32>,
    /// Own positions with keys and values of each extra head.
    pub(super) headed: Vec<usize>,
    /// The last step's first row of this sequence, and its own position.
    pub(super) first: usize,
    pub(super) from: usize,
    pub(super) stream: Stream,
    pub(super) text: Watched<'a>,
    /// What the last step made of it: tokens taken, and why it ended.
    pub(super) taken: usize,
    pub(super) outcome: Result<Option<Finish>, SamplerError>,
    noise: Noise,
}

impl<'a, B: Backend> Sequence<'a, B> {
    /// Sample `index` after a prompt.
    pub(super) fn new(prompt: Arc<Prompt<'a, B>>, index: u32, engine: &Engine<B>) -> Sequence<'a, B> {
        Sequence {
            noise: Noise::new(engine.sampling.seed, &prompt.request.task, index),
            stream: prompt.stream.clone(),
            text: Watched::new(&prompt.request.prompt.stop),
            own: Span::default(),
            tokens: Vec::new(),
            drafts: Vec::new(),
            headed: vec![0; engine.heads() - 1],
            first: 0,
            from: 0,
            taken: 0,
            outcome: Ok(None),
            index,
            prompt,
        }
    }

    /// The position of the token that comes next.
    pub(super) fn position(&self) -> usize {
        self.prompt.ids.len() + self.tokens.len()
    }

    /// Positions before the last token's that one of the first `ahead` extra heads has not seen.
    pub(super) fn behind(&self, ahead: usize) -> usize {
        let last = self.tokens.len() - 1;
        last - self.headed[..ahead].iter().copied().fold(last, usize::min)
    }

    /// Whether it goes on.
    pub(super) fn runs(&self) -> bool {
        matches!(self.outcome, Ok(None))
    }

    /// Rows of own positions, tokens and then drafts.
    pub(super) fn rows(&self, positions: Range<usize>) -> impl Iterator<Item = Row<'_>> {
        let (prefix, own) = (&self.prompt.span, &self.own);
        positions.map(move |at| Row { token: self.token(at), position: prefix.len() + at, prefix, own })
    }

    /// The token, or draft, at an own position.
    fn token(&self, at: usize) -> u32 {
        match at.checked_sub(self.tokens.len()) {
            None => self.tokens[at],
            Some(draft) => self.drafts[draft],
        }
    }

    /// The draw from `row` of the token `ahead` positions after the next one.
    pub(super) fn draw(&self, row: usize, ahead: usize) -> Draw {
        Draw { row, noise: self.noise, position: self.position() + ahead }
    }

    /// Takes the token after the last one and, as long as the drafts hold, those after the drafts: as many as `most`,
    /// of which `draw` says the i-th.
    pub(super) fn accept_all(&mut self, most: usize, draw: impl Fn(usize) -> Drawn, engine: &Engine<B>) {
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
            if !self.runs() || self.drafts.get(i) != Some(&token) {
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
