//! `passk evaluate`, `inspect` and `fetch`, run as a user would: on the micro suite and its real checkpoint.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use passk::checkpoint::Checkpoint;

use crate::workplace::{Workplace, repository, run};

/// Ten problems, six samples each.
const EVALUATE: [&str; 9] =
    ["evaluate", "--dataset", "micro", "--num-samples", "6", "--max-tasks", "10", "--temperature", "0.8"];

fn samples(place: &Workplace) -> String {
    std::fs::read_to_string(place.run_folder().join("samples.jsonl")).unwrap()
}

#[test]
fn evaluate_leaves_the_same_records_as_a_harness() {
    let place = Workplace::new();
    let ran = run(&mut place.passk(&EVALUATE)).with_code(0);
    assert_eq!(ran.stdout, "");
    let ran = ran.saying(&["[10/10] micro/", "baseline on micro", "pass@5", "pass@10 left out: n is 6", "tokens/s"]);
    drop(ran);
    let run_json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.run_folder().join("run.json")).unwrap()).unwrap();
    assert_eq!(run_json["fingerprint"]["completions"]["sampling"]["temperature"], 0.8);
    assert!(run_json["checkpoint"]["val_metrics"]["val_loss"].as_f64().unwrap() > 0.0);

    let keys: Vec<(String, u64)> = samples(&place)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|sample| (sample["task_id"].as_str().unwrap().to_owned(), sample["sample"].as_u64().unwrap()))
        .collect();
    assert_eq!(keys.len(), 60);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 60);
    assert_eq!(keys.iter().map(|key| key.1).take(6).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    // A second time there is nothing left to do.
    run(&mut place.passk(&EVALUATE)).with_code(0).saying(&["0 completions to judge, 60 kept from before"]);
    // Nor does one problem looked at again take the place of the whole run's results.
    let results = || std::fs::read_to_string(place.run_folder().join("results_micro.csv")).unwrap();
    let summary = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(place.run_folder().join("summary.json")).unwrap()).unwrap()
    };
    let (before, score) = (results(), summary()["pass_at_k"].clone());
    let one = [&EVALUATE[..], &[&keys[0].0]].concat();
    run(&mut place.passk(&one)).with_code(0).saying(&["1 of 10 problems"]);
    assert_eq!((results(), &summary()["pass_at_k"], &summary()["problems"]), (before, &score, &10.into()));
}

#[test]
fn samples_are_the_same_bytes_whatever_the_batch_the_threads_and_the_jobs() {
    let whole = Workplace::new();
    run(&mut whole.passk(&EVALUATE)).with_code(0);
    for (flags, threads) in [(["--batch", "1", "--jobs", "3"], "2"), (["--batch", "7", "--jobs", "1"], "1")] {
        let place = Workplace::new();
        run(place.passk(&[&EVALUATE[..], &flags].concat()).env("RAYON_NUM_THREADS", threads)).with_code(0);
        assert_eq!(samples(&place), samples(&whole), "{flags:?}, {threads} threads");
    }
    // A larger n only adds: the same run, begun with fewer samples and one problem alone.
    let place = Workplace::new();
    let id = serde_json::from_str::<serde_json::Value>(samples(&whole).lines().next().unwrap()).unwrap();
    let one = [&EVALUATE[..], &[id["task_id"].as_str().unwrap()]].concat();
    run(&mut place.passk(&one)).with_code(0).saying(&["6 completions to judge", "1 of 10 problems"]);
    run(place.passk(&EVALUATE).env("PASSK_NUM_SAMPLES", "")).with_code(0).saying(&["6 kept from before"]);
    assert_eq!(samples(&place), samples(&whole));
}

/// Starts an evaluation and waits until it has judged a few samples.
#[allow(clippy::zombie_processes)] // the caller waits for it; here it is given up only by a failed test
fn begin(place: &Workplace) -> (Child, PathBuf) {
    std::fs::create_dir(place.path("tmp")).unwrap();
    let mut command = place.passk(&EVALUATE);
    command.env("TMPDIR", place.path("tmp")).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "nothing was judged");
        std::thread::sleep(Duration::from_millis(5));
        if std::fs::read_dir(place.path("storage/runs")).is_ok_and(|runs| runs.count() == 1) {
            let journal = place.run_folder().join("samples.jsonl");
            if std::fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() >= 5) {
                return (child, journal);
            }
        }
    }
}

#[test]
fn sigkill_in_the_middle_loses_nothing() {
    let whole = Workplace::new();
    run(&mut whole.passk(&EVALUATE)).with_code(0);
    let place = Workplace::new();
    let (mut child, journal) = begin(&place);
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = std::fs::read_to_string(&journal).unwrap();
    assert!(kept.lines().count() < 60, "it was over before it was killed");
    // A power cut may also tear the last line.
    std::fs::write(&journal, &kept[..kept.len() - 9]).unwrap();
    let lines = kept.lines().count() - 1;
    run(&mut place.passk(&EVALUATE)).with_code(0).saying(&[&format!("{lines} kept from before")]);
    for file in ["samples.jsonl", "results_micro.csv", "run.json"] {
        let read = |place: &Workplace| std::fs::read(place.run_folder().join(file)).unwrap();
        assert_eq!(read(&place), read(&whole), "{file}");
    }
}

