//! Numbers that begin with a line of the processor's cache, so that no vector of them lies on two.

use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;

use super::sums::LANES;

/// A line of the processor's cache.
type Line = [f32; LANES];

/// A slice of numbers whose first lies at the beginning of a cache line.
#[derive(Default)]
pub(in super::super) struct Aligned<T = f32> {
    numbers: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Zeroable> Aligned<T> {
    /// So many zeros.
    pub(in super::super) fn zeros(len: usize) -> Aligned<T> {
        let room = size_of::<Line>() / size_of::<T>() - 1;
        let numbers: Vec<T> = bytemuck::zeroed_vec(len + room); // zeroed by the system when it is touched
        let start = numbers.as_ptr().align_offset(size_of::<Line>()).min(room);
        Aligned { numbers, start, len }
    }

    /// Makes it `len` long; what it holds is of no use afterwards.
    pub(in super::super) fn renew(&mut self, len: usize) {
        if self.start + len > self.numbers.len() {
            *self = Aligned::zeros(len.next_power_of_two()); // a completion grows by one position a step
        }
        self.len = len;
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.numbers[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.numbers[self.start..][..self.len]
    }
}
