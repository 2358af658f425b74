//! Fetches a dataset: downloads what was published, or takes it from a mirror, checks its digest, and writes its rows
//! in the processed form. Nothing is written before all of it is there and right.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};
use sha2::{Digest, Sha256};

use super::{DatasetError, Published, Source, folder};
use crate::file::write_atomically;
use crate::http;

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all, where the other side says so.
    pub of: Option<u64>,
}

/// What became of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The file with the rows.
    pub path: PathBuf,
    /// How many tasks.
    pub rows: usize,
    /// Where it came from.
    pub from: String,
    /// Its sha256, in hex.
    pub sha256: String,
    /// Whether that is the pinned one; false where none is known.
    pub pinned: bool,
}

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// A folder or URL that takes the place of the publisher's address up to the file's name.
    pub mirror: Option<String>,
    /// How long the other side may say nothing.
    pub patience: Duration,
    /// Pauses before it is tried again. An attempt goes on where the last one ended.
    pub pauses: Vec<Duration>,
}

impl Default for Fetcher {
    fn default() -> Fetcher {
        Fetcher { mirror: None, patience: Duration::from_secs(30), pauses: [1, 2, 5].map(Duration::from_secs).to_vec() }
    }
}

/// Why an attempt failed.
enum Trouble {
    /// It may go better next time.
    Passing(String),
    /// It will not.
    Lasting(String),
    /// The file is not there.
    Missing(String),
}

impl Fetcher {
    /// Fetches `source` into the storage root. `progress` is called as bytes come.
    ///
    /// # Errors
    /// The file is not to be had, is not the published one, or cannot be read or written.
    pub fn fetch(
        &self,
        source: &Source,
        storage: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Fetched, DatasetError> {
        let mut missing = Vec::new();
        for published in source.files {
            let Some(from) = self.address(published) else { continue };
            if let Some(why) = published.unreadable {
                missing.push((from, why.to_owned()));
                continue;
            }
            let place = folder(storage, source.name);
            match self.bytes(published, &from, &place, progress) {
                Ok(bytes) => return take(published, bytes, from, &place),
                Err(Trouble::Missing(cause)) => missing.push((from, self.with_remedy(published, cause))),
                Err(Trouble::Passing(cause) | Trouble::Lasting(cause)) => {
                    return Err(DatasetError::Fetch { cause: self.with_remedy(published, cause), from });
                }
            }
        }
        let (from, causes): (Vec<String>, Vec<String>) = missing.into_iter().unzip();
        Err(DatasetError::Fetch { from: from.join("`, then `"), cause: causes.join("; ") })
    }

    fn address(&self, published: &Published) -> Option<String> {
        match &self.mirror {
            Some(mirror) => Some(format!("{}/{}", mirror.trim_end_matches('/'), published.file)),
            None => published.url.map(str::to_owned),
        }
    }

    fn with_remedy(&self, published: &Published, cause: String) -> String {
        match (&self.mirror, published.url) {
            (Some(_), _) => format!("{cause}: PASSK_MIRROR must be a folder or URL that has `{}`", published.file),
            (None, Some(url)) => format!(
                "{cause}: where there is no network, get {url} elsewhere and set PASSK_MIRROR to the folder it is in"
            ),
            (None, None) => format!("{cause}: set PASSK_MIRROR to a folder or URL that has `{}`", published.file),
        }
    }

    fn bytes(
        &self,
        published: &Published,
        from: &str,
        place: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<u8>, Trouble> {
        if !from.starts_with("http://") && !from.starts_with("https://") {
            return fs::read(from).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Trouble::Missing(error.to_string()),
                _ => Trouble::Lasting(error.to_string()),
            });
        }
        let part = place.join(format!("{}.part", published.file));
        let mut pauses = self.pauses.iter();
        // What an earlier invocation left can be told from another version of the file by the pinned digest alone.
        if published.sha256.is_none() {
            let _ = fs::remove_file(&part);
        }
        loop {
            match self.attempt(published, from, &part, progress) {
                Ok(()) => {
                    let bytes = fs::read(&part).map_err(|error| Trouble::Lasting(error.to_string()))?;
                    let _ = fs::remove_file(&part);
                    return Ok(bytes);
                }
                Err(Trouble::Passing(cause)) => match pauses.next() {
                    Some(&pause) => thread::sleep(pause),
                    None => return Err(Trouble::Passing(format!("{cause} (tried {} times)", self.pauses.len() + 1))),
                },
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Downloads into `part`, from where it ends.
    fn attempt(
        &self,
        published: &Published,
        from: &str,
        part: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Trouble> {
        let disk = |error: io::Error| Trouble::Lasting(format!("failed to write `{}`: {error}", part.display()));
        let network = |error| Trouble::Passing(http::causes(error));
        if let Some(parent) = part.parent() {
            fs::create_dir_all(parent).map_err(disk)?;
        }
        let mut file: File = OpenOptions::new().create(true).append(true).open(part).map_err(disk)?;
        let mut here = file.metadata().map_err(disk)?.len();
        let client = http::client(self.patience).map_err(network)?;
        let mut request = client.get(from);
        if here > 0 {
            request = request.header(RANGE, format!("bytes={here}-"));
        }
        let mut response = request.send().map_err(network)?;
        let status = response.status();
        let goes_on = status == StatusCode::PARTIAL_CONTENT
            && response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|range| range.to_str().ok())
                .is_some_and(|range| range.starts_with(&format!("bytes {here}-")));
        if status == StatusCode::RANGE_NOT_SATISFIABLE || here > 0 && !goes_on {
            file.set_len(0).map_err(disk)?;
            here = 0;
            if status == StatusCode::RANGE_NOT_SATISFIABLE || status == StatusCode::PARTIAL_CONTENT {
                return Err(Trouble::Passing("the other side cannot go on where the download was cut".into()));
            }
        }
        if status == StatusCode::NOT_FOUND || status == StatusCode::GONE {
            return Err(Trouble::Missing(format!("the other side says {status}")));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Trouble::Passing(format!("the other side says {status}")));
        }
        if !status.is_success() {
            return Err(Trouble::Lasting(format!("the other side says {status}")));
        }
        let of = response.content_length().map(|rest| here + rest);
        let mut buffer = vec![0; 64 << 10];
        loop {
            progress(Progress { file: published.file, bytes: here, of });
            let count = match response.read(&mut buffer) {
                Ok(0) if of.is_some_and(|of| here < of) => {
                    return Err(Trouble::Passing(format!("the download ended after {here} bytes")));
                }
                Ok(0) => return file.sync_all().map_err(disk),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Trouble::Passing(format!("the download broke off after {here} bytes: {error}")));
                }
            };
            file.write_all(&buffer[..count]).map_err(disk)?;
            here += count as u64;
        }
    }
}

/// Checks the digest and writes the processed form.
fn take(published: &Published, bytes: Vec<u8>, from: String, place: &Path) -> Result<Fetched, DatasetError> {
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(pinned) = published.sha256
        && sha256 != pinned
    {
        return Err(DatasetError::Digest { from, got: sha256, pinned: pinned.to_owned() });
    }
    let processed = (published.process)(bytes, Path::new(&from))?;
    // The file with the rows comes last: where it is, everything is.
    for (inside, text) in processed.files.iter().rev() {
        let path = place.join(inside);
        write_atomically(&path, text.as_bytes()).map_err(|source| DatasetError::Io { verb: "write", path, source })?;
    }
    let path = place.join(processed.files.first().map_or("", |(inside, _)| inside));
    Ok(Fetched { path, rows: processed.rows, from, sha256, pinned: published.sha256.is_some() })
}
