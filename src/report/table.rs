//! A comparison as tables: for a terminal of any width, as Markdown and as CSV. What is missing is blank, never 0.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::{interval, listed, p_value, percent, points};
use crate::compare::{Comparison, Pair};
use crate::verdict::Verdict;

/// A table with a title.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Stands above it.
    pub title: &'static str,
    /// Says what the numbers mean, in a sentence; may be empty.
    pub caption: String,
    /// The columns' names; the first column names the row.
    pub head: Vec<String>,
    /// Cells, as wide as the head.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(title: &'static str, caption: impl Into<String>, head: &[&str]) -> Grid {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Grid { title, caption: caption.into(), head, rows: Vec::new() }
    }

    /// As a table if its lines fit `width`, and else with each cell on a line of its own.
    fn terminal(&self, width: usize) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.head).add_rows(&self.rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Left);
        }
        // One rule below the head is enough.
        let lines = table.lines().filter(|line| line.chars().any(|c| c != '─'));
        let text: String = lines.map(|line| format!("{}\n", line.replace('═', "─").trim_end())).collect();
        if text.lines().all(|line| line.chars().count() <= width) {
            return text;
        }
        let widest = self.head.iter().skip(1).map(|name| name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            text += &wrapped(&row[0], width, "");
            for (name, cell) in self.head.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
                text += &wrapped(&format!("  {name:<widest$}  {cell}"), width, "    ");
            }
        }
        text
    }

    fn markdown(&self) -> String {
        // A table row is one line, and labels may hold what Markdown takes for markup.
        let cell = |text: &String| text.replace('\\', "\\\\").replace('|', "\\|").replace('\n', " ");
        let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.head.len()));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        let caption = if self.caption.is_empty() { String::new() } else { format!("{}\n\n", self.caption) };
        format!("### {}\n\n{caption}{}{rule}{rows}\n", self.title, line(&self.head))
    }
}

/// Breaks a line at spaces.
fn wrapped(line: &str, width: usize, indent: &str) -> String {
    let (mut text, mut current) = (String::new(), String::new());
    for word in line.split_inclusive(' ') {
        if current.chars().count() + word.trim_end().chars().count() > width && current.trim() != "" {
            text += current.trim_end();
            text.push('\n');
            current = indent.to_owned();
        }
        current += word;
    }
    text + current.trim_end() + "\n"
}

/// Every table of a comparison that has something to say.
pub fn grids(comparison: &Comparison) -> Vec<Grid> {
    let grids = [scores(comparison), pairs(comparison), alone(comparison), curves(comparison)];
    let more = [failures(comparison), exceptions(comparison), heads(comparison)];
    grids.into_iter().chain(more).filter(|grid| !grid.rows.is_empty()).collect()
}

fn scores(comparison: &Comparison) -> Grid {
    let marked = if comparison.unlike.is_empty() { "" } else { "Not measured alike. " };
    let caption = format!("{marked}Mean over problems with its 95 % interval.");
    let mut grid = Grid::new("Scores", caption, &["run", "n"]);
    grid.head.extend(comparison.ks.iter().map(|k| format!("pass@{k}")));
    for (run, scores) in comparison.runs.iter().zip(&comparison.scores) {
        let cells = scores.iter().map(|score| score.as_ref().map_or(String::new(), interval));
        grid.rows.push([run.name.clone(), run.num_samples.to_string()].into_iter().chain(cells).collect());
    }
    grid
}

fn pairs(comparison: &Comparison) -> Grid {
    let caption = "Mean difference of pass@1 in points, paired by problem. The interval holds for problems like these, \
                   the next one for these alone; p is corrected for the number of pairs (Holm); a true difference of the \
                   size under `shows` would be seen four times out of five. Gained and lost: solved at least once by one \
                   and never by the other.";
    let caption = [caption.to_owned()].into_iter().chain(cautious(comparison)).collect::<Vec<_>>().join(" ");
    let head = ["pair", "difference", "95 % interval", "these problems", "p", "shows", "gained", "lost"];
    let mut grid = Grid::new("Differences", caption, &head);
    let ends = |ends: Option<(f64, f64)>| match ends {
        Some((low, high)) => format!("{} to {}", points(low), points(high)),
        None => String::new(),
    };
    for pair in &comparison.pairs {
        let mut row = vec![between(comparison, pair)];
        match &pair.difference {
            Some(difference) => row.extend([
                points(difference.mean),
                ends(Some(difference.interval)),
                ends(difference.here),
                pair.p.map_or(String::new(), p_value),
                difference.detectable.map_or(String::new(), |least| format!("{:.1}", least * 100.0)),
                pair.gained.len().to_string(),
                pair.lost.len().to_string(),
            ]),
            None => row.extend(vec![String::new(); 7]),
        }
        grid.rows.push(row);
    }
    grid
}

