//! What an experiment tracker is told of a run.
//!
//! A tracker reads run folders, and never holds up or fails an evaluation: a finished run leaves a note in its folder,
//! a thread sends it meanwhile, and what has not arrived a moment after the end stays there until `passk sync`.

mod dispatch;
mod fetch;
mod mlflow;
mod rest;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::file::write_atomically;
use crate::journal::{self, pretty};
use dispatch::Dispatch;
pub use fetch::{Fetched, fetch};
use mlflow::Experiment;
use rest::{Credentials, Rest};

/// The experiment when `MLFLOW_EXPERIMENT_NAME` names none.
pub const EXPERIMENT: &str = "weighted-mtp";

/// The note in a run's folder.
const NOTE: &str = "mlflow.json";

/// Why a run was not sent. Every one is a line that says what, where, and the remedy.
#[derive(Debug, Error)]
#[allow(missing_docs)] // fields are what the messages show
pub enum TrackError {
    /// The tracking URI is none that REST reaches.
    #[error("MLFLOW_TRACKING_URI is `{uri}`, which REST does not reach: {remedy}")]
    Scheme { uri: String, remedy: String },
    /// A variable holds what it must not.
    #[error("{name} is `{value}`: it must be {expected}")]
    Variable { name: &'static str, value: String, expected: &'static str },
    /// Nobody answers, or not in time, or not as MLflow does.
    #[error("MLflow at {server} cannot be used: {cause}: start it there, or correct MLFLOW_TRACKING_URI")]
    Unreachable { server: String, cause: String },
    /// Wrong password, or none.
    #[error(
        "MLflow at {server} refuses these credentials ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    )]
    Unauthorized { server: String, status: u16 },
    /// The experiment is in the bin.
    #[error(
        "experiment `{experiment}` at {server} is deleted: restore it (`mlflow experiments restore --experiment-id {id}`), or name another with MLFLOW_EXPERIMENT_NAME"
    )]
    Deleted { server: String, experiment: String, id: String },
    /// There is no such experiment.
    #[error(
        "there is no experiment `{experiment}` at {server}: give the name of one that is there with --experiment, or send it runs with `passk sync`"
    )]
    Missing { server: String, experiment: String },
    /// Any other answer that is no success.
    #[error("MLflow at {server} answers {status} {code}: {said}")]
    Refused { server: String, status: u16, code: String, said: String },
    /// Another process works on the run.
    #[error("run folder `{}` is in use: wait for it, then call `passk sync` again", .0.display())]
    InUse(PathBuf),
    /// The run's folder is not as it should be.
    #[error("failed to use `{}`: {cause}", path.display())]
    Folder { path: PathBuf, cause: String },
}

/// Where runs go.
#[derive(Clone)]
pub struct Server {
    url: Url,
    credentials: Credentials,
    experiment: String,
    timeout: Duration,
    retries: u32,
}

