//! What people read beside the harness's own lines. All of it goes to stderr.

use super::entry::{Entry, Trouble};
use super::{contest, screen};
use crate::jail::{Isolation, Jail};
use crate::record::{Problem, Summary};
use crate::sampler::engine::Plan;
use crate::snapshot::compare::Comparison;

/// Writes a line to stderr. If nobody reads it any more, the evaluation goes on all the same: `eprintln` would panic.
macro_rules! put {
    ($($text:tt)*) => {{
        use std::io::Write;
        screen::above(|| {
            let _ = writeln!(std::io::stderr(), $($text)*);
        });
    }};
}

/// One line from passk.
pub(super) fn line(text: &str) {
    put!("passk: {text}");
}

/// What holds the programs that are about to run.
pub(super) fn isolation(jail: &Jail) {
    let report = jail.report();
    let missing = match jail.passed_over() {
        none if none.is_empty() => none,
        missing => format!(" (missing: {missing})"),
    };
    line(&match report.level {
        Isolation::None => {
            "isolation none: programs run with your rights, in a process group of their own, under rlimits".to_owned()
        }
        level => format!("isolation {level}: {} canaries held, python {}{missing}", report.score(), jail.start()),
    });
}

/// What is about to be done for a label.
pub(super) fn begin(entry: &Entry, wanted: usize, kept: usize) {
    let kept = if kept > 0 { format!(", {kept} kept from before") } else { String::new() };
    line(&format!("{}: {wanted} completions to judge{kept}", entry.run.label));
}

/// What sampling will take of memory.
pub(super) fn plan(label: &str, plan: &Plan) {
    let mb = |bytes: usize| (bytes as f64 / 1e6).ceil();
    line(&format!(
        "{label}: {} MB of weights, at most {} MB of keys and values and {} MB to compute in, {} sequences at once",
        mb(plan.weights),
        mb(plan.cache),
        mb(plan.workspace),
        plan.batch
    ));
}

/// One finished problem, for those who run without a harness.
pub(super) fn progress(at: usize, of: usize, name: &str, outcome: &Result<Problem, Trouble>) {
    let width = of.to_string().len();
    match outcome {
        Ok(problem) => {
            let tally = format!("{}/{}", problem.tally.c, problem.tally.n);
            put!("[{at:>width$}/{of}] {name}   {tally}   {}", problem.verdict_line());
        }
        Err(why) => put!("[{at:>width$}/{of}] {name}   FAILED\n{why}"),
    }
}

/// A few lines on a finished label: scores, verdicts, speed, and where to look.
pub(super) fn summary(entry: &Entry, summary: &Summary, more: impl Iterator<Item = (&'static str, String)>) {
    let print = &entry.run.fingerprint;
    let sampling = match &print.completions {
        crate::record::Completions::Model { sampling, device, dtype, .. } => format!(
            " · T {} · top-p {} · max tokens {} · seed {} · {device} {dtype}",
            sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed
        ),
        _ => String::new(),
    };
    put!(
        "\n{} on {} · {} prompts · n {}{sampling}",
        summary.label,
        summary.dataset,
        print.prompt_format,
        summary.num_samples
    );
    let quoted: Vec<String> = print.stops.iter().map(|stop| format!("{stop:?}")).collect();
    let split = print.split.as_ref().map(|split| format!("{split} split · ")).unwrap_or_default();
    let shots = if print.shots.is_empty() { String::new() } else { format!("shots {} · ", print.shots.join(" ")) };
    row("protocol", &format!("{split}{shots}stops {}", quoted.join(" ")));
    let scores: Vec<String> = entry
        .ks
        .iter()
        .filter_map(|k| {
            let key = format!("pass@{k}");
            let ends = summary.intervals.get(&key)?;
            let score = summary.pass_at_k.get(&key)?.as_f64()?;
            Some(format!("{key} {score:.4} [{:.4}, {:.4}]", ends[0].as_f64()?, ends[1].as_f64()?))
        })
        .collect();
    row(
        "score",
        &match scores.is_empty() {
            true => "none: not every problem was judged".to_owned(),
            false => format!("{} · {} of {} problems", scores.join(" · "), summary.problems, summary.problems_of),
        },
    );
    let plus: Vec<String> = entry
        .ks
        .iter()
        .filter_map(|k| Some(format!("pass@{k} {:.4}", summary.plus_pass_at_k.get(&format!("pass@{k}"))?.as_f64()?)))
        .collect();
    if !plus.is_empty() {
        row("plus", &format!("{} · base and plus tests", plus.join(" · ")));
    }
    if let Some(ceiling) = &summary.ceiling {
        row("ceiling", &ceiling.to_string());
    }
    let n = summary.num_samples;
    let too_large: Vec<String> =
        contest::USUAL_KS[..3].iter().filter(|&&k| k > n).map(|k| format!("pass@{k}")).collect();
    if !too_large.is_empty() && entry.ks == contest::usual_ks(n) {
        row("", &format!("{} left out: n is {n}", too_large.join(", ")));
    }
    if let Some(jail) = &summary.jail {
        let canaries =
            if jail.canaries == "0/0" { String::new() } else { format!(" · {} canaries held", jail.canaries) };
        row("isolation", &format!("{}{canaries} · python {}", summary.isolation, jail.python_start));
    }
    row("verdicts", &summary.verdict_line());
    if let Some(mean) = summary.mean_completion_tokens {
        let truncated = summary.truncated_share * 100.0;
        row("lengths", &format!("mean {mean:.1} tokens · {truncated:.1} % cut off by max tokens or context"));
    }
    let rate = |rate: Option<f64>, what: &str| rate.map(|rate| format!("{rate:.0} {what}/s"));
    let duplicates = summary.duplicate_share * 100.0;
    let duplicates = (duplicates > 0.0).then(|| format!("{duplicates:.1} % of the programs are duplicates"));
    let speeds = [rate(summary.tokens_per_second, "tokens"), rate(summary.programs_per_second, "programs")];
    let rates: Vec<String> = speeds.into_iter().chain([duplicates]).flatten().collect();
    if !rates.is_empty() {
        row("speed", &rates.join(" · "));
    }
    if let Some(tokens) = summary.tokens_per_forward {
        let shares: Vec<String> =
            summary.head_acceptance.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
        row("drafts", &format!("{tokens:.2} tokens a forward · {} of the extra heads' held", shares.join(", ")));
    }
    row("run", &entry.journal.folder().display().to_string());
    more.for_each(|(key, value)| row(key, &value));
}

/// What a gate says, in a line, and in another what it fails for.
pub(super) fn gate(comparison: &Comparison) -> String {
    let Comparison { gate, .. } = comparison;
    let failing: Vec<&str> =
        comparison.moved.iter().filter(|moved| moved.fails).map(|moved| moved.task.as_str()).collect();
    let verdict = match (comparison.failed, failing.len()) {
        (false, _) => "holds".to_owned(),
        (true, 0) => "FAILED".to_owned(),
        (true, many) => {
            format!("FAILED for {many}: {}{}", failing[..many.min(8)].join(" "), if many > 8 { " …" } else { "" })
        }
    };
    let loss =
        comparison.loss.as_ref().map(|loss| format!("\n            over all problems {loss}")).unwrap_or_default();
    format!("{gate} {verdict} · {}{loss}", comparison.in_words())
}

/// A block of lines under one key.
pub(super) fn rows(key: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        row(if at == 0 { key } else { "" }, line);
    }
}