/// Says of which pairs the interval covers more than its 95 %.
fn cautious(comparison: &Comparison) -> Option<String> {
    const MOST: usize = 4;
    let said = |(pair, covers): (&Pair, f64)| match covers {
        covers if covers > 0.999 => format!("more than 99.9 % for {}", between(comparison, pair)),
        covers => format!("{:.1} % for {}", covers * 100.0, between(comparison, pair)),
    };
    let pairs = comparison.pairs.iter().filter_map(|pair| Some((pair, pair.difference.as_ref()?.covers)));
    let of: Vec<String> = pairs.filter(|&(_, covers)| covers > 0.97).map(said).collect();
    let more = of.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and so for {more} pairs more") } else { String::new() };
    (!of.is_empty()).then(|| {
        format!(
            "Problems that were not met may differ more than these, and the interval allows for that; if none does, it \
             covers more than 95 %: {}{more}.",
            of[..of.len().min(MOST)].join(", ")
        )
    })
}

/// `baseline → critic`.
fn between(comparison: &Comparison, pair: &Pair) -> String {
    let name = |at: usize| comparison.runs[at].name.as_str();
    format!("{} → {}", name(pair.runs.0), name(pair.runs.1))
}

fn alone(comparison: &Comparison) -> Grid {
    let mut grid = Grid::new("Solved by one run only", "", &["run", "count", "problems"]);
    for (at, run) in comparison.runs.iter().enumerate().filter(|_| comparison.runs.len() > 1) {
        let only = comparison.only(at);
        grid.rows.push(vec![run.name.clone(), only.len().to_string(), listed(&only, 6)]);
    }
    grid
}

fn curves(comparison: &Comparison) -> Grid {
    let head = ["pipeline", "epoch", "pass@1", "solved first", "problems"];
    let mut grid = Grid::new("Learning curves", "Solved first: problems that no earlier epoch solved.", &head);
    for curve in &comparison.curves {
        for point in &curve.points {
            grid.rows.push(vec![
                curve.pipeline.clone(),
                point.epoch.to_string(),
                interval(&point.score),
                point.first_solved.len().to_string(),
                listed(&point.first_solved, 4),
            ]);
        }
    }
    grid
}

fn failures(comparison: &Comparison) -> Grid {
    let mut grid = Grid::new("What became of the samples", "", &["run"]);
    let seen = |verdict: &Verdict| comparison.failures.iter().any(|failures| failures.verdicts.contains_key(verdict));
    let verdicts: Vec<Verdict> = Verdict::ALL.into_iter().filter(seen).collect();
    grid.head.extend(verdicts.iter().map(ToString::to_string));
    grid.head.push("cut off".into());
    for (run, failures) in comparison.runs.iter().zip(&comparison.failures) {
        let count = |verdict| failures.verdicts.get(verdict).copied().unwrap_or(0);
        let shares = verdicts.iter().map(|verdict| percent(count(verdict), failures.samples));
        let cut = percent(failures.truncated, failures.samples);
        grid.rows.push([run.name.clone()].into_iter().chain(shares).chain([cut]).collect());
    }
    grid
}

fn exceptions(comparison: &Comparison) -> Grid {
    let mut grid = Grid::new("Exceptions", "", &["run", "types"]);
    for (run, failures) in comparison.runs.iter().zip(&comparison.failures) {
        let types: Vec<String> = failures.exceptions.iter().take(6).map(|(name, n)| format!("{name} {n}")).collect();
        if !types.is_empty() {
            grid.rows.push(vec![run.name.clone(), types.join(", ")]);
        }
    }
    grid
}

fn heads(comparison: &Comparison) -> Grid {
    let caption = "Share of drafted tokens that were accepted, by extra head.";
    let mut grid = Grid::new("Acceptance of heads", caption, &["run"]);
    let most = comparison.runs.iter().map(|run| run.head_acceptance.len()).max().unwrap_or(0);
    grid.head.extend((0..most).map(|head| format!("head {}", head + 1)));
    for run in comparison.runs.iter().filter(|run| !run.head_acceptance.is_empty()) {
        let share = |head: usize| run.head_acceptance.get(head).map_or(String::new(), |share| format!("{share:.3}"));
        grid.rows.push([run.name.clone()].into_iter().chain((0..most).map(share)).collect());
    }
    grid
}

