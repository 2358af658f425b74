//! Files of rows as they are found: compressed or not, with a byte order mark or CRLF, a JSON object a line or one
//! array of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::DatasetError;
use crate::task::Task;

/// No row of a published benchmark has half as many bytes. A longer line is another kind of file.
const MOST_LINE_BYTES: usize = 32 << 20;

/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The text of a file, unpacked when it is gzip.
///
/// # Errors
/// [`DatasetError::Io`] for a file that cannot be read, is cut short, or is no UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String, DatasetError> {
    let bytes = fs::read(path).map_err(|source| DatasetError::Io { verb: "read", path: path.to_owned(), source })?;
    text(bytes, path)
}

/// The same of bytes at hand; `path` is for messages.
pub(crate) fn text(bytes: Vec<u8>, path: &Path) -> Result<String, DatasetError> {
    let io = |verb| move |source| DatasetError::Io { verb, path: path.to_owned(), source };
    let bytes = match bytes.starts_with(&GZIP) {
        false => bytes,
        true => {
            let mut unpacked = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            decoder.read_to_end(&mut unpacked).map_err(io("unpack"))?;
            unpacked
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| io("read")(std::io::Error::other(error.utf8_error())))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// Calls `each` with every row and the number of its line, or of its place in an array.
///
/// # Errors
/// [`DatasetError::Row`] with what `each` says of a row, [`DatasetError::Empty`] without one.
pub(crate) fn for_each_row(
    text: &str,
    path: &Path,
    mut each: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), DatasetError> {
    let bad = |line| move |trouble| DatasetError::Row { path: path.to_owned(), line, trouble };
    let mut any = false;
    if text.trim_start().starts_with('[') {
        let rows: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|e| bad(e.line())(e.to_string()))?;
        for (i, row) in rows.iter().enumerate() {
            each(&row.to_string())
                .map_err(|trouble| bad(i + 1)(format!("(element {} of the array) {trouble}", i + 1)))?;
            any = true;
        }
    } else {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            if line.len() > MOST_LINE_BYTES {
                let trouble = format!("the line has {} MiB: this is no file of rows", line.len() >> 20);
                return Err(bad(i + 1)(trouble));
            }
            each(line).map_err(bad(i + 1))?;
            any = true;
        }
    }
    if any { Ok(()) } else { Err(DatasetError::Empty(path.to_owned())) }
}

/// Reads rows into tasks; `path` is for messages.
///
/// # Errors
/// A row is broken or stands there twice, or there is none.
pub fn parse_rows(
    text: &str,
    path: &Path,
    parse: impl Fn(&str) -> Result<Task, String>,
) -> Result<Vec<Task>, DatasetError> {
    let mut ids = HashSet::new();
    let mut tasks = Vec::new();
    for_each_row(text, path, |row| {
        let task = parse(row)?;
        if !ids.insert(task.id.clone()) {
            return Err(format!("task `{}` stands here a second time", task.id));
        }
        tasks.push(task);
        Ok(())
    })?;
    Ok(tasks)
}

/// The members of a JSON object and their values as they are written. Values are not looked into, so that numbers
/// beyond 64 bits and Python's `Infinity` stay whole.
///
/// # Errors
/// It is no object, or not balanced.
pub(crate) fn members(row: &str) -> Result<Vec<(Cow<'_, str>, &str)>, String> {
    let bytes = row.as_bytes();
    let mut at = 0;
    let skip = |at: &mut usize| {
        while bytes.get(*at).is_some_and(u8::is_ascii_whitespace) {
            *at += 1;
        }
    };
    skip(&mut at);
    if bytes.get(at) != Some(&b'{') {
        return Err("the row is no JSON object".into());
    }
    at += 1;
    let mut members = Vec::new();
    loop {
        skip(&mut at);
        match bytes.get(at) {
            Some(b'}') => return Ok(members),
            Some(b',') if !members.is_empty() => at += 1,
            Some(b'"') => {
                let end = end_of_value(bytes, at)?;
                let name: String = serde_json::from_str(&row[at..end]).map_err(|error| error.to_string())?;
                at = end;
                skip(&mut at);
                if bytes.get(at) != Some(&b':') {
                    return Err(format!("no value after `{name}`"));
                }
                at += 1;
                skip(&mut at);
                let end = end_of_value(bytes, at)?;
                members.push((name.into(), row[at..end].trim_end()));
                at = end;
            }
            Some(_) => return Err(format!("no JSON at byte {at}")),
            None => return Err("EOF while parsing an object".into()),
        }
    }
}

/// Where the value that begins at `at` ends: at the comma or bracket that is not its own.
fn end_of_value(bytes: &[u8], at: usize) -> Result<usize, String> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (i, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return Ok(i + 1);
                }
            }
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' | b',' if depth == 0 => {
                return if i > at { Ok(i) } else { Err(format!("no value at byte {i}")) };
            }
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(i + 1);
                }
            }
            _ => {}
        }
    }
    Err("EOF while parsing a value".into())
}

/// What to say of a row in none of the forms that are read.
pub(crate) fn unknown_form(row: &str, forms: &str) -> String {
    match members(row) {
        Err(error) => error,
        Ok(members) => {
            let names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
            format!("the row is in none of the forms that are read here ({forms}): it has {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_as_written() {
        let row = r#" {"a" : [1, {"b": "]}\"" }], "c": -Infinity,"d": 123456789012345678901234567890 , "e":"x\\", "f": {} } "#;
        let expected = [
            ("a", r#"[1, {"b": "]}\"" }]"#),
            ("c", "-Infinity"),
            ("d", "123456789012345678901234567890"),
            ("e", r#""x\\""#),
            ("f", "{}"),
        ];
        let members = members(row).unwrap();
        let members: Vec<(&str, &str)> = members.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
        assert_eq!(members, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for row in ["", "[1]", "{", "{\"a\"", "{\"a\": ", "{\"a\": }", "{\"a\": [1", "{\"a\": \"x", "{a: 1}", "{,}"] {
            assert!(members(row).is_err(), "{row}");
        }
    }

    #[test]
    fn marks_line_ends_and_arrays_do_not_matter() {
        let rows = |text: &[u8]| {
            let text = super::text(text.to_vec(), Path::new("f")).unwrap();
            let mut rows = Vec::new();
            for_each_row(&text, Path::new("f"), |row| {
                rows.push(row.to_owned());
                Ok(())
            })
            .unwrap();
            rows
        };
        let expected = [r#"{"a":1}"#, r#"{"a":2}"#];
        assert_eq!(rows(b"{\"a\":1}\n\n{\"a\":2}"), expected);
        assert_eq!(rows(b"\xef\xbb\xbf{\"a\":1}\r\n{\"a\":2}\r\n"), expected);
        assert_eq!(rows(b"[{\"a\": 1},\n {\"a\": 2}]\n"), expected);
    }
}
