//! The head of a corpus file: what the program is, what must become of it, and how it is run.
//!
//! A file begins with comment lines. The first says in a sentence what the program does; the others are directives:
//!
//! ```text
//! # expect: passed                   verdicts that are right, ` | ` between them
//! # expect landlock cold: signal     the same under conditions; of the lines that hold, the one with most words counts
//! # limits: cpu=1s memory=256M       cpu, wall, memory, output, file, processes; the rest as is usual for the folder
//! # entry: f                         the function that the tests call
//! # only: x86_64                     left out on other machines
//! # at once: itself                  run beside another copy, or beside a benign program of this name
//! # let OPEN: "(" * 100000           `@OPEN@` in the text stands for this
//! ```
//!
//! Then the program. `# --- tests ---` divides it from its tests, `# --- input ---` and `# --- output ---` hold the runs
//! of a stdin/stdout problem; after `# --- candidate ---` the head is no part of the program.

use std::time::Duration;

use passk::jail::{Isolation, Limits, Start};
use passk::program::{Program, StdioTest, Tests};
use passk::verdict::Verdict;

/// Most bytes that the `let` lines of one file may grow to.
const MOST_BYTES: usize = 32 << 20;

/// One program of the corpus.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    expectations: Vec<(Vec<Condition>, Vec<Verdict>)>,
    limits: Vec<(Limit, u64)>,
    /// The only kind of machine that it is for.
    pub(crate) only: Option<String>,
    /// What runs beside it.
    pub(crate) at_once: Option<String>,
    program: Program,
}

/// Where a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) level: Isolation,
    pub(crate) start: Start,
    pub(crate) root: bool,
    pub(crate) split: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Level(Isolation),
    Start(Start),
    Root(bool),
    Split(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Cpu,
    Wall,
    Memory,
    Output,
    File,
    Processes,
}

impl Condition {
    fn read(word: &str) -> Option<Condition> {
        Some(match word {
            "root" => Condition::Root(true),
            "user" => Condition::Root(false),
            "split" => Condition::Split(true),
            "whole" => Condition::Split(false),
            "warm" => Condition::Start(Start::Warm),
            "cold" => Condition::Start(Start::Cold),
            level => Condition::Level(Isolation::ALL.into_iter().find(|known| known.to_string() == level)?),
        })
    }

    fn holds(self, setting: Setting) -> bool {
        match self {
            Condition::Level(level) => setting.level == level,
            Condition::Start(start) => setting.start == start,
            Condition::Root(root) => setting.root == root,
            Condition::Split(split) => setting.split == split,
        }
    }
}

