//! Finding checkpoint files; an error says what is there instead.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use super::{CheckpointError, folder};

/// Names listed in a message at most.
const LISTED: usize = 12;

/// The best checkpoint of a pipeline: `checkpoints_dir/pipeline/checkpoint_best.pt`.
///
/// # Errors
/// If the pipeline has no folder, naming those that have; if it has no such file, naming what
/// it has.
pub fn best(checkpoints_dir: &Path, pipeline: &str) -> Result<PathBuf, CheckpointError> {
    existing(&folder_of(checkpoints_dir, pipeline)?.join("checkpoint_best.pt"))
}

/// The files in a pipeline's folder whose names match a glob pattern such as
/// `checkpoint_epoch_*.pt`, in epoch order: numbers in a name count as numbers, so that epoch 10
/// comes after epoch 9, and `best` and `final` come after all epochs.
///
/// # Errors
/// As [`best`]; also if the pattern is no glob or matches nothing.
pub fn matching(checkpoints_dir: &Path, pipeline: &str, pattern: &str) -> Result<Vec<PathBuf>, CheckpointError> {
    let folder = folder_of(checkpoints_dir, pipeline)?;
    let glob =
        glob::Pattern::new(pattern).map_err(|cause| CheckpointError::Pattern { pattern: pattern.to_owned(), cause })?;
    let mut names = names_in(&folder);
    names.retain(|name| glob.matches(name) && folder.join(name).is_file());
    if names.is_empty() {
        let (path, found) = (folder.join(pattern), found_in(&folder));
        return Err(CheckpointError::NotFound { path, found });
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// `path` itself, if it is a file or a model folder.
///
/// # Errors
/// If it is neither, naming the checkpoints and folders in the nearest folder that exists.
pub fn existing(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.is_file() || folder::weights_of(path).is_some() {
        return Ok(path.to_owned());
    }
    let found = if path.is_dir() {
        format!("it is a folder; {}", found_in(path))
    } else {
        // The last ancestor of a relative path is empty: the working folder.
        let nearest = path.ancestors().find(|parent| parent.is_dir());
        found_in(nearest.unwrap_or(Path::new(".")))
    };
    let path = path.to_owned();
    Err(CheckpointError::NotFound { path, found })
}

fn folder_of(checkpoints_dir: &Path, pipeline: &str) -> Result<PathBuf, CheckpointError> {
    let folder = checkpoints_dir.join(pipeline);
    if !pipeline.is_empty() && folder.is_dir() {
        return Ok(folder);
    }
    let (pipeline, found) = (pipeline.to_owned(), found_in(checkpoints_dir));
    Err(CheckpointError::UnknownPipeline { pipeline, found })
}

/// "`dir` has a, b, c": its checkpoints in epoch order, and its folders.
fn found_in(dir: &Path) -> String {
    if !dir.is_dir() {
        return format!("`{}` does not exist", dir.display());
    }
    let mut names = names_in(dir);
    names.retain_mut(|name| {
        let is_dir = dir.join(&*name).is_dir();
        if is_dir {
            name.push('/');
        }
        is_dir || [".pt", ".pth", ".bin", ".safetensors"].iter().any(|end| name.ends_with(end))
    });
    // Folders last, by name: a number there is no epoch.
    names.sort_by(|a, b| match (a.ends_with('/'), b.ends_with('/')) {
        (true, true) => a.cmp(b),
        (a, b) => a.cmp(&b),
    });
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let list = match (names.is_empty(), more) {
        (true, _) => "no checkpoints".to_owned(),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    };
    format!("`{}` has {list}", dir.display())
}

/// Names in a folder, in epoch order; none if it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort_by(|a, b| epoch_order(a, b));
    names
}

fn epoch_order(a: &str, b: &str) -> Ordering {
    let key = |name: &str| {
        let digits = name.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let numbers: Vec<u64> = digits.map(|digits| digits.parse().unwrap_or(u64::MAX)).collect();
        let rank = match numbers.is_empty() {
            false => 0,
            true if name.contains("best") => 1,
            true if name.contains("final") => 2,
            true => 3,
        };
        (rank, numbers)
    };
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}
