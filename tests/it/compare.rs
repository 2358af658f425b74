//! `passk compare` and `passk report` on run folders that passk made, and on damaged ones.

use std::fs;
use std::path::Path;

use crate::workplace::{Workplace, run};

const RIGHT: &str = "    return x ** 2";
const HOSTILE: &str = "    return '</pre><script>document.title=\\\"pwned\\\"</script><img src=x onerror=alert(1)>'";

/// Two runs on micro/1 and micro/2, `worse` with fewer right answers.
fn two_runs() -> Workplace {
    runs_of([("better", 4), ("worse", 1)])
}

/// Runs on micro/1 and micro/2, each with so many right answers of four.
fn runs_of(runs: [(&str, usize); 2]) -> Workplace {
    let place = Workplace::new();
    for (label, right) in runs {
        let lines: String = ["micro/1", "micro/2"]
            .iter()
            .flat_map(|task| (0..4).map(move |i| (task, if i < right { RIGHT } else { HOSTILE })))
            .map(|(task, text)| format!("{{\"task_id\": \"{task}\", \"completion\": \"{text}\"}}\n"))
            .collect();
        let file = place.write(&format!("{label}.jsonl"), &lines);
        let args = ["evaluate", "--dataset", "micro", "--label", label, "--samples", file.to_str().unwrap()];
        run(&mut place.passk(&[&args[..], &["micro/1", "micro/2", "--gate", "off"]].concat())).with_code(0);
    }
    place
}

fn folder(place: &Workplace, label: &str) -> std::path::PathBuf {
    let runs = fs::read_dir(place.path("storage/runs")).unwrap().map(|entry| entry.unwrap().path());
    let begins = format!("micro-{label}-");
    runs.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&begins)).unwrap()
}

