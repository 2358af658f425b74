//! What a pull request on GitHub shows of a comparison: Markdown for the job's summary, and annotations on the lines
//! of the snapshot. Texts only; nothing is written here.

use super::compare::{Comparison, Moved};

/// GitHub shows ten annotations of a kind for a step; the tenth says how many more there are.
const SHOWN: usize = 9;

/// The comparison as Markdown, for `$GITHUB_STEP_SUMMARY`.
pub fn summary(comparison: &Comparison) -> String {
    let Comparison { label, dataset, gate, .. } = comparison;
    let mark = if comparison.failed { "❌" } else { "✅" };
    let mut text = format!("### {mark} {label} on {dataset}\n\n{}\n\n", comparison.in_words());
    text += &format!("Held against `{}` (gate `{gate}`).\n\n", comparison.snapshot);
    for row in &comparison.unlike {
        text += &format!("- measured otherwise: {}\n", escape(row));
    }
    if let Some(loss) = &comparison.loss {
        text += &format!("\n**Over all problems {label} {loss}.**\n\n");
    }
    if !comparison.moved.is_empty() {
        text += "\n| problem | accepted | now | |\n|---|---|---|---|\n";
    }
    for Moved { task, before, now, direction, fails } in &comparison.moved {
        let arrow = ["▼", "", "▲"][(direction + 1).clamp(0, 2) as usize];
        let fails = if *fails { " ❌" } else { "" };
        let before = before.as_deref().unwrap_or("none");
        text += &format!("| {} | {} | {} | {arrow}{fails} |\n", escape(task), escape(before), escape(now));
    }
    text + "\n"
}

/// Workflow commands, a line each: an error where the gate fails, a notice for any other line that moved. `line_of`
/// says where a task stands in the snapshot's file.
pub fn annotations(comparison: &Comparison, line_of: impl Fn(&str) -> Option<usize>) -> Vec<String> {
    let file = property(&comparison.snapshot);
    let whole = |kind: &str, text: &str| {
        format!(
            "::{kind} file={file},title={}::{}",
            property(&format!("{} on {}", comparison.label, comparison.dataset)),
            data(text)
        )
    };
    let mut lines = Vec::new();
    if let Some(loss) = &comparison.loss {
        lines.push(whole("error", &format!("over all problems {} {loss}", comparison.label)));
    }
    for (kind, fails) in [("error", true), ("notice", false)] {
        let of_kind: Vec<&Moved> = comparison.moved.iter().filter(|moved| moved.fails == fails).collect();
        for moved in of_kind.iter().take(SHOWN) {
            let line = line_of(&moved.task).map(|line| format!(",line={line}")).unwrap_or_default();
            let title = property(&format!("{} {}", comparison.label, moved.task));
            let change = format!("{} → {}", moved.before.as_deref().unwrap_or("none"), moved.now);
            lines.push(format!("::{kind} file={file}{line},title={title}::{}", data(&change)));
        }
        if of_kind.len() > SHOWN {
            lines.push(whole(kind, &format!("{} more problems moved: see the job's summary", of_kind.len() - SHOWN)));
        }
    }
    lines
}

/// Plain text in a cell of a Markdown table.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped += "&lt;",
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The text of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A value among a workflow command's properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(count: usize) -> Comparison {
        let moved = |i| Moved {
            task: format!("t|{i}, 100 %"),
            before: Some("4/4   passed 4".into()),
            now: "0/4   wrong_answer 4".into(),
            direction: -1,
            fails: true,
        };
        Comparison {
            label: "rho1".into(),
            dataset: "micro".into(),
            snapshot: "snapshots/rho1/micro.snap".into(),
            gate: "exact",
            unlike: Vec::new(),
            compared: 20,
            pass_at_1: Some((0.5, 0.25)),
            moved: (0..count).map(moved).collect(),
            loss: None,
            failed: true,
        }
    }

    #[test]
    fn texts_cannot_break_out() {
        let comparison = comparison(1);
        let lines = annotations(&comparison, |_| Some(17));
        let expected = "::error file=snapshots/rho1/micro.snap,line=17,title=rho1 t|0%2C 100 %25::4/4   passed 4 → 0/4   wrong_answer 4";
        assert_eq!(lines, [expected]);
        let row = "| t\\|0, 100 % | 4/4   passed 4 | 0/4   wrong\\_answer 4 | ▼ ❌ |\n";
        assert!(summary(&comparison).contains(row), "{}", summary(&comparison));
    }

    #[test]
    fn the_tenth_annotation_says_how_many_more_there_are() {
        let lines = annotations(&comparison(20), |_| None);
        assert_eq!(lines.len(), 10);
        assert!(lines[9].ends_with("::11 more problems moved: see the job's summary"), "{}", lines[9]);
    }
}
