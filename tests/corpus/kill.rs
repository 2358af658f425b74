//! SIGKILL at any moment, of the harness or of its own processes below it: a second later nothing is left, and the run that is
//! taken up again ends as if nothing had happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use crate::host::{descendants, files};

/// How long anything may outlive the harness.
const GRACE: Duration = Duration::from_secs(1);

/// What is judged, so often that a kill falls into the middle of it.
const EVALUATE: [&str; 6] = ["evaluate", "--dataset", "micro", "--samples", "canonical", "--no-mlflow"];

/// `COUNT SEED PASSK REPOSITORY`: prints `fault: …` for each fault, and at last `done: …`.
pub(crate) fn work(arguments: &[String]) -> ExitCode {
    let [count, seed, passk, repository] = arguments else {
        eprintln!("--kill COUNT SEED PASSK REPOSITORY");
        return ExitCode::from(2);
    };
    // Whoever loses its parent falls to us, and is seen.
    set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut dice = Dice(seed.parse().unwrap());
    let reference = Place::new(passk, repository);
    let begun = Instant::now();
    assert!(reference.start().wait().unwrap().success(), "the run that nobody disturbs");
    let whole = begun.elapsed();
    let wanted = reference.samples();
    assert!(!wanted.is_empty());
    let idle = files();
    let (mut faults, mut hit, mut unfinished) = (0, BTreeMap::new(), 0);
    let mut fault = |text: String| {
        println!("fault: {text}");
        faults += 1;
    };
    for number in 0..count.parse().unwrap() {
        let place = Place::new(passk, repository);
        let moment = whole.mul_f64(dice.part());
        let mut harness = place.start();
        thread::sleep(moment);
        let mut targets = vec![(harness.id(), "harness".to_owned())];
        // Who kills a program from outside looks like a program that killed itself: that is a verdict, and stays one.
        targets
            .extend(descendants().into_iter().filter(|(pid, name)| *pid != harness.id() && name.starts_with("passk")));
        // The harness every other time, else one of those below it.
        let index = if dice.part() < 0.5 { 0 } else { (dice.part() * targets.len() as f64) as usize };
        let (pid, name) = targets[index].clone();
        *hit.entry(name.clone()).or_insert(0) += 1;
        let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
        if index == 0 {
            harness.wait().unwrap();
            let left = left();
            if !left.is_empty() {
                fault(format!("{number}: {name} killed after {moment:?}: left {left:?}"));
                for pid in left.keys().filter_map(|pid| Pid::from_raw(*pid as i32)) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            unfinished += usize::from(place.samples().len() < wanted.len());
        }
        // It goes on, or says that it could not; taken up again it comes to its end.
        harness.wait().unwrap();
        let mut resumed = place.start();
        let status = resumed.wait().unwrap();
        let samples = place.samples();
        if !status.success() || samples != wanted {
            let odd = wanted.iter().find(|(key, value)| samples.get(*key) != Some(*value));
            fault(format!(
                "{number}: {name} killed after {moment:?}: {status}, {} samples, e.g. {odd:?}",
                samples.len()
            ));
        }
        let left = left();
        if !left.is_empty() {
            fault(format!("{number}: the resumed run left {left:?}"));
        }
    }
    // Of a harness that is killed nobody is left to remove the folders of the programs that ran just then.
    let folders = files().saturating_sub(idle);
    println!(
        "done: killed {hit:?}; {unfinished} runs were not at their end; {folders} files and folders of theirs are left"
    );
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Who is still below us when the time is over. The dead that fell to us are buried.
fn left() -> BTreeMap<u32, String> {
    let begun = Instant::now();
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left = descendants();
        if left.is_empty() || begun.elapsed() > GRACE {
            return left;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder to run in, with the micro suite's fixtures.
struct Place {
    folder: tempfile::TempDir,
    passk: PathBuf,
}

impl Place {
    fn new(passk: &str, repository: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("storage")).unwrap();
        let fixtures = Path::new(repository).join("storage/micro");
        std::os::unix::fs::symlink(fixtures, folder.path().join("storage/micro")).unwrap();
        Place { folder, passk: passk.into() }
    }

    fn start(&self) -> Child {
        let mut command = Command::new(&self.passk);
        command.args(EVALUATE).current_dir(self.folder.path()).env_remove("PASSK_STORAGE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// What was judged: task → verdict and detail.
    fn samples(&self) -> BTreeMap<String, String> {
        let runs = fs::read_dir(self.folder.path().join("storage/runs")).into_iter().flatten().flatten();
        let text: String = runs.filter_map(|run| fs::read_to_string(run.path().join("samples.jsonl")).ok()).collect();
        let sample = |line: &str| {
            // The last line of a killed run may be cut.
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            let key = format!("{} {}", value["task_id"], value["sample"]);
            Some((key, format!("{} {} {}", value["passed"], value["verdict"], value["detail"])))
        };
        text.lines().filter_map(sample).collect()
    }
}

/// Numbers of splitmix64, the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// In [0, 1).
    pub(crate) fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
