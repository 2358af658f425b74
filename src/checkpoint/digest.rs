//! Digests of large files, kept so that they are made once.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Trouble;
use super::source::Source;
use crate::file::write_atomically;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// What takes no time is not worth a line in a cache.
const MIN_CACHED_BYTES: u64 = 64 << 20;
/// Files remembered at most; the ones last hashed stay.
const MAX_CACHED: usize = 1000;

/// What tells that a file is as it was. The time of the last change of the inode cannot be set by a program, so a file
/// that was written again with its old modification time is noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    blake3: String,
    /// Seconds since 1970: when it was made.
    made: u64,
}

type Cache = BTreeMap<PathBuf, Known>;

/// BLAKE3 of a file, in hex, from the cache where the file is as it was. `progress` is told bytes done and all bytes
/// of a file that is read.
pub(super) fn of(source: &Source, cache: Option<&Path>, progress: &mut dyn FnMut(u64, u64)) -> Result<String, Trouble> {
    let cache = cache.filter(|_| source.bytes >= MIN_CACHED_BYTES);
    let path = fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
    let stamp = stamp(source)?;
    let known = cache.map(load).unwrap_or_default().remove(&path);
    if let Some(known) = known.filter(|known| known.stamp == stamp) {
        return Ok(known.blake3);
    }
    let blake3 = hash(source, progress)?;
    // Written to while it was read: it has no digest of its own yet.
    if let Some(cache) = cache.filter(|_| self::stamp(source).is_ok_and(|now| now == stamp)) {
        remember(cache, path, Known { stamp, blake3: blake3.clone(), made: now() });
    }
    Ok(blake3)
}

fn hash(source: &Source, progress: &mut dyn FnMut(u64, u64)) -> Result<String, Trouble> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        match source.file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                at += length as u64;
                progress(at, source.bytes);
            }
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause.into()),
        }
    }
}

fn stamp(source: &Source) -> Result<Stamp, Trouble> {
    let now = source.file.metadata()?;
    Ok(Stamp {
        size: now.len(),
        device: now.dev(),
        inode: now.ino(),
        modified: (now.mtime(), now.mtime_nsec()),
        changed: (now.ctime(), now.ctime_nsec()),
    })
}

/// The cache of this user: `digests.json` in `$XDG_CACHE_HOME/passk` or `~/.cache/passk`.
pub(super) fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(folder.join("passk/digests.json"))
}

/// What is no cache is an empty one.
fn load(path: &Path) -> Cache {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Adds to the cache, if that can be done; without it the file is read again next time.
fn remember(cache: &Path, path: PathBuf, known: Known) {
    let mut all = load(cache);
    all.insert(path, known);
    while all.len() > MAX_CACHED {
        let oldest = all.iter().min_by_key(|(_, known)| known.made).map(|(path, _)| path.clone());
        oldest.map(|path| all.remove(&path));
    }
    let _ = serde_json::to_vec_pretty(&all).map(|bytes| write_atomically(cache, &bytes));
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_file_is_read_once_and_again_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cache) = (folder.path().join("large.pt"), folder.path().join("deep/digests.json"));
        // A hole: no bytes on disk.
        fs::File::create(&path).unwrap().set_len(MIN_CACHED_BYTES).unwrap();
        let digest = || {
            let mut reads = 0;
            let digest = of(&Source::open(&path).unwrap(), Some(&cache), &mut |done, all| {
                assert!(done <= all);
                reads += 1;
            });
            (digest.unwrap(), reads > 0)
        };
        let (first, read) = digest();
        assert!(read);
        assert_eq!(digest(), (first.clone(), false));
        fs::File::options().write(true).open(&path).unwrap().write_all(b"x").unwrap();
        let (second, read) = digest();
        assert!(read && second != first);
        assert_eq!(digest(), (second.clone(), false));
        fs::write(&cache, "no cache").unwrap();
        assert_eq!(digest(), (second, true));
    }
}
