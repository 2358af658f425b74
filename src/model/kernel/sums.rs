//! Sixteen sums side by side, in the registers that a machine has.

/// Sums that are kept side by side: those of one row and one panel.
pub(super) const LANES: usize = 16;

/// The instruction sets that products are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectors {
    /// Whatever the target has.
    Any,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Vectors {
    /// Those of this machine, the widest first.
    pub(super) fn all() -> impl Iterator<Item = Vectors> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            std::arch::is_x86_feature_detected!("avx512f").then_some(Vectors::Avx512),
            (std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"))
                .then_some(Vectors::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special = [None; 0];
        special.into_iter().flatten().chain([Vectors::Any])
    }
}

/// Sixteen `f32`, whose bytes are those of `[f32; 16]`.
pub(super) trait Sums: Copy {
    /// Of these, as many as stay in registers beside weights and factors,
    const ROOM: usize;
    /// and the most rows that share a weight.
    const ROWS: usize;

    /// Each sum with a term more: `factor` times its weight, fused.
    fn fused(self, factor: f32, weights: Self) -> Self;

    #[inline(always)]
    fn of(values: &[f32; LANES]) -> Self {
        const { assert!(size_of::<Self>() == size_of::<[f32; LANES]>()) };
        // SAFETY: the same bytes under another name, and all bytes are floats.
        #[allow(unsafe_code)]
        unsafe {
            std::mem::transmute_copy(values)
        }
    }

    #[inline(always)]
    fn values(self) -> [f32; LANES] {
        const { assert!(size_of::<Self>() == size_of::<[f32; LANES]>()) };
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            std::mem::transmute_copy(&self)
        }
    }
}

impl Sums for [f32; LANES] {
    const ROOM: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    fn fused(self, factor: f32, weights: Self) -> Self {
        std::array::from_fn(|i| factor.mul_add(weights[i], self[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Sums;

    /// Two registers of AVX2. To be used inside of functions that are compiled for it.
    pub(in super::super) type Avx2 = [__m256; 2];
    /// One register of AVX-512. To be used inside of functions that are compiled for it.
    pub(in super::super) type Avx512 = __m512;

    impl Sums for Avx2 {
        const ROOM: usize = 6;
        const ROWS: usize = 6;

        #[inline(always)]
        fn fused(self, factor: f32, weights: Self) -> Self {
            // SAFETY: only functions that are compiled for AVX2 and FMA use this type.
            #[allow(unsafe_code)]
            unsafe {
                let factor = _mm256_set1_ps(factor);
                [_mm256_fmadd_ps(factor, weights[0], self[0]), _mm256_fmadd_ps(factor, weights[1], self[1])]
            }
        }
    }

    impl Sums for Avx512 {
        const ROOM: usize = 24;
        const ROWS: usize = 12;

        #[inline(always)]
        fn fused(self, factor: f32, weights: Self) -> Self {
            // SAFETY: only functions that are compiled for AVX-512 use this type.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_fmadd_ps(_mm512_set1_ps(factor), weights, self)
            }
        }
    }
}

/// Asks for a line of memory that will be read soon. A hint alone: the address need not be anybody's.
#[inline(always)]
pub(super) fn expect(line: *const [f32; LANES]) {
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
