//! The matrix product, and how inner loops are compiled for the machine's vectors.
//!
//! Every element of a product is one chain of fused multiply-adds over the sum's terms in their order, cut into
//! pieces of [`PIECE`] terms that are added in order. Which rows stand beside a row, how many, which thread works and
//! how wide the vectors are changes the speed and not one bit.

mod sums;

use rayon::prelude::*;

use sums::{LANES, Sums, Vectors, expect};

/// Compiles a function for any machine, for AVX2 with FMA and for AVX-512, and calls the one that fits. All compute the
/// same: Rust never fuses or reorders floating-point operations by itself.
macro_rules! vectorised {
    ($(#[$attribute:meta])* $visible:vis fn $name:ident $([$($generic:tt)*])? ($($argument:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visible fn $name $(<$($generic)*>)? ($($argument: $kind),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain $(<$($generic)*>)? ($($argument: $kind),*) $body

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx512f") {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments)]
                fn widest $(<$($generic)*>)? ($($argument: $kind),*) { plain($($argument),*) }
                // SAFETY: the machine has the feature.
                #[allow(unsafe_code)]
                return unsafe { widest($($argument),*) };
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn wide $(<$($generic)*>)? ($($argument: $kind),*) { plain($($argument),*) }
                // SAFETY: the machine has both features.
                #[allow(unsafe_code)]
                return unsafe { wide($($argument),*) };
            }
            plain($($argument),*)
        }
    };
}
pub(crate) use vectorised;

/// Columns of the result that are computed side by side.
const PANEL: usize = LANES;
/// Terms of a sum before it is added to the result: as much of a panel as stays in the first cache.
const PIECE: usize = 512;
/// Multiplications below which threads cost more than they bring.
const WORTH_SHARING: usize = 1 << 20;

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The caller alone: others run beside it.
    One,
    /// All of rayon's.
    All,
}

/// A weight (out, width), stored as it is walked: panels of 16 columns of the result, each (width, 16).
pub(super) struct Matrix {
    out: usize,
    width: usize,
    panels: Vec<f32>,
    /// Where the first panel begins, so that no line of weights lies on two of the processor's cache.
    start: usize,
}

impl Matrix {
    /// A weight of zeros.
    pub(super) fn new(out: usize, width: usize) -> Matrix {
        let panels = vec![0.0; out.div_ceil(PANEL) * PANEL * width + PANEL - 1];
        let start = panels.as_ptr().align_offset(size_of::<[f32; PANEL]>()).min(PANEL - 1);
        Matrix { out, width, panels, start }
    }

    /// Puts the `rows` rows that `read` gives at output `first` and those after it. `read` fills a few rows from the one
    /// it is told on; each panel is filled by one thread, while the rows are still in the processor's cache.
    pub(super) fn fill<E: Send>(
        &mut self,
        first: usize,
        rows: usize,
        read: &(impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync),
    ) -> Result<(), E> {
        let (width, end) = (self.width, first + rows);
        let panels = &mut self.panels[self.start..];
        let panels = &mut panels[first / PANEL * PANEL * width..end.div_ceil(PANEL) * PANEL * width];
        let panels = panels.par_chunks_exact_mut(PANEL * width).enumerate();
        panels.try_for_each_init(Vec::new, |values: &mut Vec<f32>, (number, panel)| {
            let column = (first / PANEL + number) * PANEL;
            let (from, to) = (column.max(first), (column + PANEL).min(end));
            values.resize((to - from) * width, 0.0);
            read(from - first, values)?;
            interleave(values, width, &mut panel[from - column..]);
            Ok(())
        })
    }

    /// Terms of each sum.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.panels.len() * size_of::<f32>()
    }

    /// x Wᵀ: (rows, width) → `y`, (rows, out).
    pub(super) fn multiply(&self, x: &[f32], y: &mut Vec<f32>, threads: Threads) {
        self.multiply_with(Vectors::all().next().unwrap_or(Vectors::Any), x, y, threads);
    }

    fn multiply_with(&self, vectors: Vectors, x: &[f32], y: &mut Vec<f32>, threads: Threads) {
        let rows = x.len() / self.width;
        y.resize(rows * self.out, 0.0);
        let panels = self.out.div_ceil(PANEL);
        let target = Columns { start: y.as_mut_ptr(), width: self.out, rows };
        let span = |from: usize, to: usize| {
            let panels = &self.panels[self.start..][from * PANEL * self.width..to * PANEL * self.width];
            product(vectors, &Factors { panels, first: from, x, width: self.width }, &target);
        };
        if threads == Threads::One || rows * self.width * self.out < WORTH_SHARING {
            span(0, panels);
        } else {
            // A few more shares than threads: one that is held up by a judged program does not hold up the others.
            let shares = (rayon::current_num_threads() * 4).min(panels);
            (0..shares)
                .into_par_iter()
                .with_max_len(1)
                .for_each(|share| span(panels * share / shares, panels * (share + 1) / shares));
        }
    }
}

