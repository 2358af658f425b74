//! Machines that lack something: a run goes on or stops with one clear message, and never judges a program wrongly.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;

use crate::workplace::{Ran, Workplace, run};

/// Two programs that are right.
const EVALUATE: [&str; 7] = ["evaluate", "--dataset", "micro", "--samples", "canonical", "micro/1", "micro/2"];

/// Judges them on a machine that `setup`, shell commands, makes poor.
#[track_caller]
fn judged(place: &Workplace, setup: &str) -> Ran {
    let ran = run(&mut place.passk_after(setup, &EVALUATE));
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    let runs = fs::read_dir(place.path("storage/runs")).into_iter().flatten().flatten();
    let samples: String = runs.filter_map(|run| fs::read_to_string(run.path().join("samples.jsonl")).ok()).collect();
    let (right, wrong) = (samples.matches("\"passed\":true").count(), samples.matches("\"passed\":false").count());
    assert_eq!(wrong, 0, "after `{setup}` judged wrongly:\n{samples}");
    match ran.code {
        Some(0) => assert_eq!(right, 2, "after `{setup}` all is well, but not all was judged"),
        Some(1..=3) => assert!(!ran.stderr.trim().is_empty() || ran.stdout.contains("not judged"), "no word of why"),
        other => panic!("after `{setup}` ended with {other:?}: {}", ran.stderr),
    }
    ran
}

/// Whether this user may have mounts of its own, in a shell of its own.
fn mounts() -> Option<&'static str> {
    let works = |command: &str| Command::new("sh").args(["-c", command]).output().is_ok_and(|ran| ran.status.success());
    ["unshare -m", "unshare -rm"].into_iter().find(|own| works(&format!("{own} mount -t tmpfs none /mnt 2>&1")))
}

/// In mounts of its own: `setup`, then the run.
fn in_own_mounts(setup: &str) -> Option<String> {
    let own = mounts();
    if own.is_none() {
        eprintln!("no mounts of one's own here: `{setup}` was not tried");
    }
    // The shell that sets up is the one that goes on to be passk.
    own.map(|own| format!("[ -n \"$OWN_MOUNTS\" ] || OWN_MOUNTS=1 exec {own} sh -c \"$SETUP\" sh \"$@\"; {setup}"))
}

#[test]
fn without_proc() {
    let place = Workplace::new();
    if let Some(setup) = in_own_mounts("mount -t tmpfs none /proc") {
        judged(&place, &setup);
    }
}

#[test]
fn temporary_folder_that_is_read_only() {
    let place = Workplace::new();
    fs::create_dir(place.path("tmp")).unwrap();
    let setup = "export TMPDIR=$PWD/tmp; mount --bind tmp tmp && mount -o remount,ro,bind tmp";
    if let Some(setup) = in_own_mounts(setup) {
        judged(&place, &setup).with_code(2).saying(&["tmp", "TMPDIR"]);
    }
}

#[test]
fn disk_full_where_programs_run() {
    let place = Workplace::new();
    fs::create_dir(place.path("tmp")).unwrap();
    if let Some(setup) = in_own_mounts("export TMPDIR=$PWD/tmp; mount -t tmpfs -o size=4k none tmp") {
        judged(&place, &setup);
    }
}

#[test]
fn disk_full_where_runs_are_kept() {
    let place = Workplace::new();
    fs::create_dir(place.path("storage/runs")).unwrap();
    if let Some(setup) = in_own_mounts("mount -t tmpfs -o size=8k none storage/runs") {
        let ran = judged(&place, &setup);
        assert_ne!(ran.code, Some(0));
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("No space left on device"), "{}", ran.stderr);
    }
}

#[test]
fn descriptors_exhausted() {
    for most in [4, 6, 8, 10, 12, 16, 20, 24, 32, 64] {
        judged(&Workplace::new(), &format!("ulimit -n {most}"));
    }
    judged(&Workplace::new(), "ulimit -n 256").with_code(0);
}

#[test]
fn fork_refused() {
    // Root is not bound by the limit on its processes: a user that owns nothing is, where root can become one.
    let Some(python) =
        ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| fs::exists(path).unwrap())
    else {
        eprintln!("no interpreter that every user may run: refused forks were not tried");
        return;
    };
    let drop = "setpriv --reuid 54321 --regid 54321 --clear-groups";
    if !Command::new("sh").args(["-c", &format!("{drop} true")]).output().unwrap().status.success() {
        eprintln!("nobody to become: refused forks were not tried");
        return;
    }
    for most in [1, 8] {
        let place = Workplace::new();
        // The folder and the binary are copied to where that user may go.
        let setup = format!(
            "export PASSK_PYTHON={python}; [ -n \"$OWN_USER\" ] || {{ cp \"$1\" passk; cp -RL storage/micro copied; \
             rm storage/micro; mv copied storage/micro; chmod -R a+rwX . ; chmod 755 passk; shift; set -- ./passk \"$@\"; \
             OWN_USER=1 exec {drop} sh -c \"$SETUP\" sh \"$@\"; }}; prlimit --pid $$ --nproc={most}"
        );
        judged(&place, &setup);
    }
}

#[test]
fn python_behind_a_shim() {
    // As version managers put it first on the path: the interpreter behind it is found once.
    let shim = "printf '#!/bin/sh\\nexec %s \"$@\"\\n' \"$(command -v python3)\" > shim; chmod +x shim; \
                export PASSK_PYTHON=$PWD/shim";
    judged(&Workplace::new(), shim).with_code(0);
}
