//! Sixteen sums side by side, in the registers that a machine has.

use half::{bf16, f16};

/// Sums that are kept side by side: those of one row and one panel.
pub(in super::super) const LANES: usize = 16;

/// The instruction sets that products are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Vectors {
    /// Whatever the target has.
    Any,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Vectors {
    /// Those of this machine, the widest first.
    pub(in super::super) fn all() -> impl Iterator<Item = Vectors> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            std::arch::is_x86_feature_detected!("avx512f").then_some(Vectors::Avx512),
            (std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
                && std::arch::is_x86_feature_detected!("f16c"))
            .then_some(Vectors::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special = [None; 0];
        special.into_iter().flatten().chain([Vectors::Any])
    }

    /// The widest of this machine.
    pub(in super::super) fn best() -> Vectors {
        Vectors::all().next().unwrap_or(Vectors::Any)
    }

    /// Does work with these, which must be of [`all`](Self::all).
    pub(in super::super) fn run(self, work: impl Work) {
        match self {
            Vectors::Any => <[f32; LANES]>::compiled(work),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2 => Avx2::compiled(work),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512 => Avx512::compiled(work),
        }
    }
}

/// Work that is compiled for every instruction set. What it calls must be inlined to be so, too.
pub(in super::super) trait Work {
    /// Does it.
    fn run<S: Sums>(self);
}

/// Sixteen `f32` in the registers of one instruction set.
pub(in super::super) trait Sums: Copy {
    /// Of these, as many as there are registers for, beside a factor,
    const ROOM: usize;
    /// and the most rows that share a weight.
    const ROWS: usize;

    /// From memory.
    fn of(values: &[f32; LANES]) -> Self;
    /// As [`of`](Self::of), from bf16.
    fn of_bf16(values: &[bf16; LANES]) -> Self;
    /// As [`of`](Self::of), from f16.
    fn of_f16(values: &[f16; LANES]) -> Self;
    /// To memory.
    fn values(self) -> [f32; LANES];
    /// Each sum with a term more: `factor` times its weight, fused.
    fn fused(self, factor: f32, weights: Self) -> Self;
    /// Does work in a function that is compiled for these, which the machine must have.
    fn compiled(work: impl Work);
}

/// Lines of sixteen numbers side by side.
pub(in super::super) type Panel<W = f32> = [[W; LANES]];

/// What a weight is kept as. It is an f32 wherever it is used, exactly.
pub(in super::super) trait Number: Copy + Send + Sync {
    /// From an f32 that is such a number.
    fn exactly(value: f32) -> Self;
    /// As an f32.
    fn value(self) -> f32;
    /// Sixteen, in registers.
    fn load<S: Sums>(weights: &[Self; LANES]) -> S;
}

macro_rules! numbers {
    ($($number:ty: $exactly:expr, $load:ident;)*) => {$(
        impl Number for $number {
            #[inline(always)]
            fn exactly(value: f32) -> Self {
                $exactly(value)
            }

            #[inline(always)]
            fn value(self) -> f32 {
                self.into()
            }

            #[inline(always)]
            fn load<S: Sums>(weights: &[Self; LANES]) -> S {
                S::$load(weights)
            }
        }
    )*};
}

fn upper_half(value: f32) -> bf16 {
    let bits = value.to_bits();
    debug_assert!(bits as u16 == 0, "{value} is no bf16");
    bf16::from_bits((bits >> 16) as u16)
}

numbers! {
    f32: std::convert::identity, of;
    bf16: upper_half, of_bf16;
    f16: f16::from_f32, of_f16;
}

impl Sums for [f32; LANES] {
    const ROOM: usize = 7;
    const ROWS: usize = 4;

    #[inline(always)]
    fn of(values: &[f32; LANES]) -> Self {
        *values
    }

    #[inline(always)]
    fn of_bf16(values: &[bf16; LANES]) -> Self {
        values.map(bf16::to_f32)
    }

    #[inline(always)]
    fn of_f16(values: &[f16; LANES]) -> Self {
        values.map(f16::to_f32)
    }

    #[inline(always)]
    fn values(self) -> [f32; LANES] {
        self
    }

    #[inline(always)]
    fn fused(self, factor: f32, weights: Self) -> Self {
        std::array::from_fn(|i| factor.mul_add(weights[i], self[i]))
    }