/// For a terminal of `width` columns.
pub fn terminal(comparison: &Comparison, width: usize) -> String {
    let mut text = wrapped(
        &format!("{} · {} runs · {} tasks", comparison.dataset, comparison.runs.len(), comparison.tasks),
        width,
        "",
    );
    for row in &comparison.unlike {
        text += &wrapped(&format!("NOT ALIKE {row}"), width, "  ");
    }
    for grid in grids(comparison) {
        text += &format!("\n{}\n", grid.title);
        text += &grid.terminal(width);
        if !grid.caption.is_empty() {
            text += &wrapped(&grid.caption, width, "");
        }
    }
    text
}

/// For a pull request or a paper.
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = format!("## {}: {} runs\n\n", comparison.dataset, comparison.runs.len());
    for row in &comparison.unlike {
        text += &format!("**Not measured alike:** {row}\n\n");
    }
    for note in &comparison.notes {
        text += &format!("- {note}\n");
    }
    grids(comparison).iter().fold(text, |text, grid| text + "\n" + &grid.markdown())
}

/// `run_id, label, epoch, problems, n, k, score, low, high`: a row for each run and k that has a score.
pub fn csv(comparison: &Comparison) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "dataset",
        "run_id",
        "label",
        "epoch",
        "problems",
        "n",
        "alike",
        "k",
        "pass_at_k",
        "low",
        "high",
    ])?;
    for (run, scores) in comparison.runs.iter().zip(&comparison.scores) {
        let epoch = run.record.checkpoint.as_ref().and_then(|checkpoint| checkpoint.epoch);
        for (k, score) in comparison.ks.iter().zip(scores) {
            let number =
                |of: fn(&crate::score::Estimate) -> f64| score.as_ref().map_or(String::new(), |s| of(s).to_string());
            table.write_record([
                comparison.dataset.clone(),
                run.record.run_id.clone(),
                run.record.label.clone(),
                epoch.map_or(String::new(), |epoch| epoch.to_string()),
                run.problems.len().to_string(),
                run.num_samples.to_string(),
                if comparison.unlike.is_empty() { "yes" } else { "no" }.into(),
                k.to_string(),
                number(|s| s.mean),
                number(|s| s.low),
                number(|s| s.high),
            ])?;
        }
    }
    finish(table)
}

/// `first, second, problems, difference, low, high, …`: a row for each pair.
pub fn csv_of_pairs(comparison: &Comparison) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "dataset",
        "first",
        "second",
        "problems",
        "difference",
        "low",
        "high",
        "covers",
        "here_low",
        "here_high",
        "p",
        "p_holm",
        "detectable",
        "gained",
        "lost",
    ])?;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for pair in &comparison.pairs {
        let d = pair.difference.as_ref();
        let ids = |tasks: &[crate::task::TaskId]| tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        table.write_record([
            comparison.dataset.clone(),
            comparison.runs[pair.runs.0].record.run_id.clone(),
            comparison.runs[pair.runs.1].record.run_id.clone(),
            d.map_or(String::new(), |d| d.problems.to_string()),
            number(d.map(|d| d.mean)),
            number(d.map(|d| d.interval.0)),
            number(d.map(|d| d.interval.1)),
            number(d.map(|d| d.covers)),
            number(d.and_then(|d| d.here).map(|ends| ends.0)),
            number(d.and_then(|d| d.here).map(|ends| ends.1)),
            number(d.map(|d| d.p)),
            number(pair.p),
            number(d.and_then(|d| d.detectable)),
            ids(&pair.gained),
            ids(&pair.lost),
        ])?;
    }
    finish(table)
}

/// `task_id, label, n, c, …`: a row for each problem of each run. `first_epoch` is blank where the pipeline has no
/// learning curve, or no epoch of it solves the problem; `alone` says that no other of the runs does.
pub fn csv_of_problems(comparison: &Comparison) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["dataset", "task_id", "run_id", "label", "n", "c", "alone", "first_epoch", "verdicts"])?;
    for task in comparison.problems() {
        let alone = comparison.sole_solver(&task);
        for (at, run) in comparison.runs.iter().enumerate() {
            let Some(problem) = comparison.problem(at, &task) else { continue };
            table.write_record([
                comparison.dataset.clone(),
                task.to_string(),
                run.record.run_id.clone(),
                run.record.label.clone(),
                problem.tally.n.to_string(),
                problem.tally.c.to_string(),
                if alone == Some(at) { "yes" } else { "no" }.into(),
                comparison.first_epoch(at, &task).map_or(String::new(), |epoch| epoch.to_string()),
                problem.verdict_line(),
            ])?;
        }
    }
    finish(table)
}

fn finish(table: csv::Writer<Vec<u8>>) -> Result<Vec<u8>, csv::Error> {
    table.into_inner().map_err(|error| std::io::Error::other(error.to_string()).into())
}
