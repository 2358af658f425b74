//! A file of a checkpoint, and ranges of it that are read when they are wanted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::Trouble;

/// Bytes read at once: large enough for full disk speed, small beside any weights and within the processor's cache.
const CHUNK_BYTES: usize = 1 << 18;
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
    /// some elements into their place. Parts are read side by side: one thread alone is slower than a file in the page
    /// cache. What is the whole range is checked against its CRC-32, which PyTorch itself never does.
    pub(super) fn read<T: Send>(
        &self,
        start: u64,
        element: usize,
        values: &mut [T],
        fill: impl Fn(&[u8], &mut [T]) + Sync,
    ) -> Result<(), Trouble> {
        self.in_parts(start, element, values, |at, values, sum| {
            let mut buffer = vec![0; CHUNK_BYTES.min(values.len() * element)];
            let mut at = at;
            for values in values.chunks_mut(CHUNK_BYTES / element) {
                let chunk = &mut buffer[..values.len() * element];
                self.source.read_exact(at, chunk)?;
                sum.update(chunk);
                fill(chunk, values);
                at += chunk.len() as u64;
            }
            Ok(())
        })
    }

    /// Fills `bytes` with what lies from byte `start` of the file on, as [`read`](Self::read) does.
    pub(super) fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<(), Trouble> {
        self.in_parts(start, 1, bytes, |at, bytes, sum| {
            let mut at = at;
            // In chunks, so that a chunk is summed up while it is still in the processor's cache.
            for chunk in bytes.chunks_mut(CHUNK_BYTES) {
                self.source.read_exact(at, chunk)?;
                sum.update(chunk);
                at += chunk.len() as u64;
            }
            Ok(())
        })
    }

    fn in_parts<T: Send>(
        &self,
        start: u64,
        element: usize,
        values: &mut [T],
        read: impl Fn(u64, &mut [T], &mut Sum) -> Result<(), Trouble> + Sync,
    ) -> Result<(), Trouble> {
        let whole = (start, (values.len() * element) as u64) == (self.start, self.size) && self.crc32 != 0;
        let part = PART_BYTES / element;
        let parts = values.par_chunks_mut(part).enumerate().map(|(at, values)| {
            let mut sum = Sum(whole.then(flate2::Crc::new));
            read(start + (at * part * element) as u64, values, &mut sum)?;
            Ok(sum)
        });
        // In order, whichever part was read first.
        let sums: Vec<Sum> = parts.collect::<Result<_, Trouble>>()?;
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
        self.read_into(self.start, &mut bytes)?;
        Ok(bytes)
    }
}

/// The CRC-32 of a part, where it is wanted.
struct Sum(Option<flate2::Crc>);

impl Sum {
    fn update(&mut self, chunk: &[u8]) {
        if let Some(sum) = &mut self.0 {
            sum.update(chunk);
        }
    }
}