/// Rows of `width` values, side by side from the beginning of a panel on: value k of row i goes to place 16 k + i.
fn interleave(rows: &[f32], width: usize, panel: &mut [f32]) {
    // In squares: what is written stays in the first cache until it is whole, and every row is read by whole lines.
    for at in (0..width).step_by(PANEL) {
        let depth = PANEL.min(width - at);
        let square = &mut panel[at * PANEL..];
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (k, value) in row[at..at + depth].iter().enumerate() {
                square[k * PANEL + i] = *value;
            }
        }
    }
}

/// The result of a product, written by several threads: each has columns of its own.
struct Columns {
    start: *mut f32, // (rows, width)
    width: usize,
    rows: usize,
}

// SAFETY: threads write disjoint columns, and nobody reads before all have ended.
#[allow(unsafe_code)]
unsafe impl Sync for Columns {}

impl Columns {
    /// Adds to, or sets, columns `column`… of `row`, as many as there are up to a panel.
    #[inline(always)]
    fn put(&self, row: usize, column: usize, sums: &[f32; PANEL], add: bool) {
        let width = PANEL.min(self.width - column);
        assert!(row < self.rows);
        // SAFETY: row and columns lie inside the result, which outlives this, and these columns are the caller's own.
        #[allow(unsafe_code)]
        let to = unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + column), width) };
        let set =
            |to: &mut [f32]| to.iter_mut().zip(sums).for_each(|(to, sum)| *to = if add { *to + sum } else { *sum });
        match width {
            PANEL => set(&mut to[..PANEL]), // a length that the compiler knows
            _ => set(to),
        }
    }
}

/// What a thread multiplies.
struct Factors<'a> {
    panels: &'a [f32], // each (width, 16)
    first: usize,      // number of the first of them
    x: &'a [f32],      // (rows, width)
    width: usize,
}

fn product(vectors: Vectors, factors: &Factors, y: &Columns) {
    match vectors {
        Vectors::Any => walk::<[f32; LANES]>(factors, y),
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2 => {
            #[target_feature(enable = "avx2,fma")]
            fn wide(factors: &Factors, y: &Columns) {
                walk::<sums::Avx2>(factors, y);
            }
            // SAFETY: `Vectors::all` offers only what the machine has.
            #[allow(unsafe_code)]
            unsafe {
                wide(factors, y)
            }
        }
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx512 => {
            #[target_feature(enable = "avx512f")]
            fn wide(factors: &Factors, y: &Columns) {
                walk::<sums::Avx512>(factors, y);
            }
            // SAFETY: as above.
            #[allow(unsafe_code)]
            unsafe {
                wide(factors, y)
            }
        }
    }
}

/// Walks tiles, some rows by some panels, as many as fill the registers. All rows meet a group of panels while it is in
/// the processor's cache, and the panels are read from memory once and in order.
#[inline(always)]
fn walk<S: Sums>(factors: &Factors, y: &Columns) {
    let &Factors { panels, first, x, width } = factors;
    let (rows, count) = (x.len() / width, panels.len() / (width * PANEL));
    let tiles = rows.div_ceil(S::ROWS);
    let most = rows.div_ceil(tiles.max(1)).max(1);
    let mut number = 0;
    while number < count {
        // As many panels as leave every sum of the largest tile a register, a power of two; more than eight streams
        // through memory are slower again.
        let panels_of_tile = 1 << (S::ROOM / most).min(count - number).min(8).ilog2();
        let group = &panels[number * width * PANEL..][..panels_of_tile * width * PANEL];
        for at in (0..width).step_by(PIECE) {
            let depth = PIECE.min(width - at);
            for tile in 0..tiles {
                let (from, to) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                let piece = Piece { panels: &group[at * PANEL..], x: &x[from * width + at..], width, depth };
                let mut put = |row: usize, panel: usize, sums: [f32; PANEL]| {
                    y.put(from + row, (first + number + panel) * PANEL, &sums, at > 0);
                };
                macro_rules! sizes {
                    ($($rows:literal: $($panels:literal)*;)*) => {
                        match (to - from, panels_of_tile) {
                            $($(($rows, $panels) => sums::<S, $rows, $panels>(piece, &mut put),)*)*
                            (rows, panels) => unreachable!("a tile of {rows} rows and {panels} panels"),
                        }
                    };
                }
                sizes! {
                    1: 1 2 4 8; 2: 1 2 4 8; 3: 1 2 4 8; 4: 1 2 4; 5: 1 2 4; 6: 1 2 4;
                    7: 1 2; 8: 1 2; 9: 1 2; 10: 1 2; 11: 1 2; 12: 1 2;
                }
            }
        }
        number += panels_of_tile;
    }
}