impl Case {
    /// Reads a file of the corpus.
    ///
    /// # Errors
    /// What is wrong with it, with the number of the line in the head.
    pub(crate) fn parse(text: &str) -> Result<Case, String> {
        let mut head = Head::default();
        let (mut length, mut cut) = (0, 0);
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let Some(comment) = line.strip_prefix("# ").filter(|comment| !comment.starts_with("---")) else {
                if line.trim_end() == "# --- candidate ---" {
                    cut = length + line.len();
                }
                break;
            };
            head.read(number, comment.trim_end()).map_err(|cause| format!("line {}: {cause}", number + 1))?;
            length += line.len();
        }
        let Head { told, expectations, limits, entry, only, at_once, lets } = head;
        if !told {
            return Err("it does not say what it does".into());
        }
        if !expectations.iter().any(|(conditions, _)| conditions.is_empty()) {
            return Err("it has no `# expect:` without conditions".into());
        }
        let mut body = text[cut..].to_owned();
        for (name, value) in lets {
            let token = format!("@{name}@");
            let uses = body.matches(&token).count();
            if uses == 0 {
                return Err(format!("`{token}` is not used"));
            }
            if body.len().saturating_add(uses.saturating_mul(value.len())) > MOST_BYTES {
                return Err(format!("`{token}` grows too large"));
            }
            body = body.replace(&token, &value);
        }
        let program = divide(&body, entry)?;
        Ok(Case { expectations, limits, only, at_once, program })
    }

    /// The verdicts that are right in `setting`.
    pub(crate) fn expected(&self, setting: Setting) -> &[Verdict] {
        let holding = self.expectations.iter().filter(|(conditions, _)| conditions.iter().all(|c| c.holds(setting)));
        holding.max_by_key(|(conditions, _)| conditions.len()).map_or(&[], |(_, verdicts)| verdicts)
    }

    /// Every verdict that is right anywhere where passes are judged again, or only where they are not.
    pub(crate) fn ever_expected(&self, split: bool) -> impl Iterator<Item = Verdict> + '_ {
        let of_whole = |conditions: &[Condition]| conditions.contains(&Condition::Split(false));
        let lines = self.expectations.iter().filter(move |(conditions, _)| of_whole(conditions) != split);
        lines.flat_map(|(_, verdicts)| verdicts.iter().copied())
    }

    /// The limits it runs under, where `usual` are those of its folder.
    pub(crate) fn limits(&self, usual: &Limits) -> Limits {
        let mut limits = usual.clone();
        for &(limit, value) in &self.limits {
            match limit {
                Limit::Cpu => limits.cpu = Duration::from_secs(value),
                Limit::Wall => limits.wall = Duration::from_secs(value),
                Limit::Memory => limits.memory_bytes = value,
                Limit::Output => limits.output_bytes = value,
                Limit::File => limits.file_bytes = value,
                Limit::Processes => limits.processes = value,
            }
        }
        limits
    }

    /// The program, with `@NAME@` of each of `facts` replaced.
    pub(crate) fn program(&self, facts: &[(&str, String)]) -> Program {
        let replaced = |text: &str| {
            let replace = |text: String, (name, value): &(&str, String)| text.replace(&format!("@{name}@"), value);
            facts.iter().fold(text.to_owned(), replace)
        };
        let mut program = self.program.clone();
        program.candidate = replaced(&program.candidate);
        if let Tests::Code { text, .. } = &mut program.tests {
            *text = replaced(text);
        }
        program
    }
}

/// The directives of a head as they are read.
#[derive(Default)]
struct Head {
    told: bool,
    expectations: Vec<(Vec<Condition>, Vec<Verdict>)>,
    limits: Vec<(Limit, u64)>,
    entry: Option<String>,
    only: Option<String>,
    at_once: Option<String>,
    lets: Vec<(String, String)>,
}

impl Head {
    fn read(&mut self, number: usize, comment: &str) -> Result<(), String> {
        if number == 0 {
            self.told = comment.ends_with('.');
            return if self.told { Ok(()) } else { Err("the first line is no sentence".into()) };
        }
        let (key, value) = comment.split_once(": ").ok_or("no directive")?;
        match key {
            "limits" => {
                for word in value.split(' ') {
                    self.limits.push(limit(word).ok_or_else(|| format!("`{word}` is no limit"))?);
                }
            }
            "entry" => self.entry = Some(value.into()),
            "only" => self.only = Some(value.into()),
            "at once" => self.at_once = Some(value.into()),
            _ => match key.split_once(' ') {
                Some(("let", name)) => self.lets.push((name.into(), literal(value).ok_or("no text")?)),
                Some(("expect", conditions)) => self.expect(conditions.split(' '), value)?,
                None if key == "expect" => self.expect([], value)?,
                _ => return Err(format!("unknown directive `{key}`")),
            },
        }
        Ok(())
    }

    fn expect<'a>(&mut self, conditions: impl IntoIterator<Item = &'a str>, value: &str) -> Result<(), String> {
        let conditions = conditions.into_iter().map(|word| Condition::read(word).ok_or(format!("`{word}`: when?")));
        let named = |name: &str| Verdict::ALL.into_iter().find(|verdict| verdict.name() == name);
        let verdicts = value.split(" | ").map(|name| named(name).ok_or(format!("`{name}` is no verdict")));
        self.expectations.push((conditions.collect::<Result<_, _>>()?, verdicts.collect::<Result<_, _>>()?));
        Ok(())
    }
}