#[test]
fn two_runs_are_compared_in_every_form() {
    let place = two_runs();
    let ran = run(&mut place.passk(&["compare"])).with_code(0);
    for word in ["better → worse", "pass@1", "wrong_answer", "Solved by one run only"] {
        assert!(ran.stdout.contains(word), "`{word}` is missing:\n{}", ran.stdout);
    }
    drop(ran.saying(&["better has 2 of 62 problems"]));
    let csv = place.read("storage/reports/comparison_micro.csv");
    assert!(csv.lines().count() == 3 && csv.contains(",worse,,2,4,yes,1,"), "{csv}");
    assert!(place.read("storage/reports/comparison_micro.md").contains("| better → worse |"));
    let svg = place.read("storage/reports/comparison_micro.svg");
    assert!(svg.contains("pass@1") && svg.contains("better"), "{svg}");
    let png = fs::read(place.path("storage/reports/comparison_micro.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));

    let narrow = run(place.passk(&["compare", "worse", "better"]).env("COLUMNS", "40")).with_code(0).stdout;
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    assert!(narrow.contains("worse → better"), "{narrow}");
}

#[test]
fn an_interval_that_covers_more_says_so() {
    let said = "covers more than 95 %: more than 99.9 % for one → other.";
    let place = runs_of([("one", 1), ("other", 1)]);
    let shown = run(&mut place.passk(&["compare"])).with_code(0).stdout;
    assert!(shown.split_whitespace().collect::<Vec<_>>().join(" ").contains(said), "{shown}");
    assert!(place.read("storage/reports/comparison_micro.md").contains(said));
}

#[test]
fn the_report_holds_hostile_completions_as_text() {
    let place = two_runs();
    run(&mut place.passk(&["report"])).with_code(0);
    let alone = fs::read_to_string(folder(&place, "worse").join("report.html")).unwrap();
    for page in [place.read("storage/reports/report.html"), alone] {
        assert!(!page.contains("<script") && !page.contains("<img"), "a completion became markup");
        assert!(page.contains("&lt;/pre&gt;&lt;script&gt;"));
        assert!(page.contains("cargo test --test micro -- --samples FILE micro/1"));
        // The prompts were kept.
        assert!(page.contains("def ") && !page.contains("The prompt was not kept"));
    }
}

#[test]
fn a_failure_is_shown_with_the_way_to_it() {
    let place = Workplace::new();
    let deep = "    def inner(n):\\n        return 1 / n if n < 2 else inner(n - 1)\\n    return inner(60) and sorted([x, 'a'])";
    let wrong = "    return x\\n";
    let line = |text: &str| format!("{{\"task_id\": \"micro/1\", \"completion\": \"{text}\"}}\n");
    let file = place.write("given.jsonl", &(line(deep) + &line(wrong)));
    let args = ["evaluate", "--dataset", "micro", "micro/1", "--gate", "off", "--samples", file.to_str().unwrap()];
    run(&mut place.passk(&args)).with_code(0);
    let samples = fs::read_to_string(place.run_folder().join("samples.jsonl")).unwrap();
    let samples: Vec<serde_json::Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps = |at: usize| -> Vec<&str> {
        samples[at]["traceback"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect()
    };
    assert_eq!(samples[0]["detail"], "TypeError: '<' not supported between instances of 'str' and 'int'");
    let [.., last] = steps(0)[..] else { panic!("{samples:?}") };
    assert!(last.ends_with("return inner(60) and sorted([x, 'a'])"), "{last}");
    assert!(steps(1).last().unwrap().contains(": assert "), "{samples:?}");
    let page = fs::read_to_string(place.run_folder().join("report.html")).unwrap();
    assert!(
        page.contains("return inner(60) and sorted([x, &#39;a&#39;])\n") || page.contains(&format!("{last}</pre>")),
        "{page}"
    );
}

#[test]
fn shards_of_one_run_count_as_one() {
    let place = two_runs();
    let whole = folder(&place, "worse");
    let text = fs::read_to_string(whole.join("samples.jsonl")).unwrap();
    let shard = place.path("storage/runs/elsewhere");
    fs::create_dir(&shard).unwrap();
    fs::copy(whole.join("run.json"), shard.join("run.json")).unwrap();
    let of = |task: &str| text.lines().filter(|line| line.contains(task)).map(|line| format!("{line}\n")).collect();
    let (first, second): (String, String) = (of("\"micro/1\""), of("\"micro/2\""));
    fs::write(whole.join("samples.jsonl"), first).unwrap();
    // Killed while it wrote a line.
    fs::write(shard.join("samples.jsonl"), second + "{\"task_id\": \"mic").unwrap();
    run(&mut place.passk(&["compare", "worse"])).with_code(0).saying(&["worse has 2 of 62 problems"]);
}

#[test]
fn unlike_runs_are_refused_and_then_marked() {
    let place = two_runs();
    let path = folder(&place, "worse").join("run.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"cpu_seconds\": 5.0", "\"cpu_seconds\": 9.0");
    fs::write(&path, text).unwrap();
    run(&mut place.passk(&["compare"])).with_code(2).saying(&["not measured alike", "worse cpu 9 s", "--unlike"]);
    let ran = run(&mut place.passk(&["compare", "--unlike"])).with_code(0);
    assert!(ran.stdout.contains("NOT ALIKE"), "{}", ran.stdout);
    assert!(place.read("storage/reports/comparison_micro.csv").contains(",no,1,"));
    assert!(place.read("storage/reports/comparison_micro.svg").contains("NOT MEASURED ALIKE"));
}

#[test]
fn bad_folders_get_one_clear_line() {
    let none = Workplace::new();
    run(&mut none.passk(&["compare"])).with_code(2).saying(&["no run in `storage/runs`", "evaluate first"]);
    run(&mut none.passk(&["report"])).with_code(2).saying(&["no run in `storage/runs`"]);

    let place = two_runs();
    run(&mut place.passk(&["compare", "nobody"])).with_code(2).saying(&["`nobody`", "better, worse"]);
    run(&mut place.passk(&["compare", "--dataset", "mbpp"])).with_code(2).saying(&["no run on mbpp in", "on micro"]);

    let damage = |name: &str, change: &dyn Fn(&str) -> String, words: &[&str]| {
        let path = folder(&place, "worse").join(name);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(&before)).unwrap();
        run(&mut place.passk(&["compare", "better"])).with_code(0).saying(&["left out: "]);
        let id = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
        run(&mut place.passk(&["compare", "better", id])).with_code(2).saying(words);
        // By its label it is not known, and why is said.
        let unknown = [&["no run is called `worse`: there are better; left out: "], words].concat();
        run(&mut place.passk(&["compare", "better", "worse"])).with_code(2).saying(&unknown);
        fs::write(&path, before).unwrap();
    };
    let newer = |text: &str| text.replace("\"schema\": 1", "\"schema\": 9");
    damage("run.json", &newer, &["schema 9", "reads 1"]);
    damage("run.json", &|text| text[..40].to_owned(), &["run.json", "--fresh"]);
    damage("samples.jsonl", &|text| text.replacen("{\"task_id\"", "task_id", 1), &["samples.jsonl", "line 1"]);

    // No good one at all: one remedy, and none that contradicts it.
    for label in ["better", "worse"] {
        let path = folder(&place, label).join("run.json");
        fs::write(&path, newer(&fs::read_to_string(&path).unwrap())).unwrap();
    }
    let ran = run(&mut place.passk(&["compare"])).with_code(2);
    assert!(!ran.stderr.contains("--fresh"), "{}", ran.stderr);
    drop(ran.saying(&["no run in `storage/runs` can be used: ", "the passk that wrote it (and 1 more)"]));
}

#[test]
fn of_two_runs_with_one_label_the_newest_is_taken_and_said() {
    let place = two_runs();
    let file = place.write("again.jsonl", &format!("{{\"task_id\": \"micro/1\", \"completion\": \"{RIGHT}\"}}\n"));
    let args = ["evaluate", "--dataset", "micro", "--label", "worse", "micro/1", "--gate", "off", "--samples"];
    run(&mut place.passk(&[&args[..], &[file.to_str().unwrap()]].concat())).with_code(0);
    run(&mut place.passk(&["compare"])).with_code(0).saying(&["`worse` names several runs: the newest, micro-worse-"]);
}

/// Lays down a run of a pipeline at an epoch, with so many right of two samples of micro/1, micro/2 and micro/3.
fn lay(place: &Workplace, pipeline: &str, epoch: Option<u32>, right: [u32; 3]) {
    let text = fs::read_to_string(folder(place, "better").join("run.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let file = epoch.map_or("checkpoint_best".to_owned(), |epoch| format!("checkpoint_epoch_{epoch}"));
    let id = format!("laid-{pipeline}-{file}");
    json["run_id"] = id.as_str().into();
    json["label"] = epoch.map_or(pipeline.to_owned(), |epoch| format!("{pipeline}-epoch_{epoch}")).into();
    json["checkpoint"] = serde_json::json!({
        "path": format!("storage/checkpoints/{pipeline}/{file}.pt"),
        "epoch": epoch.unwrap_or(9),
        "val_metrics": {},
    });
    let line = |task: usize, sample: u32| {
        let passed = sample < right[task];
        let verdict = if passed { "passed" } else { "wrong_answer" };
        format!(
            "{{\"task_id\": \"micro/{}\", \"sample\": {sample}, \"completion\": \"\", \"passed\": {passed}, \
             \"verdict\": \"{verdict}\", \"finish\": \"given\"}}\n",
            task + 1
        )
    };
    let lines: String = (0..3).flat_map(|task| (0..2).map(move |sample| line(task, sample))).collect();
    place.write(&format!("storage/runs/{id}/run.json"), &json.to_string());
    place.write(&format!("storage/runs/{id}/samples.jsonl"), &lines);
}

#[test]
fn since_when_and_by_whom_alone() {
    let place = two_runs();
    for (epoch, right) in [(1, [0, 0, 0]), (2, [2, 0, 0]), (10, [0, 1, 0])] {
        lay(&place, "rho1", Some(epoch), right);
    }
    lay(&place, "rho1", None, [2, 1, 1]);
    lay(&place, "critic", None, [1, 0, 0]);
    let ran = run(&mut place.passk(&["compare", "rho1", "critic"])).with_code(0);
    assert!(ran.stdout.contains("micro/2, micro/3"), "{}", ran.stdout);
    let csv = place.read("storage/reports/comparison_micro_problems.csv");
    let row = |task: &str, label: &str| {
        let begins = format!("micro,{task},laid-{label}-checkpoint_best,{label},");
        csv.lines().find_map(|line| line.strip_prefix(&begins)).unwrap_or_else(|| panic!("{csv}")).to_owned()
    };
    // n, c, alone, the first epoch, verdicts
    assert_eq!(row("micro/1", "rho1"), "2,2,no,2,passed 2");
    assert_eq!(row("micro/2", "rho1"), "2,1,yes,10,passed 1 · wrong_answer 1");
    assert_eq!(row("micro/3", "rho1"), "2,1,yes,,passed 1 · wrong_answer 1"); // by none of the epochs that are here
    assert_eq!(row("micro/1", "critic"), "2,1,no,,passed 1 · wrong_answer 1");
    run(&mut place.passk(&["report", "rho1", "critic"])).with_code(0);
    let page = place.read("storage/reports/report.html");
    assert!(page.contains("First solved at epoch 10. No other run solves it."), "{page}");
    assert!(page.contains("First solved at epoch 2.</p>"), "{page}");
}