/// Part of some panels and rows: terms of the same sums.
#[derive(Clone, Copy)]
struct Piece<'a> {
    panels: &'a [f32], // (depth, 16) each, 16 · width apart
    x: &'a [f32],      // (depth) each, width apart
    width: usize,
    depth: usize,
}

/// `ROWS` rows times `PANELS` panels; `put` takes the sums of a row and a panel.
#[inline(always)]
fn sums<S: Sums, const ROWS: usize, const PANELS: usize>(
    piece: Piece,
    put: &mut impl FnMut(usize, usize, [f32; PANEL]),
) {
    /// Lines of weights that are asked for ahead of their use.
    const AHEAD: usize = 16;
    assert!(ROWS <= S::ROWS && ROWS * PANELS <= S::ROOM); // leaves only the sizes that are used
    let Piece { panels, x, width, depth } = piece;
    let panels: [&[[f32; PANEL]]; PANELS] =
        std::array::from_fn(|j| &panels[j * width * PANEL..].as_chunks().0[..depth]);
    let x: [&[f32]; ROWS] = std::array::from_fn(|i| &x[i * width..][..depth]);
    let mut sums = [[S::of(&[0.0; PANEL]); PANELS]; ROWS];
    for k in 0..depth {
        let weights: [S; PANELS] = std::array::from_fn(|j| S::of(&panels[j][k]));
        for panel in panels {
            expect(panel.as_ptr().wrapping_add(k).wrapping_add(AHEAD));
        }
        for i in 0..ROWS {
            for j in 0..PANELS {
                sums[i][j] = sums[i][j].fused(x[i][k], weights[j]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, sums) in sums.iter().enumerate() {
            put(i, j, sums.values());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0
    }

    fn matrix(out: usize, width: usize) -> Matrix {
        let mut matrix = Matrix::new(out, width);
        // In two parts, the second of which begins inside of a panel.
        for (first, rows) in [(0, out / 3), (out / 3, out - out / 3)] {
            let read = |row: usize, values: &mut [f32]| {
                let from = (first + row) * width;
                (from..).zip(values).for_each(|(at, to)| *to = value(at));
                Ok::<_, ()>(())
            };
            matrix.fill(first, rows, &read).unwrap();
        }
        matrix
    }

    /// Widths and columns of small, micro and real models, and some that fit no tile.
    const SHAPES: [(usize, usize); 11] = [
        (8, 8),
        (32, 64),
        (88, 33),
        (64, 192),
        (600, 65),
        (128, 384),
        (128, 512),
        (352, 128),
        (768, 2304),
        (2048, 768),
        (1100, 37),
    ];

    /// What everything stands on: a row's product is the same bits whatever stands beside it, whoever computes it.
    #[test]
    fn a_rows_product_does_not_depend_on_its_neighbours() {
        for (width, out) in SHAPES {
            let matrix = matrix(out, width);
            let x: Vec<f32> = (7..7 + 128 * width).map(value).collect();
            let (mut all, mut some) = (Vec::new(), Vec::new());
            matrix.multiply(&x, &mut all, Threads::All);
            for rows in 1..=128 {
                for start in [1, 128 - rows] {
                    let start = start.min(128 - rows);
                    let threads = if rows % 2 == 0 { Threads::All } else { Threads::One };
                    matrix.multiply(&x[start * width..(start + rows) * width], &mut some, threads);
                    assert!(some == all[start * out..(start + rows) * out], "{rows} rows at {start}, {width}→{out}");
                }
            }
        }
    }

    /// The sum as the module's head says it, one multiplication at a time, by every instruction set and size of a tile.
    #[test]
    fn sums_are_fused_chains_in_pieces() {
        for (width, out) in [(33, 20), (512, 16), (64, 250), (1100, 137)] {
            let matrix = matrix(out, width);
            for (vectors, rows) in Vectors::all().flat_map(|vectors| (1..=25).map(move |rows| (vectors, rows))) {
                let x: Vec<f32> = (3..3 + rows * width).map(value).collect();
                let mut y = Vec::new();
                matrix.multiply_with(vectors, &x, &mut y, Threads::One);
                for (at, &sum) in y.iter().enumerate() {
                    let (row, column) = (at / out, at % out);
                    let piece = |from: usize| {
                        let to = width.min(from + PIECE);
                        (from..to).fold(0f32, |sum, k| x[row * width + k].mul_add(value(column * width + k), sum))
                    };
                    let expected = (0..width).step_by(PIECE).map(piece).reduce(|a, b| a + b).unwrap();
                    assert_eq!(sum.to_bits(), expected.to_bits(), "{vectors:?}, {rows} rows, {width}→{out} at {at}");
                }
            }
        }
    }
}
