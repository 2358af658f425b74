//! The matrix product, and how inner loops are compiled for the machine's vectors.
//!
//! Every element of a product is one chain of fused multiply-adds over the sum's terms in their order, cut into
//! pieces of [`PIECE`] terms that are added in order. Which rows stand beside a row, how many, which thread works and
//! how wide the vectors are changes the speed and not one bit.

mod aligned;
mod sums;

use half::{bf16, f16};
use rayon::prelude::*;

pub(super) use aligned::Aligned;
use sums::Number;
pub(super) use sums::{LANES, Panel, Sums, Vectors, Work, accumulate, beside};

use crate::checkpoint::DType;

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

/// Weights (out, width), kept as they are walked: panels of 16 columns of the result, each (width, 16).
pub(super) struct Matrix {
    out: usize,
    width: usize,
    panels: Panels,
}

/// The panels, in a type that holds the weights exactly: most models are stored in two bytes a weight.
enum Panels {
    F32(Aligned<f32>),
    Bf16(Aligned<bf16>),
    F16(Aligned<f16>),
}

/// Does something with the panels, whatever their type.
macro_rules! with {
    ($panels:expr, $name:ident => $what:expr) => {
        match $panels {
            Panels::F32($name) => $what,
            Panels::Bf16($name) => $what,
            Panels::F16($name) => $what,
        }
    };
}

impl Matrix {
    /// Zeros, to be filled with weights that are exact in `dtype`.
    pub(super) fn new(out: usize, width: usize, dtype: DType) -> Matrix {
        let len = out.div_ceil(PANEL) * PANEL * width;
        let panels = match dtype {
            DType::BF16 => Panels::Bf16(Aligned::zeros(len)),
            DType::F16 => Panels::F16(Aligned::zeros(len)),
            _ => Panels::F32(Aligned::zeros(len)),
        };
        Matrix { out, width, panels }
    }

    /// Puts the `rows` rows that `read` gives at output `first` and those after it. `read` fills a few rows from the one
    /// it is told on; each panel is filled by one thread, while the rows are still in the processor's cache.
    pub(super) fn fill<E: Send>(
        &mut self,
        first: usize,
        rows: usize,
        read: &(impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync),
    ) -> Result<(), E> {
        with!(&mut self.panels, panels => fill(panels, self.width, first, rows, read))
    }

    /// Terms of each sum.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        with!(&self.panels, panels => size_of_val(&panels[..]))
    }

    /// The weights of one output, at the end of `to`.
    pub(super) fn row(&self, row: usize, to: &mut Vec<f32>) {
        let first = row / PANEL * PANEL * self.width + row % PANEL;
        with!(&self.panels, panels => {
            to.extend(panels[first..].iter().step_by(PANEL).take(self.width).map(|weight| weight.value()));
        });
    }

    /// x Wᵀ: (rows, width) → `y`, (rows, out).
    pub(super) fn multiply(&self, x: &[f32], y: &mut Vec<f32>, threads: Threads) {
        self.multiply_with(Vectors::best(), x, y, threads);
    }

    fn multiply_with(&self, vectors: Vectors, x: &[f32], y: &mut Vec<f32>, threads: Threads) {
        let rows = x.len() / self.width;
        y.resize(rows * self.out, 0.0);
        let count = self.out.div_ceil(PANEL);
        let target = Columns { start: y.as_mut_ptr(), width: self.out, rows };
        let span = |from: usize, to: usize| {
            let span = from * PANEL * self.width..to * PANEL * self.width;
            with!(&self.panels, panels => {
                let panels = &panels[span];
                vectors.run(Product { panels, first: from, x, width: self.width, y: &target });
            });
        };
        if threads == Threads::One || rows * self.width * self.out < WORTH_SHARING {
            span(0, count);
        } else {
            // A few more shares than threads: one that is held up by a judged program does not hold up the others.
            let shares = (rayon::current_num_threads() * 4).min(count);
            (0..shares)
                .into_par_iter()
                .with_max_len(1)
                .for_each(|share| span(count * share / shares, count * (share + 1) / shares));
        }
    }
}