    fn compiled(work: impl Work) {
        work.run::<Self>();
    }
}

#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    // Neither the instructions' own ways from and to memory nor bytemuck's: in a debug build those check each copy, and
    // these leave the registers.
    use std::mem::transmute;

    use half::{bf16, f16};

    use super::{LANES, Sums, Work};

    /// Two registers of AVX2. To be used inside of functions that are compiled for it.
    pub(super) type Avx2 = [__m256; 2];
    /// One register of AVX-512. To be used inside of functions that are compiled for it.
    pub(super) type Avx512 = __m512;

    impl Sums for Avx2 {
        const ROOM: usize = 7;
        const ROWS: usize = 6;

        #[inline(always)]
        fn of(values: &[f32; LANES]) -> Self {
            // SAFETY: both are sixteen numbers.
            #[allow(unsafe_code)]
            unsafe {
                transmute::<[f32; LANES], Avx2>(*values)
            }
        }

        #[inline(always)]
        fn of_bf16(values: &[bf16; LANES]) -> Self {
            // SAFETY: both are sixteen numbers of two bytes; the rest as in `fused`.
            #[allow(unsafe_code)]
            unsafe {
                let halves = transmute::<[bf16; LANES], [__m128i; 2]>(*values);
                halves.map(|half| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half))))
            }
        }

        #[inline(always)]
        fn of_f16(values: &[f16; LANES]) -> Self {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                let halves = transmute::<[f16; LANES], [__m128i; 2]>(*values);
                halves.map(|half| _mm256_cvtph_ps(half))
            }
        }

        #[inline(always)]
        fn values(self) -> [f32; LANES] {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                transmute::<Avx2, [f32; LANES]>(self)
            }
        }

        #[inline(always)]
        fn fused(self, factor: f32, weights: Self) -> Self {
            // SAFETY: only functions that are compiled for AVX2, FMA and F16C use this type.
            #[allow(unsafe_code)]
            unsafe {
                let factor = _mm256_set1_ps(factor);
                [_mm256_fmadd_ps(factor, weights[0], self[0]), _mm256_fmadd_ps(factor, weights[1], self[1])]
            }
        }

        #[inline(always)]
        fn compiled(work: impl Work) {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn wide(work: impl Work) {
                work.run::<Avx2>();
            }
            // SAFETY: the machine has what it takes, as the trait asks.
            #[allow(unsafe_code)]
            unsafe {
                wide(work)
            }
        }
    }

    impl Sums for Avx512 {
        const ROOM: usize = 31;
        const ROWS: usize = 12;

        #[inline(always)]
        fn of(values: &[f32; LANES]) -> Self {
            // SAFETY: both are sixteen numbers.
            #[allow(unsafe_code)]
            unsafe {
                transmute::<[f32; LANES], Avx512>(*values)
            }
        }

        #[inline(always)]
        fn of_bf16(values: &[bf16; LANES]) -> Self {
            // SAFETY: both are sixteen numbers of two bytes; the rest as in `fused`.
            #[allow(unsafe_code)]
            unsafe {
                let bits = _mm512_cvtepu16_epi32(transmute::<[bf16; LANES], __m256i>(*values));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            }
        }

        #[inline(always)]
        fn of_f16(values: &[f16; LANES]) -> Self {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_cvtph_ps(transmute::<[f16; LANES], __m256i>(*values))
            }
        }

        #[inline(always)]
        fn values(self) -> [f32; LANES] {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                transmute::<Avx512, [f32; LANES]>(self)
            }
        }

        #[inline(always)]
        fn fused(self, factor: f32, weights: Self) -> Self {
            // SAFETY: only functions that are compiled for AVX-512 use this type.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_fmadd_ps(_mm512_set1_ps(factor), weights, self)
            }
        }

        #[inline(always)]
        fn compiled(work: impl Work) {
            #[target_feature(enable = "avx512f")]
            fn wide(work: impl Work) {
                work.run::<Avx512>();
            }
            // SAFETY: the machine has what it takes, as the trait asks.
            #[allow(unsafe_code)]
            unsafe {
                wide(work)
            }
        }
    }
}

