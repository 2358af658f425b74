//! The zip archive around a `.pt` file: where each member's bytes lie.
//!
//! torch.save stores its members uncompressed, so a tensor is a range of the file. Only the archive's directory is
//! read (APPNOTE.TXT of PKWARE, sections 4.3 and 4.5.3). A zip library would do that as well, but not within bounds:
//! it looks for the directory through all of a truncated file, and makes hundreds of bytes of each entry, of which a
//! hostile file may have millions.

use std::collections::HashMap;
use std::sync::Arc;

use super::Trouble;
use super::source::{Range, Source};

/// Far above any real archive: a 70 B model with its optimizer has some 3 000 members.
const MAX_MEMBERS: u64 = 1 << 17;
const MAX_DIRECTORY_BYTES: u64 = 32 << 20;

/// Signatures, and lengths of what follows them without the parts of variable length.
const LOCAL: (&[u8; 4], usize) = (b"PK\x03\x04", 30);
const CENTRAL: (&[u8; 4], usize) = (b"PK\x01\x02", 46);
const END: (&[u8; 4], usize) = (b"PK\x05\x06", 22);
const LOCATOR_64: (&[u8; 4], usize) = (b"PK\x06\x07", 20);
const END_64: (&[u8; 4], usize) = (b"PK\x06\x06", 56);
/// The end record is followed by a comment of at most this.
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;

const TRUNCATED: &str = "the zip archive is truncated or damaged; copy it again";

/// An entry of the directory.
#[derive(Clone, Copy)]
struct Entry {
    stored: bool,
    crc32: u32,
    size: u64,
    /// Where its local header begins.
    header: u64,
}

/// An open archive.
pub(super) struct Archive {
    source: Arc<Source>,
    entries: HashMap<String, Entry>,
    /// What every member's name begins with, a slash at its end.
    root: String,
    /// Where the directory begins, and members have ended.
    directory: u64,
}

impl Archive {
    pub(super) fn open(source: &Arc<Source>) -> Result<Self, Trouble> {
        let mut start = vec![0; source.bytes.min(64) as usize];
        source.read_exact(0, &mut start)?;
        if let Some(other) = other_format(&start) {
            return Err(other.into());
        }
        let (directory, size, members) = directory(source)?;
        let mut bytes = vec![0; size];
        source.read_exact(directory, &mut bytes)?;
        let entries = entries(&bytes, members)?;
        apart(&entries, directory)?;
        let mut roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let root = roots
            .find(|root| root.is_empty() || root.ends_with('/'))
            .ok_or("the zip archive has no data.pkl; torch.save did not write it")?
            .to_owned();
        if root.split('/').any(|part| part == "..") || root.starts_with('/') {
            return Err("the zip archive's paths lead out of it; torch.save did not write it".into());
        }
        let archive = Self { source: Arc::clone(source), entries, root, directory };
        if archive.entries.contains_key(&format!("{}constants.pkl", archive.root)) {
            return Err("it is a TorchScript program; save the state dict of the model with torch.save".into());
        }
        Ok(archive)
    }

    /// Where the member `name` (without the root) lies; `None` if there is none.
    pub(super) fn member(&self, name: &str) -> Result<Option<Range>, Trouble> {
        let whole = format!("{}{name}", self.root);
        let Some(&Entry { stored, crc32, size, header }) = self.entries.get(&whole) else {
            return Ok(None);
        };
        if !stored {
            return Err(
                format!("the zip member {name} is compressed; save the checkpoint again with torch.save").into()
            );
        }
        // The bytes begin after the local header, whose name and padding have lengths of their own.
        let damaged = || format!("the zip member {name} is damaged; copy the file again");
        let mut bytes = vec![0; LOCAL.1 + whole.len()];
        self.source.read_exact(header, &mut bytes)?;
        let named = usize::from(u16_at(&bytes, 26)) == whole.len() && bytes[LOCAL.1..] == *whole.as_bytes();
        if !bytes.starts_with(LOCAL.0) || !named {
            return Err(damaged().into());
        }
        let start = header + bytes.len() as u64 + u64::from(u16_at(&bytes, 28));
        match start.checked_add(size) {
            Some(end) if end <= self.directory => {
                Ok(Some(Range { source: Arc::clone(&self.source), start, size, crc32 }))
            }
            _ => Err(damaged().into()),
        }
    }
}

