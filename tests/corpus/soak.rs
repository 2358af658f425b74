//! Many programs one after the other, as a long evaluation has them: nothing adds up.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use passk::jail::{Jail, JailOptions, Limits, Python};
use passk::program::{Program, Tests};
use passk::verdict::Verdict;

use crate::host::{descendants, files, mounts};

/// Programs judged at once.
const THREADS: usize = 2;

/// How much more memory than after the first programs may be held at the end: allocators keep what is freed.
const MOST_GROWTH: u64 = 16 << 20;

/// What a long evaluation meets, and how often: every so many programs.
const MEETS: [(u64, &str, Verdict); 7] = [
    (1000, "import os, time\nif os.fork() == 0:\n    os.closerange(0, 4096)\n    time.sleep(20)", Verdict::Violation),
    (500, "x = []\nwhile True: x.append(bytearray(1 << 20))", Verdict::MemoryLimit),
    (97, "import os\nos.kill(0, 9)", Verdict::Signal),
    (29, "import os\nfor n in range(50): open(str(n), 'w').write('x' * 9000)\nos._exit(0)", Verdict::EarlyExit),
    (13, "import subprocess\nassert subprocess.run(['true']).returncode == 0", Verdict::Passed),
    (3, "assert [n * n for n in range(4)] == []", Verdict::WrongAnswer),
    (1, "def f(x):\n    return x + 1\n\nprint('said' * 100)\nassert f(1) == 2", Verdict::Passed),
];

/// `COUNT HOST`, at the best level that holds; prints `fault: …` for each fault, and at last `done: …`.
pub(crate) fn work(arguments: &[String]) -> ExitCode {
    let [count, host] = arguments else {
        eprintln!("--soak COUNT HOST");
        return ExitCode::from(2);
    };
    let count: u64 = count.parse().unwrap();
    let options = JailOptions { host: Some(PathBuf::from(host)), ..JailOptions::default() };
    let limits = Limits { memory_bytes: 256 << 20, ..Limits::for_cpu(Duration::from_secs(20)) };
    let jail = Jail::new(Python::find().unwrap(), limits, options).unwrap();
    let mounted = mounts();
    let begun = Instant::now();
    let faults = Mutex::new(Vec::new());
    run(&jail, 0..count.min(200), &faults);
    let before = State::now();
    println!("after {} programs: {before:?}", count.min(200));
    run(&jail, count.min(200)..count, &faults);
    let after = State::now();
    println!("after {count} programs: {after:?}");
    let mut faults = faults.into_inner().unwrap();
    if after.processes.len() != before.processes.len() || after.files > before.files {
        faults.push(format!("left something: {:?} and {} files", after.processes, after.files));
    }
    if after.descriptors > before.descriptors {
        faults.push(format!("{} descriptors where {} were", after.descriptors, before.descriptors));
    }
    if after.bytes > before.bytes + MOST_GROWTH {
        faults.push(format!("harness and jail hold {} MiB where {} were", after.bytes >> 20, before.bytes >> 20));
    }
    if mounts() != mounted {
        faults.push("a mount was left".into());
    }
    let level = jail.isolation();
    drop(jail);
    if !descendants().is_empty() {
        faults.push(format!("the jail is gone, but not {:?}", descendants()));
    }
    faults.iter().for_each(|fault| println!("fault: {fault}"));
    println!(
        "done: {count} programs at {level} in {:.0} s; {} processes, {} files, {} descriptors, {} MiB, as after the first",
        begun.elapsed().as_secs_f64(),
        after.processes.len(),
        after.files,
        after.descriptors,
        after.bytes >> 20
    );
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(jail: &Jail, numbers: std::ops::Range<u64>, faults: &Mutex<Vec<String>>) {
    let next = AtomicU64::new(numbers.start);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let (_, text, expected) = MEETS.iter().find(|(every, ..)| number % every == every - 1).unwrap();
                    let tests =
                        Tests::Code { text: format!("number = {number}\n"), entry_point: None, prompt: String::new() };
                    let judged = jail.run(&Program { candidate: (*text).into(), tests });
                    match judged {
                        Ok(judged) if judged.verdict == *expected => {}
                        Ok(judged) => faults
                            .lock()
                            .unwrap()
                            .push(format!("{number}: {} {}, not {expected}", judged.verdict, judged.detail)),
                        Err(error) => faults.lock().unwrap().push(format!("{number}: not judged: {error}")),
                    }
                }
            });
        }
    });
}

/// What is held while nothing is judged.
#[derive(Debug)]
struct State {
    processes: BTreeMap<u32, String>,
    files: usize,
    descriptors: usize,
    /// Memory of us and of all below us.
    bytes: u64,
}

impl State {
    fn now() -> State {
        let processes = descendants();
        let all: Vec<u32> = processes.keys().copied().chain([std::process::id()]).collect();
        let opened = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let kilobytes = |pid: &u32| -> Option<u64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        State {
            files: files(),
            descriptors: all.iter().map(opened).sum(),
            bytes: all.iter().filter_map(kilobytes).sum::<u64>() << 10,
            processes,
        }
    }
}
