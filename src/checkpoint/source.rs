//! A file of a checkpoint, and ranges of it that are read when they are wanted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::Trouble;

/// Bytes read at once: large enough for full disk speed, and still in the processor's cache when they are looked at.
const CHUNK_BYTES: usize = 1 << 17;
/// Bytes read by one thread.
const PART_BYTES: usize = 1 << 23;

/// An open file. It stays open, so that all of it comes from the same file even if a trainer puts a new one in its
/// place.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, Trouble> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Arc::new(Self { path: path.to_owned(), file, bytes }))
    }

    /// Fills `bytes` with what lies from `start` on.
    pub(super) fn read_exact(&self, start: u64, bytes: &mut [u8]) -> Result<(), Trouble> {
        Ok(self.file.read_exact_at(bytes, start)?)
    }
}

/// A range of a file, and the sum its bytes should have.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) source: Arc<Source>,
    pub(super) start: u64,
    pub(super) size: u64,
    /// 0 when the writer left it out (`torch.serialization.set_crc32_options(False)`), or the format has none.
    pub(super) crc32: u32,
}

impl Range {
    /// Reads `values.len()` elements of `element` bytes each, from byte `start` of the file on. `fill` puts the bytes of
    /// some elements into their place.
    pub(super) fn read_run<T>(
        &self,
        start: u64,
        element: usize,
        values: &mut [T],
        sum: &mut Sum,
        fill: impl Fn(&[u8], &mut [T]),
    ) -> Result<(), Trouble> {
        let mut buffer = vec![0; CHUNK_BYTES.min(values.len() * element)];
        let mut at = start;
        for values in values.chunks_mut(CHUNK_BYTES / element) {
            let chunk = &mut buffer[..values.len() * element];
            self.source.read_exact(at, chunk)?;
            sum.update(chunk);
            fill(chunk, values);
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Fills `bytes` with what lies from byte `start` of the file on.
    pub(super) fn read_run_into(&self, start: u64, bytes: &mut [u8], sum: &mut Sum) -> Result<(), Trouble> {
        let mut at = start;
        // In chunks, so that a chunk is summed up while it is still in the processor's cache.
        for chunk in bytes.chunks_mut(CHUNK_BYTES) {
            self.source.read_exact(at, chunk)?;
            sum.update(chunk);
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Reads elements of `element` bytes each from byte `start` of the file on, in parts side by side: one thread alone is
    /// slower than a file in the page cache. `read` is given where a part begins in the file. What is the whole range is
    /// checked against its CRC-32, which PyTorch itself never does.
    pub(super) fn in_parts<T: Send>(
        &self,
        start: u64,
        element: usize,
        values: &mut [T],
        read: impl Fn(u64, &mut [T], &mut Sum) -> Result<(), Trouble> + Sync,
    ) -> Result<(), Trouble> {
        let bytes = (values.len() * element) as u64;
        let part = PART_BYTES / element;
        let parts = values.par_chunks_mut(part).enumerate().map(|(at, values)| {
            let mut sum = self.sum(start, bytes);
            read(start + (at * part * element) as u64, values, &mut sum)?;
            Ok(sum)
        });
        // In order, whichever part was read first.
        self.check(parts.collect::<Result<Vec<Sum>, Trouble>>()?)
    }

    /// What is to be added up while `bytes` bytes from `start` on are read: nothing, unless they are all of the range.
    pub(super) fn sum(&self, start: u64, bytes: u64) -> Sum {
        Sum(((start, bytes) == (self.start, self.size) && self.crc32 != 0).then(flate2::Crc::new))
    }

    /// Holds the sums of parts, in the order in which they lie in the file, against the whole one.
    pub(super) fn check(&self, sums: impl IntoIterator<Item = Sum>) -> Result<(), Trouble> {
        let sum = sums.into_iter().filter_map(|sum| sum.0).reduce(|mut all, part| {
            all.combine(&part);
            all
        });
        match sum.is_some_and(|sum| sum.sum() != self.crc32) {
            true => Err("its bytes do not match their CRC-32; the file is damaged; copy it again".into()),
            false => Ok(()),
        }
    }

    /// All bytes. The caller has bounded `size`.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Trouble> {
        let mut bytes = vec![0; usize::try_from(self.size)?];
        self.in_parts(self.start, 1, &mut bytes, |at, bytes, sum| self.read_run_into(at, bytes, sum))?;
        Ok(bytes)
    }
}

/// The CRC-32 of a part, where it is wanted.
pub(super) struct Sum(Option<flate2::Crc>);

impl Sum {
    fn update(&mut self, chunk: &[u8]) {
        if let Some(sum) = &mut self.0 {
            sum.update(chunk);
        }
    }
}
