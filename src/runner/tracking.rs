//! Telling a tracker of finished runs, without ever waiting for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::{contest, say};
use crate::track::{self, Outcome, Server, Tracker};

/// How long the end of an evaluation may wait for a tracker, over all its runs.
const PATIENCE: Duration = Duration::from_millis(600);

/// What tracking there is.
pub(super) struct Tracking {
    began: SystemTime,
    way: Way,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tracker: Option<Tracker>,
    noted: usize,
    unsent: usize,
}

enum Way {
    /// `--no-mlflow`.
    Off,
    /// There is no server; runs are noted for a later `passk sync`.
    Nowhere,
    /// Noted only: under nextest every problem has a process of its own, and none of them is the run's end.
    Later,
    /// Sent at once.
    Now,
}

impl Tracking {
    /// Looks where runs go, and begins to connect.
    pub(super) fn begin(wanted: bool) -> Tracking {
        let (way, server) = match Server::from_env() {
            _ if !wanted => (Way::Off, None),
            Ok(None) => (Way::Nowhere, None),
            Ok(Some(_)) if contest::nextest().is_some() => (Way::Later, None),
            Ok(server) => (Way::Now, server),
            Err(error) => {
                say::line(&error.to_string());
                (Way::Later, None)
            }
        };
        let state = State { tracker: server.map(Tracker::start), ..State::default() };
        Tracking { began: SystemTime::now(), way, state: Mutex::new(state) }
    }

    /// A run is whole: `grown` says whether by this invocation.
    pub(super) fn push(&self, folder: &Path, grown: bool) {
        if matches!(self.way, Way::Off) {
            return;
        }
        if let Err(error) = track::note(folder, self.began, grown) {
            return say::line(&error.to_string());
        }
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.noted += 1;
        if let Some(tracker) = &mut state.tracker {
            tracker.push(folder.to_owned());
        }
    }

    /// Waits a moment for what is on its way, and says in words what became of each run.
    pub(super) fn finish(&self) -> HashMap<PathBuf, String> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let outcomes = state.tracker.take().map(|tracker| tracker.finish(PATIENCE)).unwrap_or_default();
        let mut unsent = 0;
        let words = |(folder, outcome): (PathBuf, _)| {
            let words = match outcome {
                Some(Ok(Outcome::Sent(url, None))) => url,
                Some(Ok(Outcome::Sent(url, Some(remark)))) => format!("{url} ({remark})"),
                Some(Ok(Outcome::There)) => "there already".to_owned(),
                Some(Err(error)) => {
                    unsent += 1;
                    format!("not sent: {error}")
                }
                None => {
                    unsent += 1;
                    "not there within a second".to_owned()
                }
            };
            (folder, words)
        };
        let words = outcomes.into_iter().map(words).collect();
        state.unsent = unsent;
        words
    }

    /// What is to be done about runs that were not sent.
    pub(super) fn remark(&self) {
        let state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match self.way {
            Way::Nowhere if state.noted > 0 => {
                say::line("kept here alone: MLFLOW_TRACKING_URI is not set (`passk sync` sends runs later)");
            }
            Way::Later if state.noted > 0 => say::line("MLflow was not told yet: `passk sync` sends the run"),
            Way::Now if state.unsent > 0 => {
                say::line(&format!("{} of {} runs wait here: `passk sync` sends them", state.unsent, state.noted));
            }
            _ => {}
        }
    }
}
