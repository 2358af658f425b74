//! Run folders, read back: chosen by label or id, and shards of one run put together.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use thiserror::Error;

use crate::record::{self, Problem, SCHEMA, SampleRecord};
use crate::task::TaskId;

/// Why runs cannot be read or compared: one line with what, where, and the remedy.
#[derive(Debug, Error)]
#[allow(missing_docs)] // fields are what the messages show
pub enum CompareError {
    #[error("failed to read `{}`: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("failed to read `{}`: {cause}: evaluate again with --fresh, or leave the folder out", path.display())]
    Damaged { path: PathBuf, cause: String },
    #[error("`{}` is of schema {schema}, and this passk reads {SCHEMA}: use the passk that wrote it", path.display())]
    Version { path: PathBuf, schema: u64 },
    #[error("no run in `{}`: evaluate first, e.g. passk evaluate --dataset micro --pipeline baseline rho1", path.display())]
    NoRuns { path: PathBuf },
    #[error("no run on {dataset} in `{}`: there are runs on {known}", path.display())]
    OtherDatasets { path: PathBuf, dataset: String, known: String },
    #[error("no run in `{}` can be used: {}", path.display(), first(causes))]
    NoneGood { path: PathBuf, causes: Vec<String> },
    #[error("no run is called `{name}`: there are {known}{}", if left_out.is_empty() { String::new() } else { format!("; left out: {}", first(left_out)) })]
    Unknown { name: String, known: String, left_out: Vec<String> },
    #[error("runs of several datasets ({0}): choose one with --dataset")]
    Datasets(String),
    #[error("run `{run}` has no judged problem: evaluate it to the end")]
    Empty { run: String },
    #[error("these runs were not measured alike, so their scores are not comparable ({}): --unlike compares all the same, and marks it", rows.join("; "))]
    Unlike { rows: Vec<String> },
}

/// The first of several causes, and how many more there are.
fn first(causes: &[String]) -> String {
    let more = causes.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    format!("{}{more}", causes.first().map_or("", String::as_str))
}

/// A run, whole or of several shards.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was run.
    pub record: record::Run,
    /// Names it among the others: its label, or its id where two labels are the same.
    pub name: String,
    /// Where its files lie.
    pub folders: Vec<PathBuf>,
    /// Samples 0..num_samples of each of `problems` are judged.
    pub num_samples: u32,
    /// Problems with all their samples, in the order of their ids, numbers counted as numbers.
    pub problems: Vec<Problem>,
    /// The samples of those problems, each problem's in order.
    pub samples: BTreeMap<TaskId, Vec<SampleRecord>>,
    /// What the model was shown, as far as it was kept.
    pub prompts: BTreeMap<TaskId, String>,
    /// Share of draft tokens accepted, by extra head; empty where nothing was drafted.
    pub head_acceptance: Vec<f64>,
    touched: SystemTime,
}

/// What is read of `summary.json`, beside what the samples say.
#[derive(Default, Deserialize)]
struct WireSummary {
    #[serde(default)]
    head_acceptance: Vec<f64>,
}

impl Run {
    /// The pipeline that the checkpoint's folder is named after, or the label.
    pub fn pipeline(&self) -> &str {
        let path = self.record.checkpoint.as_ref().map(|checkpoint| Path::new(&checkpoint.path));
        let folder = path.and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
        folder.unwrap_or(&self.record.label)
    }

    /// The epoch, if this is one point of a learning curve: `checkpoint_epoch_N`.
    pub fn curve_epoch(&self) -> Option<f64> {
        let checkpoint = self.record.checkpoint.as_ref()?;
        let stem = Path::new(&checkpoint.path).file_stem()?.to_str()?;
        let said = stem.strip_prefix("checkpoint_epoch_")?;
        checkpoint.epoch.or_else(|| said.parse().ok())
    }