/// See [`Matrix::fill`].
fn fill<W: Number, E: Send>(
    panels: &mut [W],
    width: usize,
    first: usize,
    rows: usize,
    read: &(impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync),
) -> Result<(), E> {
    let end = first + rows;
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

/// Rows of `width` values, side by side from the beginning of a panel on: value k of row i goes to place 16 k + i.
fn interleave<W: Number>(rows: &[f32], width: usize, panel: &mut [W]) {
    // In squares: what is written stays in the first cache until it is whole, and every row is read by whole lines.
    for at in (0..width).step_by(PANEL) {
        let depth = PANEL.min(width - at);
        let square = &mut panel[at * PANEL..];
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (k, value) in row[at..at + depth].iter().enumerate() {
                square[k * PANEL + i] = W::exactly(*value);
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
struct Product<'a, W> {
    panels: &'a [W], // each (width, 16)
    first: usize,    // number of the first of them
    x: &'a [f32],    // (rows, width)
    width: usize,
    y: &'a Columns,
}

impl<W: Number> Work for Product<'_, W> {
    /// Walks tiles, some rows by some panels, as many as fill the registers. All rows meet a group of panels while it is
    /// in the processor's cache, and the panels are read from memory once and in order.
    #[inline(always)]
    fn run<S: Sums>(self) {
        let Product { panels, first, x, width, y } = self;
        let (rows, panels): (_, &Panel<W>) = (x.len() / width, panels.as_chunks().0);
        let (tiles, count) = (rows.div_ceil(S::ROWS), panels.len() / width);
        let most = rows.div_ceil(tiles.max(1)).max(1);
        let mut number = 0;
        while number < count {
            let together = beside::<S>(most, count - number);
            for at in (0..width).step_by(PIECE) {
                let depth = PIECE.min(width - at);
                let mut group: [&Panel<W>; MOST] = [&[]; MOST];
                for (panel, group) in (number..number + together).zip(&mut group) {
                    *group = &panels[panel * width + at..][..depth];
                }
                for tile in 0..tiles {
                    let (from, to) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                    let mut some: [&[f32]; MOST] = [&[]; MOST];
                    for (row, some) in (from..to).zip(&mut some) {
                        *some = &x[row * width + at..][..depth];
                    }
                    let mut sums = [[0.0; PANEL]; 2 * MOST];
                    accumulate::<S, W>(&some[..to - from], &group[..together], together, &mut sums, together);
                    for (i, sums) in sums[..(to - from) * together].iter().enumerate() {
                        y.put(from + i / together, (first + number + i % together) * PANEL, sums, at > 0);
                    }
                }
            }
            number += together;
        }
    }
}

/// Rows or panels that meet at once, at most. Their sums are no more than twice as many.
pub(super) const MOST: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0
    }

    /// A weight that is exact in `dtype`.
    fn weight(i: usize, dtype: DType) -> f32 {
        match dtype {
            DType::BF16 => bf16::from_f32(value(i)).to_f32(),
            DType::F16 => f16::from_f32(value(i) * 1e-4).to_f32(), // some of them subnormal
            _ => value(i),
        }
    }

    fn matrix(out: usize, width: usize, dtype: DType) -> Matrix {
        let mut matrix = Matrix::new(out, width, dtype);
        // In two parts, the second of which begins inside of a panel.
        for (first, rows) in [(0, out / 3), (out / 3, out - out / 3)] {
            let read = |row: usize, values: &mut [f32]| {
                let from = (first + row) * width;
                (from..).zip(values).for_each(|(at, to)| *to = weight(at, dtype));
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
            let matrix = matrix(out, width, DType::F32);
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

    /// The sum as the module's head says it, one multiplication at a time, by every instruction set and size of a tile,
    /// and of weights in every type that they are kept in.
    #[test]
    fn sums_are_fused_chains_in_pieces() {
        let shapes = [(33, 20), (512, 16), (64, 250), (1100, 137)];
        let dtypes = [DType::F32, DType::BF16, DType::F16];
        for ((width, out), dtype) in shapes.into_iter().flat_map(|shape| dtypes.map(|dtype| (shape, dtype))) {
            let matrix = matrix(out, width, dtype);
            assert_eq!(matrix.bytes(), out.next_multiple_of(PANEL) * width * dtype.size_in_bytes());
            for (vectors, rows) in Vectors::all().flat_map(|vectors| (1..=25).map(move |rows| (vectors, rows))) {
                let x: Vec<f32> = (3..3 + rows * width).map(value).collect();
                let mut y = Vec::new();
                matrix.multiply_with(vectors, &x, &mut y, Threads::One);
                for (at, &sum) in y.iter().enumerate() {
                    let (row, column) = (at / out, at % out);
                    let piece = |from: usize| {
                        let to = width.min(from + PIECE);
                        (from..to)
                            .fold(0f32, |sum, k| x[row * width + k].mul_add(weight(column * width + k, dtype), sum))
                    };
                    let expected = (0..width).step_by(PIECE).map(piece).reduce(|a, b| a + b).unwrap();
                    assert_eq!(
                        sum.to_bits(),
                        expected.to_bits(),
                        "{vectors:?}, {dtype}, {rows} rows, {width}→{out} at {at}"
                    );
                }
            }
        }
    }
}
