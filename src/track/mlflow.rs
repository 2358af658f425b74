//! MLflow's REST API, as far as an evaluation needs it. Every step looks at what is there first, so that sending the
//! same run again, or one that was cut off in the middle, changes nothing but what is missing.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::TrackError;
use super::dispatch::{Curve, Dispatch};
use super::rest::Rest;

// What one batch may hold: 100 params and 1000 items in all; our few tags are below their 100.
const PARAMS: usize = 100;
const METRICS: usize = 900;
/// Longer values are cut by the server without a word; ours end in `…`.
const VALUE_CHARS: usize = 6000;

/// What became of a run.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) run_id: String,
    /// A page for people.
    pub(super) url: String,
    /// Where the server keeps artifacts, if REST does not reach there.
    pub(super) out_of_reach: Option<String>,
}

/// One experiment on one server.
pub(super) struct Experiment {
    rest: Rest,
    id: String,
}

impl Experiment {
    /// Finds the experiment, or makes it when `make` says so.
    pub(super) fn open(rest: Rest, name: &str, make: bool) -> Result<Option<Experiment>, TrackError> {
        let get = || match rest.get("experiments/get-by-name", &[("experiment_name", name)]) {
            Err(TrackError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => Ok(None),
            other => other.map(Some),
        };
        let found = match get()? {
            None if !make => return Ok(None),
            None => match rest.post("experiments/create", &json!({ "name": name })) {
                // Somebody else was faster.
                Err(TrackError::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => get()?,
                made => Some(json!({ "experiment": made? })),
            },
            found => found,
        };
        let found = found.unwrap_or_default();
        let id = text(&found["experiment"]["experiment_id"]);
        if found["experiment"]["lifecycle_stage"] == "deleted" {
            return Err(TrackError::Deleted { server: rest.server(), experiment: name.to_owned(), id });
        }
        match id.is_empty() {
            true => Err(rest_is_no_mlflow(&rest)),
            false => Ok(Some(Experiment { rest, id })),
        }
    }

    /// Sends a run, or what the server lacks of it.
    pub(super) fn send(&self, dispatch: &Dispatch) -> Result<Arrived, TrackError> {
        let parent = dispatch.curve.as_ref().map(|curve| self.add_to_curve(curve, dispatch)).transpose()?;
        let mut tags = dispatch.tags.clone();
        tags.extend(parent.map(|parent| ("mlflow.parentRunId".to_owned(), parent)));
        let run = self.run(&dispatch.uuid, &dispatch.name, dispatch.started_ms, &tags)?;
        let id = text(&run["info"]["run_id"]);
        let root = text(&run["info"]["artifact_uri"]);
        let arrived = Arrived {
            url: format!("{}/#/experiments/{}/runs/{id}", self.rest.server(), self.id),
            out_of_reach: artifact_path(&root).is_none().then(|| root.clone()),
            run_id: id.clone(),
        };
        if tag(&run, "passk.digest") == Some(&dispatch.digest) && run["info"]["status"] == "FINISHED" {
            return Ok(arrived);
        }
        self.log(&run, &dispatch.params, &dispatch.metrics, dispatch.step, dispatch.finished_ms)?;
        if lacks_dataset(&run, &dispatch.dataset.digest) {
            let dataset = &dispatch.dataset;
            let dataset = json!({
                "tags": [{ "key": "mlflow.data.context", "value": "evaluation" }],
                "dataset": {
                    "name": dataset.name,
                    "digest": dataset.digest,
                    "source_type": "passk",
                    "source": json!({ "dataset": dataset.name }).to_string(),
                    "profile": json!({ "num_rows": dataset.tasks }).to_string(),
                },
            });
            self.rest.post("runs/log-inputs", &json!({ "run_id": id, "datasets": [dataset] }))?;
        }
        if let Some(root) = artifact_path(&root) {
            for (name, path) in &dispatch.artifacts {
                self.rest.put(&format!("{root}/{name}"), path)?;
            }
        }
        let digest = [("passk.digest".to_owned(), dispatch.digest.clone())];
        self.rest.post("runs/log-batch", &json!({ "run_id": id, "tags": pairs(&digest) }))?;
        self.end(&id, dispatch.finished_ms)?;
        Ok(arrived)
    }

    /// Adds the scores at this epoch to the run that is the pipeline's learning curve; returns that run's id. A model
    /// that was trained anew has other scores at the same epoch, and gets a curve of its own.
    fn add_to_curve(&self, curve: &Curve, dispatch: &Dispatch) -> Result<String, TrackError> {
        let scores: Vec<(String, f64)> =
            dispatch.metrics.iter().filter(|(name, _)| name.starts_with("pass_at_")).cloned().collect();
        for version in 1.. {
            let uuid = format!("{}-{version}", curve.uuid);
            let name = if version == 1 { curve.name.clone() } else { format!("{} {version}", curve.name) };
            let run = self.run(&uuid, &name, dispatch.started_ms, &dispatch.tags)?;
            let id = text(&run["info"]["run_id"]);
            let mut lacking: Vec<&(String, f64)> = Vec::new();
            let mut differs = false;
            // The ends of an interval come and go with their score.
            for (name, value) in scores.iter().filter(|(name, _)| !name.ends_with("_low") && !name.ends_with("_high")) {
                match self.history(&id, name)?.get(&dispatch.step) {
                    None => lacking.extend(scores.iter().filter(|(of, _)| {
                        of.strip_prefix(name.as_str()).is_some_and(|rest| matches!(rest, "" | "_low" | "_high"))
                    })),
                    Some(there) => differs |= (there - value).abs() > 1e-12,
                }
            }
            if differs {
                continue;
            }
            if !lacking.is_empty() {
                let batch = json!({
                    "run_id": id,
                    "metrics": metrics(lacking, dispatch.step, dispatch.finished_ms),
                });
                self.log(&run, &curve.params, &[], 0, 0)?;
                self.rest.post("runs/log-batch", &batch)?;
                self.end(&id, dispatch.finished_ms)?;
            }
            return Ok(id);
        }
        unreachable!("every version of a curve was taken")
    }

    /// A metric's values by step.
    fn history(&self, run: &str, name: &str) -> Result<HashMap<i64, f64>, TrackError> {
        let history = self.rest.get("metrics/get-history", &[("run_id", run), ("metric_key", name)])?;
        let points = history["metrics"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(points.iter().filter_map(|point| Some((number(&point["step"])? as i64, number(&point["value"])?))).collect())
    }

    /// The run with this uuid, made where it is not there.
    fn run(&self, uuid: &str, name: &str, started_ms: u64, tags: &[(String, String)]) -> Result<Value, TrackError> {
        let search = json!({
            "experiment_ids": [self.id],
            "filter": format!("tags.`passk.uuid` = '{uuid}'"),
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        });
        let mut tags = tags.to_vec();
        tags.push(("passk.uuid".into(), uuid.into()));
        let user = tags.iter().find(|(name, _)| name == "mlflow.user").map_or("", |(_, user)| user);
        let create = json!({
            "experiment_id": self.id,
            "run_name": name,
            "start_time": started_ms,
            "user_id": user,
            "tags": pairs(&tags),
        });
        let found = |answer: &Value| answer["runs"].get(0).map(|run| json!({ "run": run }));
        let run = self.rest.find_or_make(("runs/search", &search), found, ("runs/create", &create))?["run"].take();
        match run["info"]["run_id"].is_string() {
            true => Ok(run),
            false => Err(rest_is_no_mlflow(&self.rest)),
        }
    }

    /// Logs the params and metrics that the run does not have yet.
    fn log(
        &self,
        run: &Value,
        params: &[(String, String)],
        values: &[(String, f64)],
        step: i64,
        at_ms: u64,
    ) -> Result<(), TrackError> {
        let id = &run["info"]["run_id"];
        let there = |what: &str, name: &str| {
            run["data"][what].as_array().is_some_and(|list| list.iter().any(|item| item["key"] == name))
        };
        let params: Vec<_> = params.iter().filter(|(name, _)| !there("params", name)).cloned().collect();
        let values: Vec<_> = values.iter().filter(|(name, _)| !there("metrics", name)).cloned().collect();
        let mut params = params.chunks(PARAMS);
        let mut values = values.chunks(METRICS);
        loop {
            let (params, values) = (params.next().unwrap_or_default(), values.next().unwrap_or_default());
            if params.is_empty() && values.is_empty() {
                return Ok(());
            }
            let batch = json!({ "run_id": id, "params": pairs(params), "metrics": metrics(values, step, at_ms) });
            self.rest.post("runs/log-batch", &batch)?;
        }
    }

    fn end(&self, run: &str, at_ms: u64) -> Result<(), TrackError> {
        let update = json!({ "run_id": run, "status": "FINISHED", "end_time": at_ms });
        self.rest.post("runs/update", &update).map(drop)
    }

    /// The finished runs that passk has sent, newest first: run id, artifact root, and what `run.json` was called.
    pub(super) fn finished(&self, dataset: Option<&str>) -> Result<Vec<Value>, TrackError> {
        let mut filter = "attributes.status = 'FINISHED' and tags.`passk.digest` != ''".to_owned();
        if let Some(dataset) = dataset {
            filter += &format!(" and tags.`passk.dataset` = '{}'", dataset.replace('\'', ""));
        }
        let mut runs = Vec::new();
        let mut page = Value::Null;
        loop {
            let search = json!({
                "experiment_ids": [self.id],
                "filter": filter,
                "order_by": ["attributes.start_time DESC"],
                "max_results": 200,
                "page_token": page,
            });
            let mut answer = self.rest.post("runs/search", &search)?;
            if let Value::Array(more) = answer["runs"].take() {
                runs.extend(more);
            }
            page = answer["next_page_token"].take();
            if page.as_str().is_none_or(str::is_empty) {
                return Ok(runs);
            }
        }
    }

    /// An artifact's bytes.
    pub(super) fn artifact(&self, root: &str, name: &str) -> Result<Vec<u8>, TrackError> {
        self.rest.download(&format!("{root}/{name}"))
    }
}

/// The part of an artifact root that the server's own artifact store knows; `None` for any other store.
pub(super) fn artifact_path(root: &str) -> Option<&str> {
    let rest = root.strip_prefix("mlflow-artifacts:")?;
    let path = match rest.strip_prefix("//") {
        Some(host) => host.split_once('/')?.1,
        None => rest,
    };
    Some(path.trim_matches('/'))
}

fn rest_is_no_mlflow(rest: &Rest) -> TrackError {
    TrackError::Unreachable { server: rest.server(), cause: "it answers, but not as an MLflow server does".into() }
}

fn lacks_dataset(run: &Value, digest: &str) -> bool {
    let inputs = run["inputs"]["dataset_inputs"].as_array().map_or(&[][..], Vec::as_slice);
    inputs.iter().all(|input| input["dataset"]["digest"] != digest)
}

fn pairs(pairs: &[(String, String)]) -> Vec<Value> {
    let cut = |value: &str| match value.chars().count() > VALUE_CHARS {
        true => value.chars().take(VALUE_CHARS - 1).chain(['…']).collect(),
        false => value.to_owned(),
    };
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": cut(value) })).collect()
}

fn metrics<'a>(values: impl IntoIterator<Item = &'a (String, f64)>, step: i64, at_ms: u64) -> Vec<Value> {
    // JSON has no NaN, and a null would become 0.
    let value = |value: f64| match value {
        _ if value.is_finite() => json!(value),
        _ if value.is_nan() => json!("NaN"),
        _ if value > 0.0 => json!("Infinity"),
        _ => json!("-Infinity"),
    };
    let metric = |(key, number): &(String, f64)| json!({ "key": key, "value": value(*number), "timestamp": at_ms, "step": step });
    values.into_iter().map(metric).collect()
}

/// A tag of a run.
pub(super) fn tag<'a>(run: &'a Value, name: &str) -> Option<&'a str> {
    run["data"]["tags"].as_array()?.iter().find(|tag| tag["key"] == name)?["value"].as_str()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Numbers come as numbers or as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_artifact_store_is_in_reach() {
        assert_eq!(artifact_path("mlflow-artifacts:/1/abc/artifacts"), Some("1/abc/artifacts"));
        assert_eq!(artifact_path("mlflow-artifacts://host:5000/1/abc/artifacts"), Some("1/abc/artifacts"));
        for root in ["/srv/mlruns/1/abc/artifacts", "s3://bucket/1/abc", "file:///srv/mlruns"] {
            assert_eq!(artifact_path(root), None, "{root}");
        }
    }

    #[test]
    fn no_number_becomes_null() {
        let values = [1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|value| ("m".to_owned(), value));
        let sent: Vec<Value> = metrics(&values, 3, 7).iter().map(|metric| metric["value"].clone()).collect();
        assert_eq!(sent, [json!(1.5), json!("NaN"), json!("Infinity"), json!("-Infinity")]);
    }

    #[test]
    fn long_values_say_that_they_are_cut() {
        let long = pairs(&[("k".into(), "é".repeat(7000))]);
        let value = long[0]["value"].as_str().unwrap();
        assert_eq!(value.chars().count(), 6000);
        assert!(value.ends_with("é…"));
    }
}
