//! Runs back from a tracker: each becomes a run folder again, as it was sent.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::mlflow::{Experiment, artifact_path, tag};
use super::{Server, TrackError};
use crate::file::write_atomically;

/// What came of an experiment.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Run folders: `run.json`, `summary.json`, `samples.jsonl` and `results_<dataset>.csv` in each.
    pub folders: Vec<PathBuf>,
    /// Runs that are not among them, and why.
    pub left_out: Vec<String>,
}

/// Downloads the finished runs of an experiment into a folder each under `into`, newest first, those of one dataset or
/// all. A run that passk did not send is none of ours; one whose artifacts are out of reach is left out, by name.
///
/// # Errors
/// The server or the experiment cannot be used; `into` cannot be written.
pub fn fetch(server: &Server, dataset: Option<&str>, into: &Path) -> Result<Fetched, TrackError> {
    let missing = || TrackError::Missing { server: server.address(), experiment: server.experiment.clone() };
    let experiment = Experiment::open(server.rest()?, &server.experiment, false)?.ok_or_else(missing)?;
    let mut fetched = Fetched::default();
    for run in experiment.finished(dataset)? {
        match folder(&experiment, &run, into) {
            Ok(folder) => fetched.folders.push(folder),
            Err(Trouble::Run(why)) => {
                fetched.left_out.push(format!("{}: {why}", run["info"]["run_name"].as_str().unwrap_or("a run")));
            }
            Err(Trouble::Here(error)) => return Err(error),
        }
    }
    Ok(fetched)
}

enum Trouble {
    /// This run cannot be had.
    Run(String),
    /// None can.
    Here(TrackError),
}

fn folder(experiment: &Experiment, run: &Value, into: &Path) -> Result<PathBuf, Trouble> {
    let id = run["info"]["run_id"].as_str().unwrap_or_default();
    let plain = |name: &str| {
        let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && !name.starts_with('.') && name.chars().all(fits)
    };
    let (Some(name), Some(dataset)) = (tag(run, "passk.run"), tag(run, "passk.dataset")) else {
        return Err(Trouble::Run("it has no tag passk.run".into()));
    };
    // They become names of files here.
    if !plain(id) || !plain(name) || !plain(dataset) {
        return Err(Trouble::Run("its tags were edited".into()));
    }
    let root = run["info"]["artifact_uri"].as_str().unwrap_or_default();
    let root = artifact_path(root)
        .ok_or_else(|| Trouble::Run(format!("its files lie at {root}, where REST does not reach")))?;
    let folder = into.join(format!("{name}-{}", &id[..id.len().min(8)]));
    let samples = format!("samples_{dataset}.jsonl");
    let results = format!("results_{dataset}.csv");
    let keep = |bytes: Vec<u8>, here: &str| {
        let path = folder.join(here);
        let trouble = |error: std::io::Error| TrackError::Folder { path: path.clone(), cause: error.to_string() };
        write_atomically(&path, &bytes).map_err(|error| Trouble::Here(trouble(error)))
    };
    for (there, here) in
        [("run.json", "run.json"), ("summary.json", "summary.json"), (&samples, "samples.jsonl"), (&results, &results)]
    {
        keep(experiment.artifact(root, there).map_err(|error| Trouble::Run(error.to_string()))?, here)?;
    }
    // Of two runs with one label the newest counts, wherever they lie.
    let ended = run["info"]["end_time"].as_u64().map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    let path = folder.join("samples.jsonl");
    let dated = ended.map_or(Ok(()), |ended| File::options().write(true).open(&path)?.set_modified(ended));
    dated.map_err(|error| Trouble::Here(TrackError::Folder { path, cause: error.to_string() }))?;
    // What a report shows of tasks; a run need not have it.
    if let Ok(prompts) = experiment.artifact(root, "prompts.json") {
        keep(prompts, "prompts.json")?;
    }
    Ok(folder)
}
