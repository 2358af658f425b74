//! How many rows a product is computed with.

use std::collections::HashSet;

use candle_core::{DType, Device, Tensor};

use super::ModelError;
use super::ops::multiply;

/// Row counts that are tried, rising: the last is the most rows of a step.
const COUNTS: [usize; 7] = [16, 64, 128, 256, 512, 1024, MAX_ROWS];
/// The most rows of a step.
pub(super) const MAX_ROWS: usize = 2048;

/// The row counts whose products are the same bits as those of the largest, wherever a row stands.
pub(super) struct Counts(Vec<usize>);

impl Counts {
    /// Tries those of `matrices`. The largest count must hold against itself with its rows in another order.
    ///
    /// # Errors
    /// It does not, or the device fails.
    pub(super) fn equal<'m>(
        matrices: impl Iterator<Item = &'m Tensor>,
        dtype: DType,
        device: &Device,
    ) -> Result<Counts, ModelError> {
        let largest = MAX_ROWS;
        let mut equal = COUNTS.to_vec();
        let mut tried = HashSet::new();
        for weight in matrices {
            if !tried.insert(weight.dims().to_vec()) {
                continue;
            }
            let width = weight.dim(1)?;
            let x: Vec<f32> = (0..largest * width).map(|i| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0).collect();
            let x = Tensor::from_vec(x, (largest, width), device)?.to_dtype(dtype)?;
            let bits = |x: &Tensor| -> Result<Vec<f32>, ModelError> {
                Ok(multiply(x, weight)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
            };
            let out = weight.dim(0)?;
            let all = bits(&x)?;
            let half = largest / 2;
            let turned = Tensor::cat(&[x.narrow(0, half, half)?, x.narrow(0, 0, half)?], 0)?;
            let turned = bits(&turned)?;
            if turned[..half * out] != all[half * out..] || turned[half * out..] != all[..half * out] {
                return Err(ModelError::Device(
                    "its matrix products depend on where a row stands, so that samples would not be reproducible"
                        .to_owned(),
                ));
            }
            let mut kept = Vec::new();
            for count in equal {
                let part = bits(&x.narrow(0, largest - count, count)?.contiguous()?)?;
                if part[..] == all[(largest - count) * out..] {
                    kept.push(count);
                }
            }
            equal = kept;
        }
        Ok(Counts(equal))
    }

    /// The next row count that holds.
    pub(super) fn padded(&self, rows: usize) -> usize {
        self.0.iter().copied().find(|&count| count >= rows).unwrap_or(MAX_ROWS)
    }

    /// Numbers padded with zeros to a count of rows that holds.
    pub(super) fn pad(&self, numbers: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.resize(self.padded(numbers.len()), 0);
        numbers
    }
}
