//! Where a dataset's rows lie, how they are fetched, and which digests are pinned.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::file::write_atomically;
use crate::http;
use crate::task::Task;

/// Why a dataset could not be read or fetched.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Nothing is there yet.
    #[error("dataset `{name}` is not fetched (no `{}`): run `passk fetch {name}`, or `cargo run -- fetch {name}`", path.display())]
    NotFetched {
        /// The dataset.
        name: String,
        /// Where its rows belong.
        path: PathBuf,
    },
    /// A row is broken.
    #[error("bad row at {}:{line}: {trouble}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        trouble: String,
    },
    /// The file holds no row.
    #[error("dataset `{}` holds no task", .0.display())]
    Empty(PathBuf),
    /// A file cannot be read or written.
    #[error("failed to {verb} `{}`: {source}", path.display())]
    Io {
        /// read, write, ….
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The publisher or mirror did not answer with the file.
    #[error("failed to fetch `{from}`: {cause}: set PASSK_MIRROR to a folder or URL that has the file")]
    Fetch {
        /// Where it was asked for.
        from: String,
        /// What came instead.
        cause: String,
    },
    /// What came is not what was published.
    #[error("`{from}` has sha256 {got}, not the pinned {pinned}: it is not the published file, nothing was written")]
    Digest {
        /// Where it came from.
        from: String,
        /// Its digest.
        got: String,
        /// The published file's.
        pinned: String,
    },
}

/// A published dataset.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name on the command line.
    pub name: &'static str,
    /// The publisher's address, ending in the file's name. The file is gzip-compressed JSON lines.
    pub url: &'static str,
    /// sha256 of the file as published, in hex.
    pub sha256: &'static str,
    /// Turns a published line into the processed form.
    pub process: fn(&str) -> Result<String, String>,
}

/// Where the rows of dataset `name` lie under the storage root.
pub fn rows_path(storage: &Path, name: &str) -> PathBuf {
    storage.join("datasets_v2").join(name).join("processed/test.jsonl")
}

/// Reads the rows of dataset `name`.
///
/// # Errors
/// [`DatasetError::NotFetched`] when there is no file, [`DatasetError::Row`] with file and line for a broken one.
pub fn load(
    storage: &Path,
    name: &str,
    parse: impl Fn(&str) -> Result<Task, String>,
) -> Result<Vec<Task>, DatasetError> {
    let path = rows_path(storage, name);
    match fs::read_to_string(&path) {
        Ok(text) => parse_rows(&text, &path, parse),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DatasetError::NotFetched { name: name.to_owned(), path })
        }
        Err(source) => Err(DatasetError::Io { verb: "read", path, source }),
    }
}

/// Reads rows, one JSON object a line; `path` is for messages.
pub fn parse_rows(
    text: &str,
    path: &Path,
    parse: impl Fn(&str) -> Result<Task, String>,
) -> Result<Vec<Task>, DatasetError> {
    let mut ids = HashSet::new();
    let mut tasks = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |trouble| DatasetError::Row { path: path.to_owned(), line: i + 1, trouble };
        let task = parse(line).map_err(bad)?;
        if !ids.insert(task.id.clone()) {
            return Err(bad(format!("task `{}` stands here a second time", task.id)));
        }
        tasks.push(task);
    }
    match tasks.is_empty() {
        true => Err(DatasetError::Empty(path.to_owned())),
        false => Ok(tasks),
    }
}

/// Fetches a dataset, checks its digest, and writes its rows in the processed form. Returns the file and its rows.
///
/// `mirror`, a folder or URL, takes the place of the publisher's address up to the file's name.
pub fn fetch(source: &Source, storage: &Path, mirror: Option<&str>) -> Result<(PathBuf, usize), DatasetError> {
    let file = source.url.rsplit('/').next().unwrap_or(source.url);
    let from = match mirror {
        Some(mirror) => format!("{}/{file}", mirror.trim_end_matches('/')),
        None => source.url.to_owned(),
    };
    let published = match from.starts_with("http://") || from.starts_with("https://") {
        true => download(&from).map_err(|cause| DatasetError::Fetch { from: from.clone(), cause })?,
        false => {
            fs::read(&from).map_err(|cause| DatasetError::Fetch { from: from.clone(), cause: cause.to_string() })?
        }
    };
    let got: String = Sha256::digest(&published).iter().map(|byte| format!("{byte:02x}")).collect();
    if got != source.sha256 {
        return Err(DatasetError::Digest { from, got, pinned: source.sha256.to_owned() });
    }
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(published.as_slice())
        .read_to_string(&mut text)
        .map_err(|source| DatasetError::Io { verb: "unpack", path: PathBuf::from(&from), source })?;

    let mut processed = String::new();
    let mut rows = 0;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = (source.process)(line).map_err(|trouble| DatasetError::Row {
            path: PathBuf::from(&from),
            line: i + 1,
            trouble,
        })?;
        processed.push_str(&row);
        processed.push('\n');
        rows += 1;
    }
    let path = rows_path(storage, source.name);
    write_atomically(&path, processed.as_bytes()).map_err(|source| DatasetError::Io {
        verb: "write",
        path: path.clone(),
        source,
    })?;
    Ok((path, rows))
}

fn download(url: &str) -> Result<Vec<u8>, String> {
    let get = || -> Result<Vec<u8>, reqwest::Error> {
        let client = http::client(Duration::from_secs(60))?;
        Ok(client.get(url).send()?.error_for_status()?.bytes()?.to_vec())
    };
    get().map_err(http::causes)
}
