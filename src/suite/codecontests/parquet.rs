//! The table that the publisher has: a row a problem, tests and solutions as lists.

use std::io::{self, Write};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::{Problem, WireList, WireTests};
use crate::dataset::DatasetError;

/// The publisher's numbers of sources and languages.
const SOURCES: [&str; 7] = ["UNKNOWN_SOURCE", "CODECHEF", "CODEFORCES", "HACKEREARTH", "CODEJAM", "ATCODER", "AIZU"];
const PYTHON3: i64 = 3;

/// Difficulties: words, then the letters that Codeforces gives.
const DIFFICULTIES: [&str; 7] = ["UNKNOWN_DIFFICULTY", "EASY", "MEDIUM", "HARD", "HARDER", "HARDEST", "EXTERNAL"];

/// Reads the problems of a parquet file; `path` is for messages.
pub(super) fn table(bytes: Vec<u8>, path: &Path) -> Result<Vec<Problem>, DatasetError> {
    let failed = |source: io::Error| DatasetError::Io { verb: "read", path: path.to_owned(), source };
    let table = |error: parquet::errors::ParquetError| failed(io::Error::other(error));
    // The reader takes a file; `bytes` would be one more crate.
    let mut file = tempfile::tempfile().map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    drop(bytes);
    let reader = SerializedFileReader::new(file).map_err(table)?;
    let mut problems = Vec::new();
    for (at, row) in reader.get_row_iter(None).map_err(table)?.enumerate() {
        let problem = problem(&row.map_err(table)?);
        problems.push(problem.map_err(|trouble| DatasetError::Row { path: path.to_owned(), line: at + 1, trouble })?);
    }
    match problems.is_empty() {
        true => Err(DatasetError::Empty(path.to_owned())),
        false => Ok(problems),
    }
}

fn problem(row: &Row) -> Result<Problem, String> {
    let name = text(field(row, "name")?)?.trim().to_owned();
    let list = |name: &str| -> Result<WireList, String> {
        let Field::Group(pairs) = field(row, name)? else { return Err(format!("`{name}` is no pair of lists")) };
        Ok(WireList { input: texts(field(pairs, "input")?)?, output: texts(field(pairs, "output")?)? })
    };
    let tests = WireTests {
        public_tests: list("public_tests")?,
        private_tests: list("private_tests")?,
        generated_tests: list("generated_tests")?,
    };
    let source = number(field(row, "source")?)?;
    let difficulty = number(field(row, "difficulty")?)?;
    let letter = || u8::try_from(difficulty - DIFFICULTIES.len() as i64).ok().filter(|at| *at < 26).map(|at| b'A' + at);
    Ok(Problem {
        name,
        description: text(field(row, "description")?)?,
        source: named(&SOURCES, source).unwrap_or_else(|| source.to_string()),
        difficulty: named(&DIFFICULTIES, difficulty)
            .or_else(|| letter().map(|letter| char::from(letter).to_string()))
            .unwrap_or_else(|| difficulty.to_string()),
        solution: solution(row)?,
        tests,
    })
}

fn named(names: &[&str], number: i64) -> Option<String> {
    names.get(usize::try_from(number).ok()?).map(|name| name.to_string())
}

/// The first solution in Python 3, if there is one.
fn solution(row: &Row) -> Result<Option<String>, String> {
    let Ok(Field::Group(pairs)) = field(row, "solutions") else { return Ok(None) };
    let Field::ListInternal(languages) = field(pairs, "language")? else {
        return Err("`solutions.language` is no list".into());
    };
    let solutions = texts(field(pairs, "solution")?)?;
    let languages = languages.elements().iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let python = languages.into_iter().zip(solutions).find(|(language, _)| *language == PYTHON3);
    Ok(python.map(|(_, solution)| solution))
}

fn field<'a>(row: &'a Row, name: &str) -> Result<&'a Field, String> {
    let found = row.get_column_iter().find(|(other, _)| *other == name);
    found.map(|(_, field)| field).ok_or_else(|| {
        let names: Vec<&str> = row.get_column_iter().map(|(name, _)| name.as_str()).collect();
        format!("the table has no column `{name}`: it has {}", names.join(", "))
    })
}

fn text(field: &Field) -> Result<String, String> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        other => Err(format!("`{other}` is no text")),
    }
}

fn texts(field: &Field) -> Result<Vec<String>, String> {
    match field {
        Field::ListInternal(list) => list.elements().iter().map(text).collect(),
        other => Err(format!("`{other}` is no list of texts")),
    }
}

fn number(field: &Field) -> Result<i64, String> {
    match field {
        Field::Int(number) => Ok(i64::from(*number)),
        Field::Long(number) => Ok(*number),
        other => Err(format!("`{other}` is no number")),
    }
}
