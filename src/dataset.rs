//! Where a dataset's rows lie, how they are fetched, and which digests are pinned.

mod fetch;
mod rows;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use fetch::{Fetched, Fetcher, Progress};
pub use rows::parse_rows;
pub(crate) use rows::{for_each_row, members, text, unknown_form};

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
    #[error("bad row at {}:{line}: {trouble}; mend it, or have `passk fetch` make the file anew", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        trouble: String,
    },
    /// The file holds no row.
    #[error("dataset `{}` holds no task: have `passk fetch` make it anew", .0.display())]
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
    #[error("failed to fetch `{from}`: {cause}")]
    Fetch {
        /// Where it was asked for.
        from: String,
        /// What came instead, and what can be done.
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
    /// The files that hold it, whichever is to be had first.
    pub files: &'static [Published],
}

/// A published file.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The publisher's address, ending in the file's name. `None` for a file that only a mirror can have.
    pub url: Option<&'static str>,
    /// The file's name.
    pub file: &'static str,
    /// sha256 as published, in hex, where it is known.
    pub sha256: Option<&'static str>,
    /// Why this build cannot read the file: it is not even asked for then.
    pub unreadable: Option<&'static str>,
    /// Turns what was published into the processed form.
    pub process: fn(Vec<u8>, &Path) -> Result<Processed, DatasetError>,
}

/// A dataset in the processed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// Path inside the dataset's folder, and text. The first holds the rows.
    pub files: Vec<(&'static str, String)>,
    /// How many tasks.
    pub rows: usize,
}

/// Where the rows of a dataset lie inside its folder.
pub const ROWS: &str = "processed/test.jsonl";

impl Processed {
    /// The processed form of a file with a row a task, by what makes a processed row of each.
    ///
    /// # Errors
    /// The file cannot be unpacked, or a row is broken.
    pub fn from_rows(
        published: Vec<u8>,
        path: &Path,
        process: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Processed, DatasetError> {
        let mut processed = String::new();
        let mut rows = 0;
        for_each_row(&text(published, path)?, path, |row| {
            processed.push_str(&process(row)?);
            processed.push('\n');
            rows += 1;
            Ok(())
        })?;
        Ok(Processed { files: vec![(ROWS, processed)], rows })
    }
}

/// The folder of dataset `name` under the storage root.
pub fn folder(storage: &Path, name: &str) -> PathBuf {
    storage.join("datasets_v2").join(name)
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
    let (text, path) = find_text(storage, name, &[ROWS, "processed/test.jsonl.gz"])?;
    parse_rows(&text, &path, parse)
}

/// The text of the first of these files that is there, and its path.
pub(crate) fn find_text(storage: &Path, name: &str, files: &[&str]) -> Result<(String, PathBuf), DatasetError> {
    let folder = folder(storage, name);
    let there = files.iter().map(|file| folder.join(file)).find(|path| path.exists());
    match there {
        Some(path) => Ok((rows::read_text(&path)?, path)),
        None => Err(DatasetError::NotFetched { name: name.to_owned(), path: folder.join(files[0]) }),
    }
}
