//! `report.html`: one file that needs nothing else, to be read on a desk, on a phone, by day and by night.
//!
//! Completions are hostile text. maud escapes whatever is put between tags, no completion becomes part of an attribute
//! or a style, and the page's policy lets it load and run nothing at all.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::COLOURS;
use super::table::{self, Grid};
use crate::compare::{Comparison, Curve, Run};
use crate::record::{Completions, SampleRecord};
use crate::score::Estimate;
use crate::task::TaskId;

/// How much of the completions is shown: the whole of them lies in samples.jsonl.
#[derive(Clone, Copy)]
struct Room {
    /// Distinct completions of a problem, for each run.
    completions: usize,
    /// Characters of one text.
    characters: usize,
}

/// The largest page that a phone should have to open, in bytes.
const MOST_BYTES: usize = 2_900_000;

/// The whole page. Where it would be too large, fewer completions and shorter pieces of them are shown.
pub fn page(comparison: &Comparison) -> String {
    let rooms = [(6, 2_000), (4, 1_200), (2, 800), (1, 400), (1, 100)];
    let mut text = String::new();
    for (completions, characters) in rooms {
        text = page_with(comparison, Room { completions, characters });
        if text.len() <= MOST_BYTES {
            break;
        }
    }
    text
}

fn page_with(comparison: &Comparison, room: Room) -> String {
    let problems = comparison.problems();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { "passk · " (comparison.dataset) }
                style { (PreEscaped(style(comparison.runs.len()))) }
            }
            body {
                header {
                    p.kicker { "passk report" }
                    h1 { (comparison.dataset) }
                    p.lead { (lead(comparison)) }
                    @if !comparison.unlike.is_empty() {
                        div.warning {
                            strong { "Not measured alike." } " These scores are not comparable:"
                            ul { @for row in &comparison.unlike { li { (row) } } }
                        }
                    }
                    nav {
                        a href="#scores" { "Scores" }
                        a href="#grid" { "Grid" }
                        a href="#problems" { "Problems" }
                        a href="#runs" { "Runs" }
                    }
                }
                main {
                    section id="scores" {
                        figure { (scores(comparison)) }
                        @if !comparison.curves.is_empty() {
                            h2 { "Learning curves" }
                            figure { (curves(comparison)) }
                        }
                        @for grid in table::grids(comparison) { (tabled(&grid)) }
                    }
                    section id="grid" {
                        h2 { "Problem by problem" }
                        p.note { "Each row is a run, each cell a problem: the darker, the more of its samples are right. A dash was not judged." }
                        (cells(comparison, &problems))
                    }
                    section id="problems" {
                        h2 { "Problems" }
                        @for (at, task) in problems.iter().enumerate() { (problem(comparison, at, task, room)) }
                    }
                    section id="runs" {
                        h2 { "Runs" }
                        @for run in &comparison.runs { (settings(run)) }
                        @if !comparison.notes.is_empty() {
                            h3 { "To know" }
                            ul { @for note in &comparison.notes { li { (note) } } }
                        }
                    }
                }
                footer { "Written by passk " (env!("CARGO_PKG_VERSION")) ". pass@k is the mean over problems of the unbiased estimate (Chen et al. 2021)." }
            }
        }
    }
    .into_string()
}

fn style(runs: usize) -> String {
    let mut text = include_str!("page.css").to_owned();
    for at in 0..runs.max(COLOURS.len()) {
        let (red, green, blue) = COLOURS[at % COLOURS.len()];
        text += &format!(".r{at}{{--c:rgb({red} {green} {blue})}}");
    }
    text
}

