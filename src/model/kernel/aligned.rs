//! Numbers that begin with a line of the processor's cache, so that no vector of them lies on two.

use std::ops::{Deref, DerefMut};

use super::sums::LANES;

/// A slice of `f32` whose first lies at the beginning of a cache line.
#[derive(Default)]
pub(in super::super) struct Aligned {
    floats: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    pub(in super::super) fn zeros(len: usize) -> Aligned {
        let floats = vec![0.0; len + LANES - 1];
        let start = floats.as_ptr().align_offset(size_of::<[f32; LANES]>()).min(LANES - 1);
        Aligned { floats, start, len }
    }

    /// Makes it `len` long; what it holds is of no use afterwards.
    pub(in super::super) fn renew(&mut self, len: usize) {
        if self.start + len > self.floats.len() {
            *self = Aligned::zeros(len.next_power_of_two()); // a completion grows by one position a step
        }
        self.len = len;
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.start..][..self.len]
    }
}