/// `memory=256M` or `wall=2s`.
fn limit(word: &str) -> Option<(Limit, u64)> {
    let (name, value) = word.split_once('=')?;
    let seconds = || value.strip_suffix('s')?.parse().ok();
    let bytes = || {
        let (digits, shift) = match value.strip_suffix('M') {
            Some(digits) => (digits, 20),
            None => (value.strip_suffix('K')?, 10),
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    };
    Some(match name {
        "cpu" => (Limit::Cpu, seconds()?),
        "wall" => (Limit::Wall, seconds()?),
        "memory" => (Limit::Memory, bytes()?),
        "output" => (Limit::Output, bytes()?),
        "file" => (Limit::File, bytes()?),
        "processes" => (Limit::Processes, value.parse().ok()?),
        _ => return None,
    })
}

/// A text in quotes, perhaps several times: `"(" * 100000`.
fn literal(value: &str) -> Option<String> {
    let (text, times) = match value.rsplit_once("\" * ") {
        Some((text, times)) => (text, times.parse().ok()?),
        None => (value.strip_suffix('"')?, 1),
    };
    let mut out = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    while let Some(char) = chars.next() {
        out.push(if char == '\\' { escape(&mut chars)? } else { char });
    }
    (out.len().checked_mul(times)? <= MOST_BYTES).then(|| out.repeat(times))
}

/// What stands after a backslash, as Rust writes it.
fn escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let code = |digits: &str| char::from_u32(u32::from_str_radix(digits, 16).ok()?);
    Some(match chars.next()? {
        '0' => '\0',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'f' => '\x0c',
        '"' => '"',
        '\\' => '\\',
        'x' => code(&chars.by_ref().take(2).collect::<String>())?,
        'u' => {
            let braced: String = chars.by_ref().take_while(|&char| char != '}').collect();
            code(braced.strip_prefix('{')?)?
        }
        _ => return None,
    })
}

/// Parts the text at its dividers.
fn divide(body: &str, entry_point: Option<String>) -> Result<Program, String> {
    let mut parts: Vec<(&str, String)> = vec![("candidate", String::new())];
    for line in body.split_inclusive('\n') {
        let divider = line.strip_prefix("# --- ").and_then(|rest| rest.trim_end().strip_suffix(" ---"));
        match (divider, parts.last_mut()) {
            (Some(name @ ("tests" | "input" | "output")), _) => parts.push((name, String::new())),
            (Some(other), _) => return Err(format!("unknown divider `{other}`")),
            (None, Some((_, part))) => part.push_str(line),
            (None, None) => {}
        }
    }
    let mut parts = parts.into_iter();
    let candidate = parts.next().map(|(_, text)| text).unwrap_or_default();
    let rest: Vec<(&str, String)> = parts.collect();
    let names: Vec<&str> = rest.iter().map(|(name, _)| *name).collect();
    let tests = match names.as_slice() {
        [] => Tests::Code { text: String::new(), entry_point, prompt: String::new() },
        ["tests"] => {
            let text = rest.into_iter().map(|(_, text)| text).collect();
            Tests::Code { text, entry_point, prompt: String::new() }
        }
        names if names.chunks(2).all(|pair| pair == ["input", "output"]) => {
            let pairs = rest.chunks(2).map(|pair| StdioTest { input: pair[0].1.clone(), output: pair[1].1.clone() });
            Tests::Stdio(pairs.collect())
        }
        _ => return Err("its parts are neither tests nor pairs of input and output".into()),
    };
    Ok(Program { candidate, tests })
}

/// What the parser must hold, whatever it is given; the program's own test and the fuzz target call it.
pub(crate) fn check(text: &str) {
    if let Ok(case) = Case::parse(text) {
        let setting = Setting { level: Isolation::None, start: Start::Cold, root: true, split: false };
        assert!(!case.expected(setting).is_empty(), "some verdict is right everywhere");
        assert!(case.program(&[]).source().len() <= text.len() + MOST_BYTES + 2);
    }
}