impl Server {
    /// What the environment says, as MLflow's own client reads it: `MLFLOW_TRACKING_URI`, `MLFLOW_TRACKING_USERNAME`
    /// and `_PASSWORD`, `MLFLOW_TRACKING_TOKEN`, `MLFLOW_EXPERIMENT_NAME`, `MLFLOW_HTTP_REQUEST_TIMEOUT` (seconds)
    /// and `MLFLOW_HTTP_REQUEST_MAX_RETRIES`. `None` without a tracking URI.
    ///
    /// # Errors
    /// A URI that REST cannot reach, or a number that is none.
    pub fn from_env() -> Result<Option<Server>, TrackError> {
        Server::from_lookup(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_lookup(variable: &dyn Fn(&'static str) -> Option<String>) -> Result<Option<Server>, TrackError> {
        let Some(uri) = variable("MLFLOW_TRACKING_URI") else { return Ok(None) };
        let url = Url::parse(&uri).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| out_of_reach(&uri))?;
        let number = |name, default: u32| match variable(name) {
            None => Ok(default),
            Some(value) => value.trim().parse().ok().filter(|&n| n <= 86_400).ok_or(TrackError::Variable {
                name,
                value,
                expected: "a whole number",
            }),
        };
        let credentials = match (variable("MLFLOW_TRACKING_USERNAME"), variable("MLFLOW_TRACKING_TOKEN")) {
            (Some(username), _) => {
                let password = variable("MLFLOW_TRACKING_PASSWORD").unwrap_or_default();
                Credentials::Password { username, password }
            }
            (None, Some(token)) => Credentials::Token(token),
            (None, None) => Credentials::Nobody,
        };
        Ok(Some(Server {
            url,
            credentials,
            experiment: variable("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|| EXPERIMENT.into()),
            timeout: Duration::from_secs(number("MLFLOW_HTTP_REQUEST_TIMEOUT", 120)?.max(1).into()),
            retries: number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", 5)?,
        }))
    }

    /// The same server, another experiment.
    pub fn with_experiment(mut self, experiment: Option<String>) -> Server {
        self.experiment = experiment.unwrap_or(self.experiment);
        self
    }

    /// The experiment that runs go to.
    pub fn experiment(&self) -> &str {
        &self.experiment
    }

    /// Its address, without a password.
    pub fn address(&self) -> String {
        rest::shown(&self.url)
    }

    fn rest(&self) -> Result<Rest, TrackError> {
        Rest::new(self.url.clone(), self.credentials.clone(), self.timeout, self.retries)
    }

    fn open(&self) -> Result<Experiment, TrackError> {
        let missing = || TrackError::Missing { server: self.address(), experiment: self.experiment.clone() };
        Experiment::open(self.rest()?, &self.experiment, true)?.ok_or_else(missing)
    }
}

/// What is no server's address, and what to do about it.
fn out_of_reach(uri: &str) -> TrackError {
    const OTHERWISE: &str = "set it to the http:// or https:// address of an MLflow server";
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    // `postgresql+psycopg2://me:secret@host/mlflow`: the password is nobody's business.
    let secret = Url::parse(uri).ok().filter(|url| url.password().is_some()).and_then(|mut url| {
        url.set_password(Some("PASSWORD")).ok()?;
        Some(url.to_string())
    });
    let uri = secret.unwrap_or_else(|| uri.to_owned());
    let database = ["sqlite", "mysql", "mssql", "postgresql"].contains(&scheme.split('+').next().unwrap_or_default());
    // `localhost:5000`, `10.0.0.7:5000/mlflow`
    let port = uri.split_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse::<u16>().ok());
    let remedy = match () {
        () if database => {
            format!("start `mlflow server --backend-store-uri {uri}` and set it to that server's http:// address")
        }
        () if port.is_some() => format!("write http://{uri}, or https://"),
        () => OTHERWISE.to_owned(),
    };
    TrackError::Scheme { uri, remedy }
}

/// `mlflow.json`: a run that is to be sent, or was.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    /// When the evaluation began, in milliseconds since 1970.
    started_ms: u64,
    /// When its last sample was judged.
    finished_ms: u64,
    /// What was run.
    source: String,
    commit: Option<String>,
    user: Option<String>,
    /// Where it has arrived.
    #[serde(default)]
    sent: Vec<Sent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sent {
    server: String,
    experiment: String,
    run_id: String,
    /// See [`Dispatch::digest`].
    digest: String,
}

impl Note {
    fn read(folder: &Path) -> Result<Option<Note>, TrackError> {
        let path = folder.join(NOTE);
        let fail = |cause: String| TrackError::Folder { path: path.clone(), cause };
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(error.to_string())),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| fail(format!("{error}: delete it, and evaluate again"))),
        }
    }

    fn write(&self, folder: &Path) -> Result<(), TrackError> {
        let path = folder.join(NOTE);
        write_atomically(&path, &pretty(self))
            .map_err(|error| TrackError::Folder { path: path.clone(), cause: error.to_string() })
    }
}

/// Notes in the folder of a finished run that it is to be sent. A run that was only looked at again (`grown` is
/// false) keeps its times.
///
/// # Errors
/// The folder cannot be written.
pub fn note(folder: &Path, began: SystemTime, grown: bool) -> Result<(), TrackError> {
    let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    // What is broken is written anew.
    let before = Note::read(folder).ok().flatten();
    if before.is_some() && !grown {
        return Ok(());
    }
    let program = std::env::args().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let user = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let note = Note {
        started_ms: ms(began),
        finished_ms: ms(SystemTime::now()),
        source: name,
        commit: commit(),
        user: user.filter(|user| !user.is_empty()),
        sent: before.map(|before| before.sent).unwrap_or_default(),
    };
    note.write(folder)
}

/// The commit of the working folder, where there is one.
fn commit() -> Option<String> {
    let git = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(git.stdout).ok()?.trim().to_owned();
    (git.status.success() && commit.len() >= 40).then_some(commit)
}

/// What became of a run.
#[derive(Debug)]
pub enum Outcome {
    /// It arrived; its page, and a word on artifacts that could not.
    Sent(String, Option<String>),
    /// It had arrived before.
    There,
}

/// Sends one run, if it is not there yet.
fn send(folder: &Path, server: &Server, experiment: &Experiment) -> Result<Outcome, TrackError> {
    let Some(mut note) = Note::read(folder)? else { return Ok(Outcome::There) };
    let dispatch = Dispatch::read(folder, &note)?;
    let was_sent = |sent: &Sent| sent.server == server.address() && sent.experiment == server.experiment;
    if note.sent.iter().any(|sent| was_sent(sent) && sent.digest == dispatch.digest) {
        return Ok(Outcome::There);
    }
    let arrived = experiment.send(&dispatch)?;
    note.sent.retain(|sent| !was_sent(sent));
    note.sent.push(Sent {
        server: server.address(),
        experiment: server.experiment.clone(),
        run_id: arrived.run_id,
        digest: dispatch.digest,
    });
    note.write(folder)?;
    let artifacts = arrived.out_of_reach.map(|root| {
        format!(
            "its files stay in {}: the server keeps artifacts at {root}, where REST does not reach",
            folder.display()
        )
    });
    Ok(Outcome::Sent(arrived.url, artifacts))
}

