//! A matrix as it is handed out in runs of rows, so that its values go from the file straight into their place.

use std::sync::Mutex;

use super::source::Sum;
use super::weight::Weight;
use super::{Checkpoint, CheckpointError};

/// The rows of a weight (rows, width), or the elements of a vector, read in any order and by several threads side by side.
///
/// What is stored as it is wanted is never all in memory: each run is read from the file when it is asked for. What must
/// be put together first (a view, a matrix with low-rank changes, rotary rows in Hugging Face's order) is kept meanwhile.
pub struct Rows<'c> {
    name: String,
    weight: Weight<'c>,
    /// Elements of a row.
    width: usize,
    whole: Option<Vec<f32>>,
    /// Of each run, and where it began.
    sums: Mutex<Vec<(usize, Sum)>>,
}

impl Checkpoint {
    /// Opens a weight for reading by rows.
    ///
    /// # Errors
    /// As [`read_f32`](Self::read_f32).
    pub fn rows(&self, name: &str) -> Result<Rows<'_>, CheckpointError> {
        let weight = self.weight(name)?;
        let whole = match weight.is_stored_as_wanted() {
            true => None,
            false => Some(self.read_f32(name)?),
        };
        let width = weight.base.shape.get(1..).unwrap_or_default().iter().product();
        Ok(Rows { name: name.to_owned(), weight, width, whole, sums: Mutex::default() })
    }
}

impl Rows<'_> {
    /// Fills `values`, (any, width), with the rows from `first` on. Every row must be read once for
    /// [`finish`](Self::finish) to be content.
    ///
    /// # Errors
    /// If the file cannot be read, or `values` reaches beyond the last row.
    pub fn read(&self, first: usize, values: &mut [f32]) -> Result<(), CheckpointError> {
        let at = first * self.width;
        let failed = |trouble| self.weight.failed(self.weight.base, &self.name, trouble);
        if at + values.len() > self.weight.base.elements() {
            return Err(failed(format!("it has no rows from {first} on").into()));
        }
        match &self.whole {
            Some(whole) => values.copy_from_slice(&whole[at..at + values.len()]),
            None => {
                let mut sum = self.weight.base.sum();
                self.weight.base.read_run(at, values, &mut sum).map_err(failed)?;
                self.sums.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, sum));
            }
        }
        Ok(())
    }

    /// Says whether what was read is what was written, as far as the format tells.
    ///
    /// # Errors
    /// If the bytes fail their checksum.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let tensor = self.weight.base;
        let mut sums = self.sums.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        sums.sort_by_key(|(at, _)| *at);
        let checked = tensor.storage.check(sums.into_iter().map(|(_, sum)| sum));
        checked.map_err(|trouble| self.weight.failed(tensor, &self.name, trouble))
    }
}
