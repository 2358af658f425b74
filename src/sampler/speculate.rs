//! Self-speculation: extra heads draft, head 0 verifies, and the output is the plain output, token for token.
//!
//! A draft is chosen by the rule and the noise of its own position (shared-noise Gumbel coupling, Daliri et al. 2024,
//! arXiv 2408.07978), goes through the model as one more row of its sequence, and is kept while it equals what head 0
//! chooses there (blockwise decoding, Stern et al. 2018, arXiv 1811.03115). A wrong draft costs time alone.

use std::time::Duration;

use crate::model::Heads;

/// How tokens are decoded. Never changes a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Decode {
    /// One token a forward.
    Plain,
    /// The extra heads draft, where there are any.
    Speculative,
    /// Whichever is measured to be faster.
    #[default]
    Auto,
}

impl Decode {
    /// The heads it needs.
    pub fn heads(self) -> Heads {
        if self == Decode::Plain { Heads::Next } else { Heads::All }
    }
}

/// How well the extra heads' drafts fared, in steps in which all of them drafted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speculation {
    /// Forwards of a sequence that speculated.
    pub forwards: u64,
    /// Tokens that came of them.
    pub tokens: u64,
    /// Drafts of each extra head that were verified, and those of them that became tokens.
    pub drafts: Vec<(u64, u64)>,
}

impl Speculation {
    /// Tokens per forward; `None` when nothing was speculated.
    pub fn tokens_per_forward(&self) -> Option<f64> {
        (self.forwards > 0).then(|| self.tokens as f64 / self.forwards as f64)
    }

    /// Share of each extra head's drafts that became tokens.
    pub fn acceptance(&self) -> Vec<f64> {
        let share = |&(offered, accepted): &(u64, u64)| accepted as f64 / (offered.max(1)) as f64;
        self.drafts.iter().map(share).collect()
    }

    /// Adds another lane's.
    pub(super) fn add(&mut self, other: &Speculation) {
        self.forwards += other.forwards;
        self.tokens += other.tokens;
        self.drafts.resize(self.drafts.len().max(other.drafts.len()), (0, 0));
        for (sum, (offered, accepted)) in self.drafts.iter_mut().zip(&other.drafts) {
            *sum = (sum.0 + offered, sum.1 + accepted);
        }
    }

    /// A forward of one sequence that verified `drafts` drafts and made `tokens` tokens.
    pub(super) fn note(&mut self, drafts: usize, tokens: usize) {
        self.forwards += 1;
        self.tokens += tokens as u64;
        self.drafts.resize(self.drafts.len().max(drafts), (0, 0));
        for (head, (offered, accepted)) in self.drafts.iter_mut().enumerate().take(drafts) {
            *offered += 1;
            *accepted += u64::from(head + 1 < tokens);
        }
    }
}

/// Steps that are measured of each number of drafts. The first is not counted: it pays for the change.
const PROBE: u32 = 9;
/// Steps until it is measured again.
const HOLD: u32 = 1000;

/// Positions for each sequence that extra heads may catch up with in one step: more than a measurement without them leaves
/// behind. Memory is planned for so many.
pub(super) const CATCH_UP: usize = 16;

/// Decides, for each number of running sequences up to a factor of two, how many tokens to draft.
pub(super) struct Chooser {
    decode: Decode,
    most: usize,
    sizes: Vec<Measured>,
}

/// Steps, tokens and time with 0, 1, 2, … drafts.
#[derive(Clone)]
struct Measured {
    ways: Vec<(u32, u64, Duration)>,
    held: u32,
}

impl Chooser {
    /// For a model of so many heads.
    pub(super) fn new(decode: Decode, heads: usize) -> Chooser {
        let decode = if heads > 1 { decode } else { Decode::Plain };
        Chooser { decode, most: heads - 1, sizes: vec![Measured::new(heads); 32] }
    }

    /// Whether any step may speculate.
    pub(super) fn may(&self) -> bool {
        self.decode != Decode::Plain
    }

    /// Drafts of the next step, of `running` sequences.
    pub(super) fn drafts(&self, running: usize) -> usize {
        match self.decode {
            Decode::Plain => 0,
            Decode::Speculative => self.most,
            Decode::Auto => self.sizes[size(running)].best(),
        }
    }

    /// Takes down what a step with so many drafts brought.
    pub(super) fn note(&mut self, running: usize, drafts: usize, tokens: usize, time: Duration) {
        let measured = &mut self.sizes[size(running)];
        let (steps, sum, spent) = &mut measured.ways[drafts];
        *steps += 1;
        if *steps > 1 && *steps <= PROBE {
            (*sum, *spent) = (*sum + tokens as u64, *spent + time);
        }
        measured.held += 1;
        if measured.held >= HOLD {
            *measured = Measured::new(self.most + 1);
        }
    }
}

impl Measured {
    fn new(ways: usize) -> Measured {
        Measured { ways: vec![(0, 0, Duration::ZERO); ways], held: 0 }
    }

    /// The number of drafts that made most tokens in its time; one that is still to be measured comes first, and more
    /// drafts before fewer, since heads that drafted no longer would have to catch up.
    fn best(&self) -> usize {
        let numbered = || self.ways.iter().enumerate().rev();
        if let Some((drafts, _)) = numbered().find(|(_, (steps, ..))| *steps < PROBE) {
            return drafts;
        }
        let rate = |&(_, tokens, time): &(u32, u64, Duration)| tokens as f64 / time.as_secs_f64().max(1e-9);
        numbered().max_by(|a, b| rate(a.1).total_cmp(&rate(b.1))).map_or(0, |(drafts, _)| drafts)
    }
}

fn size(running: usize) -> usize {
    (usize::BITS - running.leading_zeros()).min(31) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_fastest_way_for_each_size() {
        let mut chooser = Chooser::new(Decode::Auto, 4);
        let mut step = |running: usize, ms: [u64; 4], tokens: [usize; 4]| {
            let drafts = chooser.drafts(running);
            chooser.note(running, drafts, tokens[drafts] * running, Duration::from_millis(ms[drafts]));
            drafts
        };
        for _ in 0..4 * PROBE {
            step(1, [10, 12, 14, 16], [1, 2, 3, 3]); // the third draft is never right
            step(64, [10, 30, 40, 50], [1, 2, 3, 3]); // dearer by more than it brings
        }
        assert_eq!(step(1, [10, 12, 14, 16], [1, 2, 3, 3]), 2);
        assert_eq!(step(64, [10, 30, 40, 50], [1, 2, 3, 3]), 0);
        assert!(!Chooser::new(Decode::Auto, 1).may());
        assert_eq!(Chooser::new(Decode::Speculative, 3).drafts(7), 2);
    }

    #[test]
    fn drafts_are_counted_by_head() {
        let mut speculation = Speculation::default();
        speculation.note(3, 4);
        speculation.note(3, 2);
        speculation.note(0, 1);
        assert_eq!(speculation.tokens_per_forward(), Some(7.0 / 3.0));
        assert_eq!(speculation.acceptance(), [1.0, 0.5, 0.5]);
    }
}