/// Sends every run under `runs` that is noted and not there yet, and tells `said` of each that was tried. A run that
/// does not go does not keep the others.
///
/// # Errors
/// The server or its experiment cannot be used at all.
pub fn sync(
    runs: &Path,
    server: &Server,
    said: &mut dyn FnMut(&Path, Result<Outcome, TrackError>),
) -> Result<(), TrackError> {
    let entries = match std::fs::read_dir(runs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| TrackError::Folder { path: runs.to_owned(), cause: error.to_string() })?,
    };
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|folder| folder.join(NOTE).exists());
    folders.sort();
    if folders.is_empty() {
        return Ok(());
    }
    let experiment = server.open()?;
    for folder in folders {
        let held = journal::take_lock(&folder).map_err(|_| TrackError::InUse(folder.clone()));
        said(&folder, held.and_then(|_lock| send(&folder, server, &experiment)));
    }
    Ok(())
}

/// Sends runs beside an evaluation.
pub struct Tracker {
    folders: Sender<PathBuf>,
    outcomes: Receiver<(PathBuf, Result<Outcome, TrackError>)>,
    pushed: Vec<PathBuf>,
}

impl Tracker {
    /// Starts the thread that sends. It looks up the experiment at once, so that the end need not wait for that.
    pub fn start(server: Server) -> Tracker {
        let (folders, inbox) = mpsc::channel::<PathBuf>();
        let (outbox, outcomes) = mpsc::channel();
        thread::spawn(move || {
            let mut opened = server.open().ok();
            for folder in inbox {
                // If it was not there a while ago, it may be back by now.
                let outcome = opened.take().map_or_else(|| server.open(), Ok).and_then(|experiment| {
                    let outcome = send(&folder, &server, &experiment);
                    opened = Some(experiment);
                    outcome
                });
                if outbox.send((folder, outcome)).is_err() {
                    return;
                }
            }
        });
        Tracker { folders, outcomes, pushed: Vec::new() }
    }

    /// Hands over a run that [`note`] was written for.
    pub fn push(&mut self, folder: PathBuf) {
        // Nobody takes it if the thread is gone: then it stays spooled.
        let _ = self.folders.send(folder.clone());
        self.pushed.push(folder);
    }

    /// Waits no longer than `patience`, and says of each run what became of it; `None` for one still on its way.
    pub fn finish(self, patience: Duration) -> Vec<(PathBuf, Option<Result<Outcome, TrackError>>)> {
        let Tracker { folders, outcomes, pushed } = self;
        drop(folders);
        let deadline = Instant::now() + patience;
        let mut came: Vec<(PathBuf, Result<Outcome, TrackError>)> = Vec::new();
        while came.len() < pushed.len() {
            match outcomes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(outcome) => came.push(outcome),
                Err(_) => break,
            }
        }
        let mut of = |folder: PathBuf| {
            let at = came.iter().position(|(of, _)| *of == folder);
            (folder, at.map(|at| came.swap_remove(at).1))
        };
        pushed.into_iter().map(&mut of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(variables: &'static [(&'static str, &'static str)]) -> Result<Option<Server>, TrackError> {
        let of = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string());
        Server::from_lookup(&of)
    }

    #[test]
    fn variables_are_read_as_mlflow_reads_them() {
        assert!(server(&[]).unwrap().is_none());
        let plain = server(&[("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000/")]).unwrap().unwrap();
        assert_eq!((plain.experiment.as_str(), plain.timeout.as_secs(), plain.retries), ("weighted-mtp", 120, 5));
        // A password in the address is used, and never shown.
        let secret = server(&[("MLFLOW_TRACKING_URI", "https://me:secret@host/mlflow")]).unwrap().unwrap();
        assert_eq!(secret.address(), "https://host/mlflow");
        let known = [
            (["MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"], "mlflow server --backend-store-uri sqlite:///mlflow.db"),
            (
                ["MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:secret@host/mlflow"],
                "psycopg2://me:PASSWORD@host/mlflow` and",
            ),
            (["MLFLOW_TRACKING_URI", "localhost:5000"], "write http://localhost:5000, or"),
            (["MLFLOW_TRACKING_URI", "127.0.0.1:5000/mlflow"], "write http://127.0.0.1:5000/mlflow, or"),
            (["MLFLOW_TRACKING_URI", "file:/srv/mlruns"], "set it to the http:// or https:// address"),
            (["MLFLOW_TRACKING_URI", "mlruns"], "`mlruns`, which REST does not reach: set it to"),
            (["MLFLOW_TRACKING_URI", "databricks"], "REST does not reach"),
        ];
        for ([name, value], expected) in known {
            let of = |asked: &str| (asked == name).then(|| value.to_owned());
            let error = Server::from_lookup(&of).err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{value}: {error}");
        }
        let timeout = server(&[("MLFLOW_TRACKING_URI", "http://h"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")]);
        assert!(timeout.err().unwrap().to_string().contains("MLFLOW_HTTP_REQUEST_TIMEOUT is `soon`"));
    }
}
