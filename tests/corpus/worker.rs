//! Runs the corpus in one setting, as whoever it is, and looks after the host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use passk::jail::{Isolation, Jail, JailError, JailOptions, Limits, Python, Start};
use passk::verdict::Judgement;

use crate::head::{Case, Setting};
use crate::host::{Host, peak_memory};
use crate::matrix::programs;

/// How much later than its wall time a program may end.
const SLACK: Duration = Duration::from_secs(1);

/// The most memory that judging may take of us: outputs and results of a hundred megabytes are not kept.
const MOST_MEMORY: u64 = 160 << 20;

/// For benign programs on a box that has other things to do.
fn generous() -> Limits {
    Limits::for_cpu(Duration::from_secs(20))
}

/// For programs that are going to reach them.
fn tight() -> Limits {
    Limits {
        cpu: Duration::from_secs(1),
        wall: Duration::from_secs(10),
        memory_bytes: 256 << 20,
        output_bytes: 64 << 10,
        file_bytes: 1 << 20,
        processes: 32,
    }
}

/// `LEVEL START FOLDER HOST REPOSITORY`; prints `fault: …` for each fault, and at last `done: …` or `not offered: …`.
pub(crate) fn work(arguments: &[String]) -> ExitCode {
    let [level, start, folder, host, repository] = arguments else {
        eprintln!("--worker LEVEL START FOLDER HOST REPOSITORY");
        return ExitCode::from(2);
    };
    let level = Isolation::ALL.into_iter().find(|known| known.to_string() == *level).unwrap();
    let start = Start::ALL.into_iter().find(|known| known.to_string() == *start).unwrap();
    let setting = Setting { level, start, root: rustix::process::geteuid().is_root(), split: true };
    let options =
        JailOptions { isolation: Some(level), consent: true, start, host: Some(host.into()), ..JailOptions::default() };
    let folder = PathBuf::from(folder);
    let guard = Host::new(&folder, Path::new(repository)).unwrap();
    let jail = match Jail::new(Python::find().unwrap(), generous(), options) {
        Ok(jail) => jail,
        Err(error @ JailError::Level { .. }) => {
            println!("not offered: {error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("fault: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (benign, hostile) = (programs(&folder.join("benign")).unwrap(), programs(&folder.join("hostile")).unwrap());
    let clean = benign.iter().find(|(name, _)| name == "next_is_clean").unwrap().1.clone();
    let mut bench = Bench { setting, jail, guard, benign, clean, faults: 0 };
    bench.run_all(hostile)
}

struct Bench {
    setting: Setting,
    jail: Jail,
    guard: Host,
    benign: Vec<(String, Case)>,
    /// Finds the world as it should be; run after every program.
    clean: Case,
    faults: usize,
}

impl Bench {
    fn run_all(&mut self, hostile: Vec<(String, Case)>) -> ExitCode {
        let begun = Instant::now();
        let only = std::env::var("PASSK_CORPUS_ONLY").unwrap_or_default();
        let wanted = |(name, case): &&(String, Case)| {
            name.starts_with(&only) && case.only.as_deref().is_none_or(|machine| machine == std::env::consts::ARCH)
        };
        // Slots and warm interpreters are there from now on, as many as two programs at once need.
        let mut pair = self.clean.clone();
        pair.at_once = Some("itself".into());
        self.judge("clean", &pair, &generous(), true);
        self.guard.settle();
        let benign: Vec<_> = self.benign.iter().filter(wanted).cloned().collect();
        for (name, case) in &benign {
            self.one(&format!("benign/{name}"), case, &generous());
        }
        // What attacks is never run where nothing holds it.
        let hostile: Vec<_> = if self.setting.level == Isolation::None { Vec::new() } else { hostile };
        let hostile: Vec<_> = hostile.iter().filter(wanted).collect();
        // Many of them take their time to reach a limit. A plain `cargo test` tries every third, other ones at each
        // level; what is asked for by name, or with `PASSK_CORPUS=all`, is tried whole.
        let whole = !only.is_empty() || std::env::var("PASSK_CORPUS").is_ok_and(|which| which == "all");
        let third = |index: usize| whole || index % 3 == self.setting.level as usize % 3;
        let hostile: Vec<_> =
            hostile.into_iter().enumerate().filter(|(index, _)| third(*index)).map(|(_, one)| one).collect();
        for (name, case) in &hostile {
            self.one(&format!("hostile/{name}"), case, &tight());
            self.judge(&format!("after hostile/{name}"), &self.clean.clone(), &generous(), false);
        }
        let peak = peak_memory();
        if peak > MOST_MEMORY {
            self.fault(&format!("the harness took {} MiB", peak >> 20));
        }
        let (seconds, peak) = (begun.elapsed().as_secs_f64(), peak >> 20);
        let (benign, hostile) = (benign.len(), hostile.len());
        println!("done: {benign} benign and {hostile} hostile programs in {seconds:.1} s, harness at most {peak} MiB");
        if self.faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn fault(&mut self, fault: &str) {
        println!("fault: {fault}");
        self.faults += 1;
    }

    /// A program, with what runs beside it, and then the look after the host.
    fn one(&mut self, name: &str, case: &Case, usual: &Limits) {
        self.judge(name, case, usual, true);
    }

    fn judge(&mut self, name: &str, case: &Case, usual: &Limits, beside: bool) {
        let facts = self.guard.facts().unwrap();
        let named = |wanted: &str| self.benign.iter().find(|(name, _)| name == wanted).map(|(_, case)| case.clone());
        let mut runs = vec![(name.to_owned(), case.clone(), usual.clone())];
        match case.at_once.as_deref().filter(|_| beside) {
            Some("itself") => runs.push(runs[0].clone()),
            Some(other) => runs.push((format!("{other} beside {name}"), named(other).unwrap(), generous())),
            None => {}
        }
        let jail = &self.jail;
        let facts = &facts;
        let seen: Vec<_> = thread::scope(|scope| {
            let run = |(name, case, usual): (String, Case, Limits)| {
                let limits = case.limits(&usual);
                let program = case.program(facts);
                let begun = Instant::now();
                let judged = jail.run_within(&program, &limits);
                (name, case, limits, judged, begun.elapsed())
            };
            let threads: Vec<_> = runs.into_iter().map(|one| scope.spawn(move || run(one))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut said = String::new();
        let mut faults = Vec::new();
        for (name, case, limits, judged, elapsed) in seen {
            let expected = case.expected(self.setting);
            let millis = elapsed.as_millis();
            match judged {
                Err(error) => faults.push(format!("{name}: not judged: {error}")),
                Ok(Judgement { verdict, detail, .. }) => {
                    println!("{name}: {verdict} in {millis} ms: {detail}");
                    if !expected.contains(&verdict) {
                        let names: Vec<&str> = expected.iter().map(|verdict| verdict.name()).collect();
                        faults.push(format!("{name}: {verdict}, not {}: {detail}", names.join(" or ")));
                    }
                    said.push_str(&detail);
                }
            }
            // A pass is judged twice, and a stdin/stdout problem once for each of its inputs.
            if elapsed > limits.wall * 2 + SLACK {
                faults.push(format!("{name}: took {millis} ms, with {:?} on the wall", limits.wall));
            }
        }
        faults.extend(self.guard.faults(&said).into_iter().map(|fault| format!("{name}: {fault}")));
        faults.iter().for_each(|fault| self.fault(fault));
    }
}
