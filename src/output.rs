//! When two printed outputs agree.
//!
//! The rule of CodeContests (Li et al. 2022, its published tester): outputs are split at whitespace into tokens, and
//! agree when there are equally many and each pair agrees. A pair agrees when it is equal but for the case of ASCII
//! letters, or when both are finite decimals within 1e-5 of each other, absolute or relative. Two integers are compared
//! as what they are, digit by digit: as doubles, 2^53 + 1 would be 2^53.

use std::borrow::Cow;

/// How far apart two decimals may be, absolutely or relative to the expected one.
const TOLERANCE: f64 = 1e-5;

/// Whether `actual` agrees with `expected`.
///
/// # Errors
/// One line on the first difference.
pub fn agree(actual: &[u8], expected: &[u8]) -> Result<(), String> {
    let (mut ours, mut theirs) = (tokens(actual), tokens(expected));
    let mut at = 0;
    loop {
        at += 1;
        match (ours.next(), theirs.next()) {
            (None, None) => return Ok(()),
            (Some(actual), Some(expected)) if tokens_agree(actual, expected) => {}
            (Some(actual), Some(expected)) => {
                return Err(format!("token {at} is {}, expected {}", shown(actual), shown(expected)));
            }
            (Some(actual), None) => return Err(format!("token {at} is {}, expected the end", shown(actual))),
            (None, Some(expected)) => {
                return Err(format!("the output ends before token {at}, expected {}", shown(expected)));
            }
        }
    }
}

fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Rust's own notion of ASCII whitespace lacks the vertical tab.
    text.split(|byte| byte.is_ascii_whitespace() || *byte == b'\x0b').filter(|token| !token.is_empty())
}

fn tokens_agree(actual: &[u8], expected: &[u8]) -> bool {
    if actual.eq_ignore_ascii_case(expected) {
        return true;
    }
    if let (Some(actual), Some(expected)) = (integer(actual), integer(expected)) {
        return actual == expected;
    }
    let (Some(actual), Some(expected)) = (decimal(actual), decimal(expected)) else { return false };
    // The border itself is within; the last factor keeps it there when the difference is rounded.
    (actual - expected).abs() <= TOLERANCE * expected.abs().max(1.0) * (1.0 + 1e-9)
}

/// Sign and digits of an integer, without leading zeros; zero has neither. `None` for anything else.
fn integer(token: &[u8]) -> Option<(bool, &[u8])> {
    let (negative, digits) = match token {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = &digits[zeros..];
    Some((negative && !digits.is_empty(), digits))
}

/// The value of a finite decimal: digits, at most one point, perhaps an exponent. Not `inf`, `nan`, `0x10` or `1_000`.
fn decimal(token: &[u8]) -> Option<f64> {
    let numeric = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    let text = std::str::from_utf8(token).ok().filter(|text| text.bytes().all(|byte| numeric(&byte)))?;
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A token as a message shows it.
fn shown(token: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(token);
    let short: Cow<str> = match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}…", &text[..cut]).into(),
        None => text,
    };
    format!("`{}`", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_and_its_corners() {
        const SAME: bool = true;
        const OTHER: bool = false;
        #[rustfmt::skip]
        let cases: &[(&str, &str, &str, bool)] = &[
            // what, actual, expected
            ("equal", "1 2 3\n", "1 2 3\n", SAME),
            ("case", "Yes NO", "YES no", SAME),
            ("case of ASCII letters only", "É", "é", OTHER),
            ("spacing", "\n 1\t2\r\n3\x0b4\x0c", "1 2 3 4", SAME),
            ("no break space is no whitespace", "1\u{a0}2", "1 2", OTHER),
            ("tokens are not joined", "12", "1 2", OTHER),
            ("one token less", "1 2", "1 2 3", OTHER),
            ("one token more", "1 2 3 4", "1 2 3", OTHER),
            ("order", "2 1", "1 2", OTHER),
            ("empty against empty", "", "", SAME),
            ("empty against blank", "", " \n\n", SAME),
            ("empty against something", "", "0", OTHER),
            ("something against empty", "0", "", OTHER),
            ("trailing NUL is part of its token", "yes\0", "yes", OTHER),
            ("a NUL of its own is a token", "yes \0", "yes", OTHER),
            ("absolute, within", "0.000009", "0", SAME),
            ("absolute, on the border", "0.00001", "0", SAME),
            ("absolute, beyond", "0.000011", "0", OTHER),
            ("on the border beside one", "1.00001", "1.0", SAME),
            ("relative, within", "100000.9", "100000.0", SAME),
            ("relative, beyond", "100002.0", "100000.0", OTHER),
            ("relative to the expected one", "1e-7", "2e-7", SAME),
            ("written otherwise", "5.0", "5", SAME),
            ("exponents", "1e3", "1000", SAME),
            ("capital exponent, no leading zero", ".5E0", "0.5", SAME),
            ("a decimal near an integer", "4.999999", "5", SAME),
            ("integers are exact, however near", "100001", "100000", OTHER),
            ("10^18 + 1", "1000000000000000001", "1000000000000000000", OTHER),
            ("10^18 + 1, equal", "1000000000000000001", "1000000000000000001", SAME),
            ("2^53 + 1", "9007199254740993", "9007199254740992", OTHER),
            ("forty digits", "1111111111111111111111111111111111111111", "1111111111111111111111111111111111111112", OTHER),
            ("signs", "+7 -0 -7", "7 0 -7", SAME),
            ("other sign", "-7", "7", OTHER),
            ("leading zeros", "007", "7", SAME),
            // Only two integers are compared as integers: this is the published tolerance.
            ("an integer against a decimal", "1000000008.0", "1000000007", SAME),
            ("inf is a word", "INF", "inf", SAME),
            ("inf is no number", "inf", "1e999", OTHER),
            ("infinity is not inf", "infinity", "inf", OTHER),
            ("too large for a double is no number", "1e999", "2e999", OTHER),
            ("nan is a word", "NaN", "nan", SAME),
            ("nan is no number", "nan", "0", OTHER),
            ("underscores", "1_000", "1000", OTHER),
            ("hexadecimal", "0x10", "16", OTHER),
            ("a lone point", ".", "0", OTHER),
            ("two points", "1.2.3", "1.2", OTHER),
            ("a lone sign", "-", "0", OTHER),
            ("number against word", "1", "one", OTHER),
        ];
        for (what, actual, expected, same) in cases {
            let agreed = agree(actual.as_bytes(), expected.as_bytes());
            assert_eq!(agreed.is_ok(), *same, "{what}: {agreed:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_compared_as_bytes() {
        assert!(agree(b"\xff\xfe", b"\xff\xfe\n").is_ok());
        assert!(agree(b"\xff", b"\xfe").is_err());
    }

    #[test]
    fn the_first_difference_is_named() {
        for (actual, expected, words) in [
            ("1 2", "1 3", "token 2 is `2`, expected `3`"),
            ("1", "1 3", "the output ends before token 2, expected `3`"),
            ("1 2", "1", "token 2 is `2`, expected the end"),
            ("a\0", "a", "token 1 is `a\\0`, expected `a`"),
        ] {
            assert_eq!(agree(actual.as_bytes(), expected.as_bytes()).unwrap_err(), words);
        }
        let long = agree("x".repeat(1000).as_bytes(), b"y").unwrap_err();
        assert!(long.len() < 100, "{long}");
    }
}