fn lead(comparison: &Comparison) -> String {
    let best = comparison
        .runs
        .iter()
        .zip(&comparison.scores)
        .filter_map(|(run, scores)| Some((run.name.as_str(), scores.first().copied().flatten()?)));
    let best = best.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    let Some((name, score)) = best else { return "No run has a score.".into() };
    let problems = comparison.problems().len();
    if comparison.runs.len() == 1 {
        return format!("{name} solves {:.1} % of {problems} problems at the first try.", score.mean * 100.0);
    }
    let convinced: Vec<_> = comparison.pairs.iter().filter(|pair| pair.p.is_some_and(|p| p <= 0.05)).collect();
    let verdict = match convinced.len() {
        0 => "No difference between two runs is more than noise.".to_owned(),
        n => format!("{n} of {} differences between runs are more than noise.", comparison.pairs.len()),
    };
    format!(
        "Of {} runs on {problems} problems {name} scores highest, pass@1 {:.4}. {verdict}",
        comparison.runs.len(),
        score.mean
    )
}

fn tabled(grid: &Grid) -> Markup {
    html! {
        h2 { (grid.title) }
        @if !grid.caption.is_empty() { p.note { (grid.caption) } }
        div.scroll {
            table {
                thead { tr { @for name in &grid.head { th scope="col" { (name) } } } }
                tbody {
                    @for row in &grid.rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A horizontal line for each run and k: dot and whisker. Wide enough to read, narrow enough for a phone.
fn scores(comparison: &Comparison) -> Markup {
    const LEFT: f64 = 14.0;
    const WIDTH: f64 = 372.0;
    let x = |score: f64| LEFT + score * WIDTH;
    let mut lines: Vec<(f64, Markup)> = Vec::new();
    let mut y = 18.0;
    for (k, of_k) in comparison.ks.iter().zip(0..) {
        let title = html! { text.label x=(LEFT) y=(y) { "pass@" (k) } };
        lines.push((y, title));
        y += 26.0;
        for (at, (run, scores)) in comparison.runs.iter().zip(&comparison.scores).enumerate() {
            let Some(Estimate { mean, low, high }) = scores[of_k] else { continue };
            let line = html! {
                g class={ "r" (at) } {
                    line.whisker x1=(num(x(low))) x2=(num(x(high))) y1=(y) y2=(y) {}
                    circle.dot cx=(num(x(mean))) cy=(y) r="5" {}
                    text.name x=(LEFT) y=(y - 8.0) { (run.name) }
                    text.value x=(LEFT + WIDTH) y=(y - 8.0) { (format!("{mean:.4}")) }
                }
            };
            lines.push((y, line));
            y += 30.0;
        }
        y += 8.0;
    }
    html! {
        svg viewBox={ "0 0 400 " (num(y + 8.0)) } role="img" aria-label="pass@k of each run with its 95 % interval" {
            @for tick in 0..=4 {
                @let at = x(f64::from(tick) / 4.0);
                line.grid x1=(num(at)) x2=(num(at)) y1="24" y2=(num(y - 12.0)) {}
                text.tick x=(num(at)) y=(num(y + 4.0)) { (format!("{:.2}", f64::from(tick) / 4.0)) }
            }
            @for (_, line) in &lines { (line) }
        }
        figcaption { "pass@k with its 95 % interval, problems taken as drawn from a larger population." }
    }
}

fn curves(comparison: &Comparison) -> Markup {
    let curves = &comparison.curves;
    // A pipeline keeps the colour of its run.
    let colour =
        |curve: &Curve, at| comparison.runs.iter().position(|run| run.pipeline() == curve.pipeline).unwrap_or(at);
    let epochs: Vec<f64> = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.epoch)).collect();
    let (first, last) = epochs.iter().fold((f64::MAX, f64::MIN), |ends, &e| (ends.0.min(e), ends.1.max(e)));
    let x = |epoch: f64| if last > first { 40.0 + (epoch - first) / (last - first) * 340.0 } else { 210.0 };
    let y = |score: f64| 190.0 - score * 170.0;
    let mut ticks = epochs.clone();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    html! {
        svg viewBox="0 0 400 214" role="img" aria-label="pass@1 of each epoch with its 95 % interval" {
            @for tick in 0..=4 {
                @let score = f64::from(tick) / 4.0;
                line.grid x1="34" x2="392" y1=(num(y(score))) y2=(num(y(score))) {}
                text.side x="28" y=(num(y(score) + 3.5)) { (format!("{score:.2}")) }
            }
            @for epoch in &ticks { text.tick x=(num(x(*epoch))) y="208" { (epoch) } }
            @for (at, curve) in curves.iter().enumerate() {
                @let shift = (at as f64 - (curves.len() as f64 - 1.0) / 2.0) * 6.0;
                @let line: Vec<String> = curve.points.iter().map(|p| format!("{},{}", num(x(p.epoch) + shift), num(y(p.score.mean)))).collect();
                g class={ "r" (colour(curve, at)) } {
                    polyline.curve points=(line.join(" ")) {}
                    @for point in &curve.points {
                        line.whisker x1=(num(x(point.epoch) + shift)) x2=(num(x(point.epoch) + shift)) y1=(num(y(point.score.low))) y2=(num(y(point.score.high))) {}
                        circle.dot cx=(num(x(point.epoch) + shift)) cy=(num(y(point.score.mean))) r="4" {}
                    }
                }
            }
        }
        figcaption {
            "pass@1 by epoch. "
            @for (at, curve) in curves.iter().enumerate() { span class={ "key r" (colour(curve, at)) } { (curve.pipeline) } " " }
        }
    }
}

/// Two digits are more than a screen shows.
fn num(value: f64) -> String {
    format!("{value:.1}")
}

fn cells(comparison: &Comparison, problems: &[TaskId]) -> Markup {
    html! {
        @for (at, run) in comparison.runs.iter().enumerate() {
            h3 class={ "key r" (at) } { (run.name) }
            div class={ "cells r" (at) } {
                @for (number, task) in problems.iter().enumerate() {
                    @match comparison.problem(at, task) {
                        Some(problem) => {
                            @let share = f64::from(problem.tally.c) / f64::from(problem.tally.n.max(1));
                            a href={ "#p" (number) } class={ "s" ((share * 10.0).ceil()) }
                                title={ (task) " " (problem.tally.c) "/" (problem.tally.n) } {}
                        }
                        None => a.none href={ "#p" (number) } title={ (task) " not judged" } { "–" },
                    }
                }
            }
        }
    }
}

fn problem(comparison: &Comparison, number: usize, task: &TaskId, room: Room) -> Markup {
    let prompt = comparison.runs.iter().find_map(|run| run.prompts.get(task));
    html! {
        details id={ "p" (number) } {
            summary {
                span.task { (task) }
                span.tallies {
                    @for at in 0..comparison.runs.len() {
                        span class={ "key r" (at) } {
                            @if let Some(problem) = comparison.problem(at, task) { (problem.tally.c) "/" (problem.tally.n) } @else { "–" }
                        }
                    }
                }
            }
            @match prompt {
                Some(prompt) => { h4 { "Prompt" } pre { (cut(prompt, 4 * room.characters)) } }
                None => p.note { "The prompt was not kept in this run's folder." },
            }
            @for (at, run) in comparison.runs.iter().enumerate() {
                @if let Some(samples) = run.samples.get(task) {
                    @let distinct = distinct(samples);
                    h4 class={ "key r" (at) } { (run.name) }
                    @let remarks = remarks(comparison, at, task);
                    @if !remarks.is_empty() { p.note { (remarks) } }
                    p.again { code { (again(run, task)) } }
                    @for (sample, count) in distinct.iter().take(room.completions) {
                        div.sample {
                            p {
                                span class={ "verdict " (if sample.passed { "good" } else { "bad" }) } { (sample.verdict) }
                                " " (count) " of " (samples.len())
                                @if sample.finish.truncated() { " · cut off" }
                            }
                            @if !sample.detail.is_empty() { p.detail { (cut(&sample.detail, room.characters)) } }
                            @if !sample.traceback.is_empty() { pre.trace { (cut(&sample.traceback.join("\n"), room.characters)) } }
                            pre { (cut(&sample.completion, room.characters)) }
                        }
                    }
                    @if distinct.len() > room.completions { p.note { "and " (distinct.len() - room.completions) " other completions, in samples.jsonl" } }
                }
            }
        }
    }
}

/// Since when the run's pipeline solves the problem, and whether it is the only one that does.
fn remarks(comparison: &Comparison, run: usize, task: &TaskId) -> String {
    let first = comparison.first_epoch(run, task).map(|epoch| format!("First solved at epoch {epoch}."));
    let alone = (comparison.sole_solver(task) == Some(run)).then(|| "No other run solves it.".to_owned());
    first.into_iter().chain(alone).collect::<Vec<_>>().join(" ")
}

/// Each text, verdict and detail once, the most frequent first, with its number of samples.
fn distinct(samples: &[SampleRecord]) -> Vec<(&SampleRecord, usize)> {
    let mut counts: BTreeMap<_, (&SampleRecord, usize)> = BTreeMap::new();
    for sample in samples {
        counts.entry((&sample.completion, sample.verdict, &sample.detail)).or_insert((sample, 0)).1 += 1;
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_by_key(|(sample, count)| (std::cmp::Reverse(*count), sample.sample));
    counts
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}\n… cut here", &text[..end]),
        None => text.to_owned(),
    }
}

/// The command that runs just this problem again, settings that are the default left out.
fn again(run: &Run, task: &TaskId) -> String {
    let print = &run.record.fingerprint;
    let quote = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
        if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let mut words = vec![format!("cargo test --test {} --", quote(&print.dataset))];
    match &print.completions {
        Completions::Model { sampling, .. } => {
            let path = run.record.checkpoint.as_ref().map(|checkpoint| quote(&checkpoint.path));
            words.extend(path.map(|path| format!("--checkpoint {path}")));
            let mut flag = |name: &str, value: String, default: &str| {
                if value != default {
                    words.push(format!("--{name} {value}"));
                }
            };
            flag("num-samples", run.num_samples.to_string(), "20");
            flag("temperature", sampling.temperature.to_string(), "0.2");
            flag("top-p", sampling.top_p.to_string(), "0.95");
            flag("max-tokens", sampling.max_tokens.to_string(), "512");
            flag("seed", sampling.seed.to_string(), "0");
        }
        Completions::Given { .. } => words.push("--samples FILE".into()),
        Completions::Canonical => words.push("--samples canonical".into()),
    }
    words.push(quote(task.as_str()));
    words.join(" ")
}

fn settings(run: &Run) -> Markup {
    let print = &run.record.fingerprint;
    let mut rows: Vec<(&str, String)> = vec![("run", run.record.run_id.clone())];
    if let Some(checkpoint) = &run.record.checkpoint {
        rows.push(("checkpoint", checkpoint.path.clone()));
        rows.extend(checkpoint.epoch.map(|epoch| ("epoch", epoch.to_string())));
        rows.extend(checkpoint.val_metrics.iter().map(|(name, value)| ("metric", format!("{name} {value:.4}"))));
    }
    if let Completions::Model { sampling, device, dtype, .. } = &print.completions {
        rows.push((
            "sampling",
            format!(
                "n {} · T {} · top-p {} · max tokens {} · seed {}",
                run.num_samples, sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed
            ),
        ));
        rows.push(("engine", format!("{device} · {dtype}")));
    }
    rows.push(("prompt", format!("{} · stops {:?}", print.prompt_format, print.stops)));
    rows.push((
        "limits",
        format!(
            "cpu {} s · wall {} s · memory {} MiB",
            print.limits.cpu_seconds,
            print.limits.wall_seconds,
            print.limits.memory_bytes >> 20
        ),
    ));
    rows.push((
        "judged by",
        format!("Python {} · isolation {} · passk {}", print.python, print.isolation, print.passk),
    ));
    html! {
        h3 { (run.name) }
        dl { @for (name, value) in &rows { dt { (name) } dd { (value) } } }
    }
}