/// A line as it stands.
pub(super) fn bare(text: &str) {
    put!("{text}");
}

/// All labels in one table, in the order of evaluation: a learning curve, where they are epochs of one pipeline.
pub(super) fn table(rows: &[(&Entry, &Summary)]) {
    let number = |number: Option<f64>| number.map_or("–".to_owned(), |number| format!("{number:.4}"));
    let cells = rows.iter().map(|(entry, summary)| {
        let checkpoint = entry.run.checkpoint.as_ref();
        let interval = summary.intervals.get("pass@1").and_then(|ends| Some((ends[0].as_f64()?, ends[1].as_f64()?)));
        [
            summary.label.clone(),
            checkpoint.and_then(|checkpoint| checkpoint.epoch).map_or("–".to_owned(), |epoch| epoch.to_string()),
            number(checkpoint.and_then(|checkpoint| checkpoint.val_metrics.get("val_loss").copied())),
            number(summary.pass_at_k.get("pass@1").and_then(|score| score.as_f64())),
            interval.map_or(String::new(), |(low, high)| format!("[{low:.4}, {high:.4}]")),
        ]
    });
    let head = ["", "epoch", "val loss", "pass@1", ""].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    put!("");
    for [label, epoch, loss, score, interval] in &lines {
        let [a, b, c, d] = widths;
        put!("{}", format!("{label:<a$}  {epoch:>b$}  {loss:>c$}  {score:>d$}  {interval}").trim_end());
    }
}

/// Tells on stderr how far [`Checkpoint::digest`](crate::checkpoint::Checkpoint::digest) is, every few seconds.
pub fn hashing(path: &std::path::Path) -> impl FnMut(u64, u64) {
    far(format!("digest of {}", path.display()))
}

/// The same of a model's weights.
pub(super) fn loading(label: &str) -> impl FnMut(u64, u64) {
    far(format!("{label}: loading"))
}

/// What is done in less time needs no line.
fn far(what: String) -> impl FnMut(u64, u64) {
    let mut said = std::time::Instant::now();
    move |done, all| {
        if said.elapsed().as_secs() >= 2 && done < all {
            said = std::time::Instant::now();
            line(&format!("{what}: {} of {} MB", done / 1_000_000, all / 1_000_000));
        }
    }
}

fn row(key: &str, value: &str) {
    put!("  {key:<10}{value}");
}

/// Where the work can be taken up after Ctrl-C.
pub(super) fn interrupted(again: &str) {
    screen::end();
    put!("\npassk: interrupted; what was judged is kept. To go on:\n    {again}");
}

/// The command that was typed, to be typed again.
pub(super) fn again(program: &str) -> String {
    let quote = |arg: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) { arg } else { format!("'{}'", arg.replace('\'', r"'\''")) }
    };
    let args = std::env::args_os().skip(1).map(|arg| quote(arg.to_string_lossy().into_owned()));
    std::iter::once(program.to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}