#[test]
fn ctrl_c_keeps_what_is_finished_and_says_how_to_go_on() {
    let place = Workplace::new();
    let (child, journal) = begin(&place);
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted; what was judged is kept"), "{stderr}");
    assert!(stderr.contains(&format!("passk {}", EVALUATE.join(" "))), "{stderr}");
    assert_eq!(std::fs::read_dir(place.path("tmp")).unwrap().count(), 0, "programs' folders are left");
    let kept = std::fs::read_to_string(&journal).unwrap();
    // A program that was cut short by us got no verdict.
    assert!(!kept.contains("\"signal\""), "{kept}");
    let whole = Workplace::new();
    run(&mut whole.passk(&EVALUATE)).with_code(0);
    run(&mut place.passk(&EVALUATE)).with_code(0).saying(&["kept from before"]);
    assert_eq!(samples(&place), samples(&whole));
}

#[test]
fn two_at_once_on_one_run_the_second_says_who_holds_it() {
    let place = Workplace::new();
    let (mut child, _) = begin(&place);
    // It holds the run as long as we like, however slowly the second one starts.
    let stopped = Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let holder = format!("in use by process {}", child.id());
    run(&mut place.passk(&EVALUATE)).with_code(2).saying(&[&holder]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn fresh_begins_anew_and_greedy_makes_one() {
    let place = Workplace::new();
    let greedy = ["evaluate", "--dataset", "micro", "--temperature", "0", "micro/1"];
    run(&mut place.passk(&greedy)).with_code(0).saying(&["· n 1 ·", "1 completions to judge\n"]);
    let again = [&greedy[..], &["--fresh"]].concat();
    run(&mut place.passk(&again)).with_code(0).saying(&["1 completions to judge\n"]);
    run(&mut place.passk(&greedy)).with_code(0).saying(&["1 kept from before"]);
}

#[test]
fn several_checkpoints_are_told_apart_by_their_labels() {
    let place = Workplace::new();
    let args = [
        "evaluate",
        "--dataset",
        "micro",
        "--num-samples",
        "1",
        "--pipeline",
        "baseline",
        "rho1",
        "--json",
        "out.json",
    ];
    let ran = run(&mut place.passk(&[&args[..], &["micro/0", "micro/3"]].concat())).with_code(0);
    drop(ran.saying(&["baseline::micro/0 ", "rho1::micro/0 ", "baseline on micro", "rho1 on micro"]));
    let summaries: serde_json::Value = serde_json::from_str(&place.read("out.json")).unwrap();
    assert_eq!((&summaries[0]["label"], &summaries[1]["label"]), (&"baseline".into(), &"rho1".into()));

    let curve = ["evaluate", "--dataset", "micro", "--num-samples", "1", "micro/0"];
    let pattern = ["--checkpoint-pattern", "checkpoint_epoch_*.pt", "--pipeline", "verifiable"];
    let ran = run(&mut place.passk(&[&curve[..], &pattern].concat())).with_code(0);
    let order: Vec<usize> =
        (1..=3).map(|n| ran.stderr.find(&format!("\nverifiable-epoch_{n} on micro")).unwrap()).collect();
    assert!(order.is_sorted(), "{}", ran.stderr);
    // The table at the end: label, epoch, validation loss, pass@1 and its interval where there is one.
    let table: Vec<Vec<&str>> =
        ran.stderr.lines().rev().take(4).map(|line| line.split_whitespace().take(4).collect()).collect();
    let [head, epochs @ ..] = &table.iter().rev().collect::<Vec<_>>()[..] else { unreachable!() };
    assert_eq!(**head, ["epoch", "val", "loss", "pass@1"], "{}", ran.stderr);
    for (n, row) in (1..=3).zip(epochs) {
        let path = repository().join(format!("storage/micro/checkpoints/verifiable/checkpoint_epoch_{n}.pt"));
        let loss = Checkpoint::open(&path).unwrap().val_metrics["val_loss"];
        let expected = [format!("verifiable-epoch_{n}"), n.to_string(), format!("{loss:.4}")];
        assert_eq!(row[..3], expected, "{}", ran.stderr);
        assert!(["0.0000", "1.0000"].contains(&row[3]), "{}", ran.stderr);
    }
}

#[test]
fn given_completions_are_judged_as_they_stand() {
    let place = Workplace::new();
    // Nothing is cut at "\ndef" or "\n#", and five samples allow pass@5.
    let helper = "    return helper(x)\\n\\ndef helper(x):\\n    return x ** 2\\n# done";
    let line = format!("{{\"task_id\": \"micro/1\", \"completion\": \"{helper}\"}}\n");
    let file = place.write("given.jsonl", &line.repeat(5));
    let args = ["evaluate", "--dataset", "micro", "micro/1", "--samples", file.to_str().unwrap()];
    run(&mut place.passk(&args)).with_code(0).saying(&["5/5", "pass@1 1.0000", "pass@5 1.0000"]);
    assert!(samples(&place).contains("# done"));
}

#[test]
fn inspect_shows_what_a_checkpoint_holds() {
    let checkpoint = repository().join("tests/data/checkpoints/heads4/checkpoint_best.pt");
    let stdout = run(&mut Workplace::new().passk(&["inspect", checkpoint.to_str().unwrap()])).with_code(0).stdout;
    for word in ["kind        full", "extra_heads.2.attention.wq.weight", "val_loss", "\"path\"", "parameters", "f32"] {
        assert!(stdout.contains(word), "`{word}` is missing:\n{stdout}");
    }
}
