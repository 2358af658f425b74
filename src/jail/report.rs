//! The report of an interpreter, which a program may have written: what of it is believed, and what is kept of its words.

use crate::verdict::Verdict;

/// Stands before each step of a traceback.
pub(super) const STEP: char = '\u{1f}';

/// Characters of a detail, and of a step.
const DETAIL_CHARS: usize = 200;

/// Hexadecimal digits from which on a number is taken for an address. `assert f(0xffff)` keeps its own.
const ADDRESS_DIGITS: usize = 6;

/// What came on the report pipe after `begun`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// One report, as `runner.py` makes them.
    One(Verdict, String),
    /// Nothing.
    None,
    /// Anything else.
    Garbled,
}

impl Report {
    pub(super) fn read(bytes: &[u8], nonce: &str) -> Report {
        if bytes.is_empty() {
            return Report::None;
        }
        Report::parse(bytes, nonce).unwrap_or(Report::Garbled)
    }

    fn parse(bytes: &[u8], nonce: &str) -> Option<Report> {
        let (word, detail) = words(bytes, nonce)?;
        let verdict = match word.as_str() {
            "passed" => Verdict::Passed,
            "wrong_answer" => Verdict::WrongAnswer,
            "exception" => Verdict::Exception,
            "syntax_error" => Verdict::SyntaxError,
            "memory_limit" => Verdict::MemoryLimit,
            "process_limit" => Verdict::ProcessLimit,
            "output_limit" => Verdict::OutputLimit,
            "early_exit" => Verdict::EarlyExit,
            _ => return None,
        };
        Some(Report::One(verdict, detail))
    }
}

/// Word and detail of the one line `<nonce> <word> <detail>`.
pub(super) fn words(bytes: &[u8], nonce: &str) -> Option<(String, String)> {
    let line = bytes.strip_suffix(b"\n").filter(|line| !line.contains(&b'\n'))?;
    let line = String::from_utf8_lossy(line);
    let (word, detail) = line.strip_prefix(nonce)?.strip_prefix(' ')?.split_once(' ')?;
    Some((word.to_owned(), detail.to_owned()))
}

/// One line that is the same in every run: no folder of ours, no addresses, no control characters, not too long.
pub(super) fn clean(detail: &str, folder: &str) -> String {
    let detail = if folder.is_empty() { detail.into() } else { detail.replace(folder, "<folder>") };
    let detail = without_addresses(&detail);
    let mut kept: String =
        detail.chars().map(|char| if char.is_control() { ' ' } else { char }).take(DETAIL_CHARS + 1).collect();
    if let Some((cut, _)) = kept.char_indices().nth(DETAIL_CHARS) {
        kept.truncate(cut);
        kept.push('…');
    }
    kept.trim().to_owned()
}

/// `<f object at 0x7f3a5c0d2e10>` → `<f object at 0x…>`.
fn without_addresses(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let (before, number) = rest.split_at(at + 2);
        clean.push_str(before);
        let digits = number.bytes().take_while(u8::is_ascii_hexdigit).count();
        clean.push_str(if digits >= ADDRESS_DIGITS { "…" } else { &number[..digits] });
        rest = &number[digits..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_the_same_in_every_run() {
        for (detail, expected) in [
            ("<f at 0x7f3a5c0d2e10>", "<f at 0x…>"),
            ("f(0xff) and 0x at 0x12ab34", "f(0xff) and 0x at 0x…"),
            ("no file '/tmp/x/a'", "no file '<folder>/a'"),
            ("a\u{1b}[31m\tb\r", "a [31m b"),
            ("", ""),
        ] {
            assert_eq!(clean(detail, "/tmp/x"), expected);
        }
        let long = clean(&"ä".repeat(500), "");
        assert_eq!(long.chars().count(), DETAIL_CHARS + 1);
    }
}
