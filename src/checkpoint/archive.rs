//! The zip archive around a checkpoint: where each member's bytes lie in the file.
//!
//! torch.save stores its members uncompressed, so a tensor is a range of the file. The archive's
//! directory is read once; afterwards bytes are read straight from their place.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::Trouble;

/// Bytes read at once: large enough for full disk speed, small beside any weights.
const CHUNK_BYTES: usize = 1 << 20;

/// A range of the file, and the sum its bytes should have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) start: u64,
    pub(super) size: u64,
    /// 0 when the writer left it out (`torch.serialization.set_crc32_options(False)`).
    crc32: u32,
}

impl Member {
    /// Reads `size` bytes from `start` on and gives them to `sink` in chunks whose lengths are
    /// multiples of 8 but for the last. A range that is the whole member is checked against its
    /// CRC-32, which PyTorch itself never does.
    pub(super) fn read(&self, file: &File, start: u64, size: u64, mut sink: impl FnMut(&[u8])) -> Result<(), Trouble> {
        let mut sum = Sum::of(self, start, size);
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(size).unwrap_or(CHUNK_BYTES))];
        let mut done = 0;
        while done < size {
            let length = (buffer.len() as u64).min(size - done) as usize;
            let chunk = &mut buffer[..length];
            file.read_exact_at(chunk, start + done)?;
            sum.update(chunk);
            sink(chunk);
            done += length as u64;
        }
        sum.check()
    }

    /// Fills `bytes` with what lies from `start` on, checked as by [`read`](Self::read).
    pub(super) fn read_into(&self, file: &File, start: u64, bytes: &mut [u8]) -> Result<(), Trouble> {
        let mut sum = Sum::of(self, start, bytes.len() as u64);
        let mut at = start;
        // In chunks, so that a chunk is summed up while it is still in the processor's cache.
        for chunk in bytes.chunks_mut(CHUNK_BYTES) {
            file.read_exact_at(chunk, at)?;
            sum.update(chunk);
            at += chunk.len() as u64;
        }
        sum.check()
    }
}

/// The CRC-32 of a range while it is read, if the range is a whole member with a known one.
struct Sum(Option<(flate2::Crc, u32)>);

impl Sum {
    fn of(member: &Member, start: u64, size: u64) -> Self {
        let whole = (start, size) == (member.start, member.size) && member.crc32 != 0;
        Self(whole.then(|| (flate2::Crc::new(), member.crc32)))
    }

    fn update(&mut self, chunk: &[u8]) {
        if let Some((sum, _)) = &mut self.0 {
            sum.update(chunk);
        }
    }

    fn check(self) -> Result<(), Trouble> {
        match self.0 {
            Some((sum, expected)) if sum.sum() != expected => {
                Err("its bytes do not match their CRC-32; the file is damaged; copy it again".into())
            }
            _ => Ok(()),
        }
    }
}

/// An open archive.
pub(super) struct Archive<'f> {
    zip: ZipArchive<BufReader<&'f File>>,
    /// What every member's name begins with, a slash at its end.
    root: String,
    file_bytes: u64,
}

impl<'f> Archive<'f> {
    pub(super) fn open(file: &'f File) -> Result<Self, Trouble> {
        let file_bytes = file.metadata()?.len();
        let mut start = Vec::new();
        BufReader::new(file).take(64).read_to_end(&mut start)?;
        if let Some(other) = other_format(&start) {
            return Err(other.into());
        }
        // A known offset keeps the reader from searching gigabytes for the directory's magic.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, BufReader::new(file))
            .map_err(|e| format!("the zip archive is truncated or damaged ({e}); copy it again"))?;
        let root = zip
            .file_names()
            .flatten()
            .filter_map(|name| name.strip_suffix("data.pkl").map(str::to_owned))
            .find(|root| root.is_empty() || root.ends_with('/'))
            .ok_or("the zip archive has no data.pkl; torch.save did not write it")?;
        Ok(Self { zip, root, file_bytes })
    }

    /// Where the member `name` (without the root) lies; `None` if there is none.
    pub(super) fn member(&mut self, name: &str) -> Result<Option<Member>, Trouble> {
        let Some(index) = self.zip.index_for_name(&format!("{}{name}", self.root)) else {
            return Ok(None);
        };
        let damaged = |e| format!("the zip member {name} is damaged ({e}); copy the file again");
        let entry = self.zip.by_index_raw(index).map_err(damaged)?;
        let stored = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
        if !stored || entry.size() != entry.compressed_size() {
            let remedy = "save the checkpoint again with torch.save";
            return Err(format!("the zip member {name} is compressed; {remedy}").into());
        }
        let (size, crc32) = (entry.size(), entry.crc32());
        let start = entry.data_start().unwrap_or(u64::MAX);
        let end = start.checked_add(size);
        if end.is_none_or(|end| end > self.file_bytes) {
            let remedy = "the file is truncated or damaged; copy it again";
            return Err(format!("the zip member {name} ends beyond the file; {remedy}").into());
        }
        Ok(Some(Member { start, size, crc32 }))
    }
}

/// What the file is, if its first bytes say that it is no zip archive.
fn other_format(start: &[u8]) -> Option<&'static str> {
    const LEGACY_TORCH: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    match start {
        [b'P', b'K', 3, 4, ..] => None,
        [] => Some("the file is empty"),
        _ if start.starts_with(LEGACY_TORCH) => {
            Some("it is in torch.save's format of before PyTorch 1.6; load it with torch.load and save it again")
        }
        _ if start.get(8) == Some(&b'{') => Some("it is a safetensors file, not a zip archive written by torch.save"),
        _ if start.starts_with(b"GGUF") => Some("it is a GGUF file, not a zip archive written by torch.save"),
        _ if start.starts_with(b"version https://git-lfs") => {
            Some("it is a pointer left by git-lfs, not the file itself; run `git lfs pull`")
        }
        _ => Some("it is not a zip archive written by torch.save"),
    }
}
