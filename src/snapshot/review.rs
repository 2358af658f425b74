//! Review with insta's own tools: what is pending, accepted, and what its environment variables ask for.

use std::io::Write;
use std::panic;
use std::path::{Path, PathBuf};

use super::{Snapshot, path};

/// Hands the whole file to insta, once: equal text leaves nothing, other text a `.snap.new` to review, or what
/// `INSTA_UPDATE` and `CI` say. Returns what became of it, in words.
pub fn assert_with_insta(snapshots: &Path, label: &str, dataset: &str, whole: &Snapshot, run_id: &str) -> String {
    let folder = absolute(&snapshots.join(label));
    let path = path(snapshots, label, dataset);
    let new = path.with_extension("snap.new");
    let text = whole.render();
    let written = || std::fs::metadata(&new).and_then(|file| file.modified()).ok();
    let before = written();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(format!("passk run {run_id}"));
    // insta prints its diff to stdout and panics; stdout is the harness's, and the failing tests have said it already.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let outcome = silence_stdout(|| settings.bind(|| panic::catch_unwind(|| insta::assert_snapshot!(dataset, text))));
    panic::set_hook(hook);

    let accepted = Snapshot::read(&path).ok().flatten();
    let (path, new) = (path.display(), new.display());
    match outcome.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default()) {
        _ if accepted.as_ref() == Some(whole) => format!("holds ({path})"),
        _ if written().is_some() && written() != before => format!("to review: {new} (`cargo insta review`)"),
        Err(panic) if !panic.starts_with("snapshot assertion") => format!("could not be written at {new}: {panic}"),
        _ => format!("new, or not as in {path}; nothing was written (CI or INSTA_UPDATE)"),
    }
}

/// Runs `f` with stdout pointing nowhere.
fn silence_stdout<R>(f: impl FnOnce() -> R) -> R {
    let _ = std::io::stdout().flush();
    let saved = rustix::io::dup(rustix::stdio::stdout());
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null");
    if let (Ok(_), Ok(nowhere)) = (&saved, nowhere) {
        let _ = rustix::stdio::dup2_stdout(nowhere);
    }
    let result = f();
    let _ = std::io::stdout().flush();
    if let Ok(saved) = saved {
        let _ = rustix::stdio::dup2_stdout(saved);
    }
    result
}

/// Whether insta's environment says that a difference is no failure now (`cargo insta test` collects first and
/// reviews later; `INSTA_UPDATE=always` accepts).
pub fn insta_lets_pass() -> bool {
    let variable = |name| std::env::var(name).unwrap_or_default();
    variable("INSTA_FORCE_PASS") == "1" || matches!(variable("INSTA_UPDATE").as_str(), "always" | "force")
}

/// Tells `cargo insta test --unreferenced=…` that every snapshot there is, is in use: a run of some problems, labels or
/// datasets says nothing against the others.
pub fn reference_all(snapshots: &Path) {
    let Some(list) = std::env::var_os("INSTA_SNAPSHOT_REFERENCES_FILE") else { return };
    let labels = std::fs::read_dir(snapshots).into_iter().flatten().flatten();
    let files = labels.flat_map(|label| std::fs::read_dir(label.path()).into_iter().flatten().flatten());
    let snaps = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "snap"));
    let lines: String = snaps.map(|path| absolute(&path).display().to_string() + "\n").collect();
    let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
    // Where insta cannot list, cargo-insta deletes nothing.
    let _ = list.and_then(|mut list| list.write_all(lines.as_bytes()));
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
