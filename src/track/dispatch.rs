//! A run's folder → what a tracker is told: plain values, nothing sent.

use std::path::{Path, PathBuf};

use super::{Note, TrackError};
use crate::record::{Completions, Run, Summary, short_digest};

/// Everything that is told of one run.
#[derive(Debug)]
pub(super) struct Dispatch {
    /// The same for the same samples, wherever they are sent from: a run that is there already is not made again.
    pub(super) uuid: String,
    /// Of the artifacts: a run that holds them all is left alone.
    pub(super) digest: String,
    pub(super) name: String,
    pub(super) started_ms: u64,
    pub(super) finished_ms: u64,
    pub(super) params: Vec<(String, String)>,
    pub(super) metrics: Vec<(String, f64)>,
    /// The training epoch.
    pub(super) step: i64,
    pub(super) tags: Vec<(String, String)>,
    pub(super) dataset: Dataset,
    /// Name on the server, file.
    pub(super) artifacts: Vec<(String, PathBuf)>,
    pub(super) curve: Option<Curve>,
}

/// What was judged against.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) tasks: usize,
}

/// The learning curve that a run is a point of: one run more, whose metrics have a step for each epoch.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) params: Vec<(String, String)>,
}

/// Names that MLflow takes: it refuses `@`, and with one bad name the whole batch.
pub(super) fn key(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-./: ".contains(c);
    name.replace('@', "_at_").chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

impl Dispatch {
    /// Reads a run's folder.
    pub(super) fn read(folder: &Path, note: &Note) -> Result<Dispatch, TrackError> {
        let fail = |file: &str, cause: String| TrackError::Folder { path: folder.join(file), cause };
        let read = |file: &str| std::fs::read(folder.join(file)).map_err(|error| fail(file, error.to_string()));
        let run: Run =
            serde_json::from_slice(&read("run.json")?).map_err(|error| fail("run.json", error.to_string()))?;
        let summary: Summary =
            serde_json::from_slice(&read("summary.json")?).map_err(|error| fail("summary.json", error.to_string()))?;
        if summary.problems < summary.problems_of {
            let cause =
                format!("only {} of {} problems are judged: evaluate it whole", summary.problems, summary.problems_of);
            return Err(fail("summary.json", cause));
        }

        let dataset = &run.fingerprint.dataset;
        let results = format!("results_{dataset}.csv");
        let mut artifacts = vec![
            ("run.json".to_owned(), folder.join("run.json")),
            ("summary.json".to_owned(), folder.join("summary.json")),
            (results.clone(), folder.join(&results)),
            (format!("samples_{dataset}.jsonl"), folder.join("samples.jsonl")),
        ];
        let images = ["png", "svg"].map(|kind| format!("comparison_{dataset}.{kind}"));
        let optional = ["prompts.json".to_owned(), "report.html".to_owned()].into_iter().chain(images);
        let there = optional.map(|name| (name.clone(), folder.join(name))).filter(|(_, path)| path.exists());
        artifacts.extend(there);
        let mut all = blake3::Hasher::new();
        // The summary has speeds, which differ from one look at a run to the next.
        for (name, path) in artifacts.iter().filter(|(name, _)| name != "summary.json") {
            let file = std::fs::File::open(path).map_err(|error| fail(name, error.to_string()))?;
            all.update_reader(file).map_err(|error| fail(name, error.to_string()))?;
        }
        let digest = all.finalize().to_hex()[..32].to_owned();
        let samples = blake3::hash(&read("samples.jsonl")?).to_hex().to_string();

        Ok(Dispatch {
            uuid: uuid(&(&run.run_id, summary.num_samples, samples)),
            digest,
            name: format!("eval_{dataset}_{}", stem(&run)),
            started_ms: note.started_ms,
            finished_ms: note.finished_ms,
            metrics: metrics(&summary),
            step: step(&run),
            tags: tags(&run, note),
            dataset: Dataset {
                name: dataset.clone(),
                digest: run.fingerprint.dataset_digest.clone(),
                tasks: run.fingerprint.tasks,
            },
            artifacts,
            curve: curve(&run, &summary),
            params: params(&run, &summary),
        })
    }
}

/// `checkpoint_best`, or the label where there is no checkpoint.
fn stem(run: &Run) -> String {
    let path = run.checkpoint.as_ref().map(|checkpoint| Path::new(&checkpoint.path));
    path.and_then(Path::file_stem).map_or(run.label.clone(), |stem| stem.to_string_lossy().into_owned())
}

fn step(run: &Run) -> i64 {
    run.checkpoint.as_ref().and_then(|checkpoint| checkpoint.epoch).map_or(0, |epoch| epoch.round() as i64)
}

/// What was asked for, without the checkpoint: the same along a learning curve.
fn settings(run: &Run, summary: &Summary) -> Vec<(String, String)> {
    let print = &run.fingerprint;
    let mut params = vec![
        ("dataset", print.dataset.clone()),
        ("pipeline", run.pipeline().to_owned()),
        ("num_samples_per_task", summary.num_samples.to_string()),
        ("prompt_format", print.prompt_format.clone()),
        ("isolation", print.isolation.clone()),
        ("tasks", print.tasks.to_string()),
    ];
    if let Completions::Model { sampling, device, dtype, .. } = &print.completions {
        params.extend([
            ("temperature", sampling.temperature.to_string()),
            ("top_p", sampling.top_p.to_string()),
            ("max_new_tokens", sampling.max_tokens.to_string()),
            ("seed", sampling.seed.to_string()),
            ("device", device.clone()),
            ("dtype", dtype.clone()),
        ]);
    }
    params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn params(run: &Run, summary: &Summary) -> Vec<(String, String)> {
    let mut params = settings(run, summary);
    if let Some(checkpoint) = &run.checkpoint {
        params.push(("checkpoint".into(), checkpoint.path.clone()));
        params.extend(checkpoint.epoch.map(|epoch| ("checkpoint_epoch".into(), epoch.to_string())));
        let metrics = checkpoint.val_metrics.iter();
        params.extend(metrics.map(|(name, value)| (key(&format!("checkpoint_{name}")), value.to_string())));
    }
    params
}

fn metrics(summary: &Summary) -> Vec<(String, f64)> {
    let mut metrics = scores(summary);
    let judged: u32 = summary.verdicts.values().sum();
    let share = |count: u32| f64::from(count) / f64::from(judged.max(1));
    metrics.extend(summary.verdicts.iter().map(|(verdict, &count)| (format!("share_{verdict}"), share(count))));
    metrics.push(("truncated_share".into(), summary.truncated_share));
    let optional = [
        ("mean_completion_tokens", summary.mean_completion_tokens),
        ("tokens_per_second", summary.tokens_per_second),
        ("programs_per_second", summary.programs_per_second),
        ("tokens_per_forward", summary.tokens_per_forward),
    ];
    metrics.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let heads = summary.head_acceptance.iter().zip(1..);
    metrics.extend(heads.map(|(&share, head)| (format!("head_{head}_acceptance"), share)));
    metrics
}

/// `pass_at_1` and the ends of its interval, `pass_at_1_low` and `pass_at_1_high`, for every k.
fn scores(summary: &Summary) -> Vec<(String, f64)> {
    let mut scores = Vec::new();
    for (name, score) in &summary.pass_at_k {
        let metric = key(name);
        scores.extend(score.as_f64().map(|score| (metric.clone(), score)));
        for (end, name) in ["low", "high"].iter().enumerate().map(|(i, end)| (i, format!("{metric}_{end}"))) {
            let value = summary.intervals.get(&format!("pass@{}", metric.trim_start_matches("pass_at_")));
            scores.extend(value.and_then(|ends| ends.get(end)?.as_f64()).map(|value| (name, value)));
        }
    }
    scores
}

fn tags(run: &Run, note: &Note) -> Vec<(String, String)> {
    let mut tags = vec![
        ("mlflow.source.name", note.source.clone()),
        ("mlflow.source.type", "LOCAL".into()),
        ("passk.run", run.run_id.clone()),
        ("passk.label", run.label.clone()),
        ("passk.dataset", run.fingerprint.dataset.clone()),
        ("passk.version", run.fingerprint.passk.clone()),
    ];
    tags.extend(note.commit.clone().map(|commit| ("mlflow.source.git.commit", commit)));
    tags.extend(note.user.clone().map(|user| ("mlflow.user", user)));
    tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Only files that are called after their epoch are points of a curve: the best of all epochs is one of them.
fn curve(run: &Run, summary: &Summary) -> Option<Curve> {
    run.checkpoint.as_ref()?.epoch?;
    stem(run).starts_with("checkpoint_epoch_").then(|| {
        let params = settings(run, summary);
        let print = &run.fingerprint;
        Curve {
            uuid: uuid(&("curve", &params, &print.revision, &print.dataset_digest, &print.stops, &print.limits)),
            name: format!("curve_{}_{}", print.dataset, run.pipeline()),
            params,
        }
    })
}

fn uuid(of: &impl serde::Serialize) -> String {
    let digest = short_digest(of);
    let more = short_digest(&(of, "more"));
    format!("{}-{}", digest, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_mlflow_takes() {
        assert_eq!(key("pass@1"), "pass_at_1");
        assert_eq!(key("val loss/α(x)"), "val loss/__x_");
    }
}