    /// Reads one run folder.
    ///
    /// # Errors
    /// A file is missing, damaged or of another version.
    pub fn read(folder: &Path) -> Result<Run, CompareError> {
        let path = folder.join("run.json");
        let damaged = |path: &Path, cause: &dyn std::fmt::Display| CompareError::Damaged {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let json: serde_json::Value = serde_json::from_slice(&bytes(&path)?).map_err(|error| damaged(&path, &error))?;
        match json["schema"].as_u64() {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => return Err(CompareError::Version { path, schema }),
            None => return Err(damaged(&path, &"it names no schema")),
        }
        let record: record::Run = serde_json::from_value(json).map_err(|error| damaged(&path, &error))?;

        let path = folder.join("samples.jsonl");
        let text = bytes(&path)?;
        // A killed run may have torn its last line; nothing acknowledged is in it.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let lines = text[..whole].split(|&byte| byte == b'\n').zip(1..).filter(|(line, _)| !line.is_empty());
        let sample = |(line, number): (&[u8], usize)| -> Result<SampleRecord, CompareError> {
            serde_json::from_slice(line).map_err(|error| damaged(&path, &format!("line {number}: {error}")))
        };
        let samples: Vec<SampleRecord> = lines.map(sample).collect::<Result<_, _>>()?;

        let path = folder.join("summary.json");
        let summary: WireSummary = match path.exists() {
            true => serde_json::from_slice(&bytes(&path)?).map_err(|error| damaged(&path, &error))?,
            false => WireSummary::default(),
        };
        let path = folder.join("prompts.json");
        let prompts = match path.exists() {
            true => serde_json::from_slice(&bytes(&path)?).map_err(|error| damaged(&path, &error))?,
            false => BTreeMap::new(),
        };
        let touched = fs::metadata(folder.join("samples.jsonl")).and_then(|file| file.modified());
        let mut run = Run::new(record, folder, samples, prompts);
        run.head_acceptance = summary.head_acceptance;
        run.touched = touched.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(run)
    }

    /// A run that is at hand, without reading its folder.
    pub fn new(
        record: record::Run,
        folder: &Path,
        samples: impl IntoIterator<Item = SampleRecord>,
        prompts: BTreeMap<TaskId, String>,
    ) -> Run {
        let mut run = Run {
            name: record.label.clone(),
            record,
            folders: vec![folder.to_owned()],
            num_samples: 0,
            problems: Vec::new(),
            samples: BTreeMap::new(),
            prompts,
            head_acceptance: Vec::new(),
            touched: SystemTime::UNIX_EPOCH,
        };
        for sample in samples {
            run.samples.entry(sample.task_id.clone()).or_default().push(sample);
        }
        run.counted()
    }

    /// Adds the samples of another folder of the same run.
    fn join(mut self, other: Run) -> Run {
        for (task, samples) in other.samples {
            self.samples.entry(task).or_default().extend(samples);
        }
        self.prompts.extend(other.prompts);
        self.folders.extend(other.folders);
        self.touched = self.touched.max(other.touched);
        if self.head_acceptance.is_empty() {
            self.head_acceptance = other.head_acceptance;
        }
        self.counted()
    }

    /// Counts problems. n is the number of samples for which most complete samples count: one problem that was looked
    /// at with more, or a few whose samples are still missing, do not decide for the others.
    fn counted(mut self) -> Run {
        for samples in self.samples.values_mut() {
            samples.sort_by_key(|sample| sample.sample);
            samples.dedup_by_key(|sample| sample.sample);
        }
        // Samples 0..n, without a gap.
        let length = |samples: &[SampleRecord]| samples.iter().zip(0..).take_while(|(s, i)| s.sample == *i).count();
        let lengths: Vec<usize> = self.samples.values().map(|samples| length(samples)).collect();
        let worth = |n: usize| n * lengths.iter().filter(|&&length| length >= n).count();
        let n = lengths.iter().copied().max_by_key(|&n| (worth(n), n)).unwrap_or(0);
        self.num_samples = n as u32;
        self.samples.retain(|_, samples| length(samples) >= n);
        self.samples.values_mut().for_each(|samples| samples.truncate(n));
        let mut tasks: Vec<&TaskId> = self.samples.keys().collect();
        tasks.sort_by_cached_key(|task| natural(task.as_str()));
        self.problems = tasks.into_iter().map(|task| Problem::count(task, &self.samples[task])).collect();
        self
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, CompareError> {
    fs::read(path).map_err(|source| CompareError::Io { path: path.to_owned(), source })
}

/// A key under which `t/2` comes before `t/10`.
pub(crate) fn natural(text: &str) -> Vec<(u64, String)> {
    let mut parts = vec![(0u64, String::new())];
    let mut in_number = false;
    for c in text.chars() {
        let digit = c.to_digit(10);
        if digit.is_some() != in_number && digit.is_some() {
            parts.push((0, String::new()));
        }
        in_number = digit.is_some();
        if let Some(part) = parts.last_mut() {
            match digit {
                Some(digit) => part.0 = part.0.saturating_mul(10).saturating_add(digit.into()),
                None => part.1.push(c),
            }
        }
    }
    parts
}

/// Which runs are wanted.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Of this dataset.
    pub dataset: Option<String>,
    /// Labels, run ids or run folders; none for every pipeline's best.
    pub names: Vec<String>,
}

/// The runs that were chosen.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// In the order they were named, or of their names.
    pub runs: Vec<Run>,
    /// Points of the learning curves of their pipelines, in the order of epochs.
    pub curves: Vec<Run>,
    /// What the reader should know, a line each.
    pub notes: Vec<String>,
}

/// Chooses among the run folders under `runs`, and those that are named by path.
///
/// Folders of one run id are shards of one run. Of several runs with one label the newest is taken, with a note, unless
/// they are named by id.
///
/// # Errors
/// Nothing there, a name that nothing has, several datasets, a folder that cannot be read.
pub fn choose(runs: &Path, choice: &Choice) -> Result<Chosen, CompareError> {
    let (mut all, mut bad) = (Vec::new(), Vec::new());
    for folder in folders(runs) {
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match Run::read(&folder) {
            Ok(run) => all.push(run),
            // What was asked for by name must be good; of the others it is enough to say so.
            Err(error) if choice.names.contains(&id) => return Err(error),
            Err(error) => bad.push(error.to_string()),
        }
    }
    for name in choice.names.iter().filter(|name| Path::new(name).join("run.json").exists()) {
        all.push(Run::read(Path::new(name))?);
    }
    let mut merged: Vec<Run> = Vec::new();
    let mut seen = HashSet::new();
    for run in all {
        if !run.folders.iter().all(|folder| seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone()))) {
            continue;
        }
        match merged.iter().position(|other| other.record.run_id == run.record.run_id) {
            Some(at) => {
                let other = merged.remove(at);
                merged.insert(at, other.join(run));
            }
            None => merged.push(run),
        }
    }
    if merged.is_empty() {
        let path = runs.to_owned();
        return Err(match bad.is_empty() {
            true => CompareError::NoRuns { path },
            false => CompareError::NoneGood { path, causes: bad },
        });
    }
    if let Some(dataset) = &choice.dataset {
        let known: BTreeSet<String> = merged.iter().map(|run| run.record.fingerprint.dataset.clone()).collect();
        merged.retain(|run| run.record.fingerprint.dataset == *dataset);
        if merged.is_empty() {
            let (path, known) = (runs.to_owned(), known.into_iter().collect::<Vec<_>>().join(", "));
            return Err(CompareError::OtherDatasets { path, dataset: dataset.clone(), known });
        }
    }
    let mut notes: Vec<String> = bad.iter().map(|why| format!("left out: {why}")).collect();
    merged.sort_by_cached_key(|run| (natural(&run.record.label), std::cmp::Reverse(run.touched)));

    let mut chosen: Vec<Run> = Vec::new();
    if choice.names.is_empty() {
        let best: Vec<&Run> = merged.iter().filter(|run| is_best(run)).collect();
        let pool = if best.is_empty() { merged.iter().collect() } else { best };
        chosen = newest(pool, &mut notes);
    }
    for name in &choice.names {
        let is_path = Path::new(name).join("run.json").exists();
        let at_path = Path::new(name).canonicalize().ok();
        let here = |run: &&Run| {
            is_path && run.folders.iter().any(|folder| folder.canonicalize().ok() == at_path)
                || run.record.run_id == *name
        };
        let found = match merged.iter().find(here) {
            Some(run) => vec![run.clone()],
            None => newest(merged.iter().filter(|run| run.record.label == *name).collect(), &mut notes),
        };
        if found.is_empty() {
            let mut known: Vec<&str> = merged.iter().map(|run| run.record.label.as_str()).collect();
            known.dedup();
            return Err(CompareError::Unknown { name: name.clone(), known: known.join(", "), left_out: bad });
        }
        chosen.extend(found);
    }
    let mut ids = HashSet::new();
    chosen.retain(|run| ids.insert(run.record.run_id.clone()));
    let mut datasets: Vec<String> = chosen.iter().map(|run| run.record.fingerprint.dataset.clone()).collect();
    datasets.sort_unstable();
    datasets.dedup();
    if datasets.len() > 1 {
        return Err(CompareError::Datasets(datasets.join(", ")));
    }
    if let Some(run) = chosen.iter().find(|run| run.problems.is_empty()) {
        return Err(CompareError::Empty { run: run.record.run_id.clone() });
    }
    let twice: Vec<String> = chosen.iter().map(|run| run.record.label.clone()).collect();
    for run in &mut chosen {
        if twice.iter().filter(|label| **label == run.record.label).count() > 1 {
            run.name = run.record.run_id.clone();
        }
    }
    let pipelines: HashSet<&str> = chosen.iter().map(|run| run.pipeline()).collect();
    let of_these = |run: &&Run| {
        let dataset = &run.record.fingerprint.dataset;
        run.curve_epoch().is_some() && pipelines.contains(run.pipeline()) && datasets.contains(dataset)
    };
    let mut curves = newest(merged.iter().filter(of_these).collect(), &mut Vec::new());
    curves.retain(|run| !run.problems.is_empty());
    curves.sort_by(|a, b| a.curve_epoch().partial_cmp(&b.curve_epoch()).unwrap_or(std::cmp::Ordering::Equal));
    Ok(Chosen { runs: chosen, curves, notes })
}

fn folders(runs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join("run.json").exists()).collect();
    folders.sort();
    folders
}

fn is_best(run: &Run) -> bool {
    run.record.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.path.ends_with("checkpoint_best.pt"))
}

/// The first of each label; `runs` are sorted by label, the newest first.
fn newest(runs: Vec<&Run>, notes: &mut Vec<String>) -> Vec<Run> {
    let mut kept: Vec<Run> = Vec::new();
    for run in runs {
        match kept.iter().find(|other| {
            other.record.label == run.record.label && other.record.fingerprint.dataset == run.record.fingerprint.dataset
        }) {
            Some(other) => notes.push(format!(
                "`{}` names several runs: the newest, {}, was taken and not {} (give the id to choose)",
                run.record.label, other.record.run_id, run.record.run_id
            )),
            None => kept.push(run.clone()),
        }
    }
    kept
}
