//! Where the weights of a model come from: a checkpoint, tensor by tensor straight into their place, or anything that
//! gives values by name.

use super::ModelError;
use super::kernel::Matrix;
use crate::checkpoint::{Checkpoint, DType};

pub(super) trait Weights {
    /// All values of the weight `name`, row by row.
    fn values(&mut self, name: &str) -> Result<Vec<f32>, ModelError>;

    /// A type that holds the weight `name` exactly.
    fn dtype(&self, _name: &str) -> DType {
        DType::F32
    }

    /// The weights of these names and numbers of rows, one below the other as one matrix.
    fn matrix(&mut self, parts: &[(String, usize)], width: usize) -> Result<Matrix, ModelError> {
        let dtypes = parts.iter().map(|(name, _)| self.dtype(name));
        let dtype = dtypes.reduce(|one, other| if one == other { one } else { DType::F32 });
        let out = parts.iter().map(|(_, rows)| rows).sum();
        let mut matrix = Matrix::new(out, width, dtype.unwrap_or(DType::F32));
        let mut first = 0;
        for (name, rows) in parts {
            self.fill(name, &mut matrix, first, *rows)?;
            first += rows;
        }
        Ok(matrix)
    }

    /// Puts the weight `name`, (rows, width), at output `first` of `matrix` and those after it.
    fn fill(&mut self, name: &str, matrix: &mut Matrix, first: usize, rows: usize) -> Result<(), ModelError> {
        let values = self.values(name)?;
        matrix.fill(first, rows, &|row: usize, to: &mut [f32]| {
            let from = row * (values.len() / rows);
            to.copy_from_slice(&values[from..from + to.len()]);
            Ok(())
        })
    }
}

impl<F: FnMut(&str) -> Result<Vec<f32>, ModelError>> Weights for F {
    fn values(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        self(name)
    }
}

/// A checkpoint's weights. A matrix is read, checked and put into its order in one pass, a few rows at a time, so that
/// loading takes the memory of the weights and hardly more.
pub(super) struct Stored<'c> {
    pub(super) checkpoint: &'c Checkpoint,
    /// Is told bytes of weights that are in place, and all bytes.
    pub(super) progress: &'c mut dyn FnMut(u64, u64),
    pub(super) done: u64,
    pub(super) all: u64,
}

impl Stored<'_> {
    fn advance(&mut self, name: &str, values: usize) {
        self.done += (values * self.dtype(name).size_in_bytes()) as u64;
        (self.progress)(self.done, self.all);
    }
}

impl Weights for Stored<'_> {
    fn values(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        let values = self.checkpoint.read_f32(name)?;
        check(name, &values)?;
        self.advance(name, values.len());
        Ok(values)
    }

    fn dtype(&self, name: &str) -> DType {
        self.checkpoint.exact_dtype(name)
    }

    fn fill(&mut self, name: &str, matrix: &mut Matrix, first: usize, rows: usize) -> Result<(), ModelError> {
        let stored = self.checkpoint.rows(name)?;
        matrix.fill(first, rows, &|row: usize, values: &mut [f32]| {
            stored.read(row, values)?;
            check(name, values)
        })?;
        stored.finish()?;
        self.advance(name, rows * matrix.width());
        Ok(())
    }
}

/// That every value of the weight `name` is finite.
pub(super) fn check(name: &str, values: &[f32]) -> Result<(), ModelError> {
    // All of them, without a branch for each: vectors do that.
    let odd = values.iter().fold(false, |odd, value| odd | !value.is_finite());
    if odd { Err(ModelError::NotFinite(name.to_owned())) } else { Ok(()) }
}
