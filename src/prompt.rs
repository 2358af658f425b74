//! What the model is shown, and where its answer ends.

use crate::task::{Question, Task};

/// A text to be continued, and the strings at which the continuation is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Encoded as it is, byte for byte.
    pub text: String,
    /// The completion ends before the earliest of these; the prompt is never searched.
    pub stop: Vec<String>,
}

/// How a task becomes a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The code that the program begins with, and nothing else (Chen et al. 2021).
    Raw,
    /// The task and its first test as a docstring, zero-shot.
    Docstring,
    /// Three solved tasks before the one that is asked (Austin et al. 2021, arXiv 2108.07732).
    FewShot,
    /// The instruction template of the supervised runs (Taori et al. 2023). The only one that is answered by a chat, so
    /// that markdown fences are taken off.
    Alpaca,
}

impl Format {
    /// The name that `--prompt-format` takes and records keep.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Docstring => "docstring",
            Format::FewShot => "fewshot",
            Format::Alpaca => "alpaca",
        }
    }

    /// Writes the prompt of `task`, after `shots` where the format shows some.
    pub fn prompt(self, task: &Task, shots: &[&Task], stop: &[String]) -> Prompt {
        let text = match self {
            Format::Raw => task.prompt.clone(),
            Format::Docstring => docstring(task),
            Format::FewShot => {
                let solved = |shot: &&Task| shot_text(shot, shot.canonical.as_deref().unwrap_or_default());
                shots.iter().map(solved).chain([shot_head(task)]).collect()
            }
            Format::Alpaca => alpaca(task),
        };
        Prompt { text, stop: stop.to_vec() }
    }

    /// What of a sampled response is the answer: all of it, but for the fences around code in an instruction format.
    /// Whitespace is never touched.
    pub fn answer(self, response: &str) -> &str {
        match self {
            Format::Raw | Format::Docstring | Format::FewShot => response,
            Format::Alpaca => unfenced(response),
        }
    }

    /// The stops of the format, where it has its own whatever the benchmark.
    pub fn own_stops(self) -> Option<&'static [&'static str]> {
        match self {
            Format::Raw | Format::Docstring => None,
            Format::FewShot => Some(&["[DONE]"]),
            // A chat model ends by its own token; one that goes on would begin with the next header.
            Format::Alpaca => Some(&["\n### Instruction:", "\n### Input:", "\n### Response:"]),
        }
    }
}

/// The stop strings of Chen et al. 2021 (arXiv 2107.03374, section 2.2).
pub const HUMANEVAL_STOPS: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/// The stop strings of EvalPlus (Liu et al. 2023, arXiv 2305.01210) for base models.
pub const EVALPLUS_STOPS: [&str; 8] =
    ["\nif __name__", "\ndef main(", "\nprint(", "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "];

/// The stop strings of the zero-shot MBPP prompt (Fried et al. 2022, arXiv 2204.05999).
pub const MBPP_STOPS: [&str; 7] = ["\nclass", "\nassert", "\n\"\"\"", "\nprint", "\nif", "\n<|/", "\n```"];

fn docstring(task: &Task) -> String {
    let Some(Question { text, tests, input }) = &task.question else { return task.prompt.clone() };
    let test = tests.first().map(|test| format!("{test}\n")).unwrap_or_default();
    let input = if input.is_empty() { String::new() } else { format!("{input}\n") };
    format!("\"\"\"\n{text}\n{test}{input}\"\"\"\n")
}

fn shot_head(task: &Task) -> String {
    let question = task.question.clone().unwrap_or_default();
    format!(
        "You are an expert Python programmer, and here is your task: {} Your code should pass these tests:\n\n{}\n[BEGIN]\n",
        question.text,
        question.tests.join("\n")
    )
}

fn shot_text(task: &Task, code: &str) -> String {
    format!("{}{}\n[DONE]\n\n", shot_head(task), code.replace("\r\n", "\n"))
}

fn alpaca(task: &Task) -> String {
    const ALONE: &str = "Below is an instruction that describes a task. \
        Write a response that appropriately completes the request.";
    const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further \
        context. Write a response that appropriately completes the request.";
    let (instruction, input) = match &task.question {
        Some(Question { text, tests, input }) if tests.is_empty() => (text.clone(), input.as_str()),
        Some(Question { text, tests, input }) => {
            (format!("{text}\nYour code should pass these tests:\n{}", tests.join("\n")), input.as_str())
        }
        None => (task.prompt.clone(), ""),
    };
    match input {
        "" => format!("{ALONE}\n\n### Instruction:\n{instruction}\n\n### Response:\n"),
        input => {
            format!("{WITH_INPUT}\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n")
        }
    }
}

/// The code in the first fenced block of a response, or the response where no block is opened. A block that is not
/// closed goes to the end; a fence with nothing but blank lines after it closes, and what stands before it is the code.
fn unfenced(response: &str) -> &str {
    const FENCE: &str = "```";
    let mut fences = response.match_indices(FENCE).map(|(at, _)| at).filter(|&at| at == 0 || ends_line(response, at));
    let Some(first) = fences.next() else { return response };
    let after = response[first..].find('\n').map_or(response.len(), |end| first + end + 1);
    match fences.next() {
        Some(second) if second >= after => &response[after..second],
        None if response[after..].trim().is_empty() => &response[..first],
        _ => &response[after..],
    }
}

fn ends_line(text: &str, at: usize) -> bool {
    text[..at].ends_with('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_come_off_in_instruction_formats_only() {
        for (response, answer) in [
            ("    return 1\n", "    return 1\n"),
            ("```python\n    return 1\n```\n", "    return 1\n"),
            ("Here it is:\n```\ndef f():\n    return 1\n```\nIt returns 1.", "def f():\n    return 1\n"),
            ("```py\ndef f(): pass", "def f(): pass"),
            ("    return 1\n```\n", "    return 1\n"),
            ("    return '```'\n", "    return '```'\n"),
            ("```python\na\n```\n```\nb\n```", "a\n"),
            ("", ""),
        ] {
            assert_eq!(Format::Alpaca.answer(response), answer, "{response:?}");
            for format in [Format::Raw, Format::Docstring, Format::FewShot] {
                assert_eq!(format.answer(response), response);
            }
        }
    }
}