/// Where the directory lies, its length in bytes, and how many members it has.
fn directory(source: &Source) -> Result<(u64, usize, u64), Trouble> {
    let tail = source.bytes.min((END.1 + MAX_COMMENT_BYTES) as u64);
    let mut bytes = vec![0; tail as usize];
    source.read_exact(source.bytes - tail, &mut bytes)?;
    let is_end = |&at: &usize| {
        bytes[at..].starts_with(END.0) && at + END.1 + usize::from(u16_at(&bytes, at + 20)) == bytes.len()
    };
    let at = (0..(bytes.len() + 1).saturating_sub(END.1)).rev().find(is_end).ok_or(TRUNCATED)?;
    let mut members = u64::from(u16_at(&bytes, at + 10));
    let mut size = u64::from(u32_at(&bytes, at + 12));
    let mut offset = u64::from(u32_at(&bytes, at + 16));
    let mut end = source.bytes - tail + at as u64;
    // torch.save writes the wide records whether they are needed or not.
    let is_wide = members == u64::from(u16::MAX) || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX);
    let locator = at.checked_sub(LOCATOR_64.1).filter(|&at| bytes[at..].starts_with(LOCATOR_64.0));
    if is_wide || locator.is_some() {
        end = u64_at(&bytes, locator.ok_or(TRUNCATED)? + 8);
        let mut bytes = vec![0; END_64.1];
        source.read_exact(end, &mut bytes).map_err(|_| TRUNCATED)?;
        if !bytes.starts_with(END_64.0) {
            return Err(TRUNCATED.into());
        }
        (members, size, offset) = (u64_at(&bytes, 32), u64_at(&bytes, 40), u64_at(&bytes, 48));
    }
    if members > MAX_MEMBERS || size > MAX_DIRECTORY_BYTES {
        return Err("the zip archive has more members than any checkpoint".into());
    }
    if offset.checked_add(size) != Some(end) {
        return Err(TRUNCATED.into());
    }
    Ok((offset, size as usize, members))
}

/// The directory's entries by name.
fn entries(mut rest: &[u8], members: u64) -> Result<HashMap<String, Entry>, Trouble> {
    let mut entries = HashMap::new();
    for _ in 0..members {
        let fixed = rest.get(..CENTRAL.1).filter(|fixed| fixed.starts_with(CENTRAL.0)).ok_or(TRUNCATED)?;
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(fixed, at)));
        let [name, extra, comment] = lengths;
        let variable = rest.get(CENTRAL.1..CENTRAL.1 + name + extra + comment).ok_or(TRUNCATED)?;
        rest = &rest[CENTRAL.1 + variable.len()..];
        let (name, extra) = (&variable[..name], &variable[name..name + extra]);
        let name = std::str::from_utf8(name).map_err(|_| "the zip archive has a member whose name is not UTF-8")?;
        let mut numbers = [24, 20, 42].map(|at| u64::from(u32_at(fixed, at)));
        wide_numbers(extra, &mut numbers).ok_or(TRUNCATED)?;
        let [size, compressed, header] = numbers;
        let (encrypted, method) = (u16_at(fixed, 8) & 1 != 0, u16_at(fixed, 10));
        let stored = method == 0 && !encrypted && size == compressed;
        let entry = Entry { stored, crc32: u32_at(fixed, 16), size, header };
        if entries.insert(name.to_owned(), entry).is_some() {
            return Err(format!("the zip archive has two members called {name}").into());
        }
    }
    match rest.is_empty() {
        true => Ok(entries),
        false => Err(TRUNCATED.into()),
    }
}

/// Numbers that did not fit into 32 bits stand in an extra field, in this order.
fn wide_numbers(mut extra: &[u8], numbers: &mut [u64; 3]) -> Option<()> {
    const ZIP64: u16 = 1;
    let mut wide = &[][..];
    while extra.len() >= 4 {
        let field = extra.get(4..4 + usize::from(u16_at(extra, 2)))?;
        if u16_at(extra, 0) == ZIP64 {
            wide = field;
        }
        extra = &extra[4 + field.len()..];
    }
    for number in numbers.iter_mut().filter(|number| **number == u64::from(u32::MAX)) {
        *number = u64_at(wide.get(..8)?, 0);
        wide = &wide[8..];
    }
    Some(())
}

/// Members lie one after the other, before the directory: none may share its bytes with another.
fn apart(entries: &HashMap<String, Entry>, directory: u64) -> Result<(), Trouble> {
    let mut all: Vec<(&String, &Entry)> = entries.iter().collect();
    all.sort_by_key(|(_, entry)| entry.header);
    let ends = all.iter().skip(1).map(|(_, next)| next.header).chain([directory]);
    for ((name, entry), end) in all.iter().zip(ends) {
        // A compressed member is refused when it is wanted; its length in the archive is another.
        let size = if entry.stored { entry.size } else { 0 };
        let least = entry.header.checked_add((LOCAL.1 + name.len()) as u64).and_then(|start| start.checked_add(size));
        if least.is_none_or(|least| least > end) {
            return Err(format!("the zip member {name} overlaps what follows it; the file is damaged").into());
        }
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number::<2>(bytes, at) as u16
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number::<4>(bytes, at) as u32
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number::<8>(bytes, at)
}

/// The little-endian number of N bytes at `at`. The callers have checked that it is there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(wide)
}

/// What the file is, if its first bytes say that it is no zip archive.
fn other_format(start: &[u8]) -> Option<&'static str> {
    const LEGACY_TORCH: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    match start {
        _ if start.starts_with(LOCAL.0) => None,
        [] => Some("the file is empty"),
        _ if start.starts_with(LEGACY_TORCH) => {
            Some("it is in torch.save's format of before PyTorch 1.6; load it with torch.load and save it again")
        }
        _ if start.starts_with(b"GGUF") => Some("it is a GGUF file; passk reads .pt and .safetensors files"),
        _ if start.starts_with(b"version https://git-lfs") => {
            Some("it is a pointer left by git-lfs, not the file itself; run `git lfs pull`")
        }
        _ => Some("it is neither a zip archive written by torch.save nor a safetensors file"),
    }
}