/// Panels that are multiplied beside each other by `rows` rows, of `left` that there are: as many as leave every sum and
/// weight a register, a power of two; more than eight streams through memory are slower again.
#[inline(always)]
pub(in super::super) fn beside<S: Sums>(rows: usize, left: usize) -> usize {
    1 << (S::ROOM / registers(rows)).min(left).min(8).ilog2()
}

/// Registers that `rows` rows take for each panel: their sums and a weight, which a single row has straight from
/// memory, or by way of one that is free.
const fn registers(rows: usize) -> usize {
    if rows == 1 { 1 } else { rows + 1 }
}

/// sums (rows, `wide`, 16) += x (rows, depth) times panels, (depth, 16) each, one term after the other. The panels may
/// come in pieces: first `wide` of them for the first terms, as many as they are deep, then `wide` for the next. The sums
/// of two rows are `stride` lines apart. No more rows than [`Sums::ROWS`], and as wide as [`beside`] says.
#[inline(always)]
pub(in super::super) fn accumulate<S: Sums, W: Number>(
    x: &[&[f32]],
    panels: &[&Panel<W>],
    wide: usize,
    sums: &mut Panel,
    stride: usize,
) {
    macro_rules! sizes {
        ($($rows:literal: $($panels:literal)*;)*) => {
            match (x.len(), wide) {
                $($(($rows, $panels) => S::compiled(Tile::<W, $rows, $panels> { x, panels, sums, stride }),)*)*
                (rows, panels) => unreachable!("a tile of {rows} rows and {panels} panels"),
            }
        };
    }
    sizes! {
        1: 1 2 4 8; 2: 1 2 4 8; 3: 1 2 4; 4: 1 2 4; 5: 1 2 4; 6: 1 2 4;
        7: 1 2; 8: 1 2; 9: 1 2; 10: 1 2; 11: 1 2; 12: 1 2;
    }
}

/// [`accumulate`] for one size. A function of its own for each, or registers run short.
struct Tile<'a, W, const ROWS: usize, const PANELS: usize> {
    x: &'a [&'a [f32]],
    panels: &'a [&'a Panel<W>],
    sums: &'a mut Panel,
    stride: usize,
}

impl<W: Number, const ROWS: usize, const PANELS: usize> Work for Tile<'_, W, ROWS, PANELS> {
    #[inline(always)]
    fn run<S: Sums>(self) {
        /// Lines of weights, however wide, that are asked for ahead of their use.
        const AHEAD: usize = 16;
        let Tile { x, panels, sums, stride } = self;
        assert!(ROWS <= S::ROWS && registers(ROWS) * PANELS <= S::ROOM); // leaves only the sizes that are used
        // Loops rather than closures: all must be inlined, or sums would go through memory.
        let mut running = [[S::of(&[0.0; LANES]); PANELS]; ROWS];
        for i in 0..ROWS {
            for j in 0..PANELS {
                running[i][j] = S::of(&sums[i * stride + j]);
            }
        }
        let mut done = 0;
        for panels in panels.chunks_exact(PANELS) {
            let depth = panels[0].len();
            let (mut rows, mut columns): ([&[f32]; ROWS], [&Panel<W>; PANELS]) = ([&[]; ROWS], [&[]; PANELS]);
            for i in 0..ROWS {
                rows[i] = &x[i][done..][..depth];
            }
            for j in 0..PANELS {
                columns[j] = &panels[j][..depth];
            }
            for k in 0..depth {
                let mut weights = [S::of(&[0.0; LANES]); PANELS];
                for j in 0..PANELS {
                    weights[j] = W::load::<S>(&columns[j][k]);
                    expect(columns[j].as_ptr().wrapping_add(k).wrapping_add(AHEAD));
                }
                for i in 0..ROWS {
                    for j in 0..PANELS {
                        running[i][j] = running[i][j].fused(rows[i][k], weights[j]);
                    }
                }
            }
            done += depth;
        }
        for i in 0..ROWS {
            for j in 0..PANELS {
                sums[i * stride + j] = running[i][j].values();
            }
        }
    }
}

/// Asks for a line of memory that will be read soon. A hint alone: the address need not be anybody's.
#[inline(always)]
fn expect<W>(line: *const [W; LANES]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing; an address that is nobody's is ignored.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
