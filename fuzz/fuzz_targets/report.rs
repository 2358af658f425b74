//! Any bytes on the report pipe: a verdict only for the one line that says it with the nonce, and words that garble no
//! line of a record or a terminal.
//!
//! `@` stands for the nonce, so that a report can be hit upon.
#![no_main]
#![allow(dead_code)] // the parser is compiled by itself here

use libfuzzer_sys::fuzz_target;

// Its files lie where they do in the package.
#[path = "../../src/verdict.rs"]
mod verdict;
#[path = "../../src/jail"]
mod jail {
    mod report;
    use report::{Report, STEP, clean};

    const NONCE: &str = "6f1d0a9bb0174d55";
    const FOLDER: &str = "/tmp/passk-x/home";

    pub(crate) fn check(bytes: &[u8]) {
        let bytes = String::from_utf8_lossy(bytes).replace('@', NONCE).into_bytes();
        let said = match Report::read(&bytes, NONCE) {
            Report::One(verdict, detail) => {
                assert_eq!(bytes, format!("{NONCE} {verdict} {detail}\n").into_bytes());
                assert!(!detail.contains('\n'));
                detail
            }
            Report::None => return assert!(bytes.is_empty()),
            Report::Garbled => String::from_utf8_lossy(&bytes).into_owned(),
        };
        for part in said.split(STEP) {
            let kept = clean(part, FOLDER);
            assert!(kept.chars().count() <= 201, "{kept:?} is too long");
            assert!(!kept.contains(char::is_control), "{kept:?} garbles a line");
            assert!(!kept.contains(FOLDER), "{kept:?} names our folder");
        }
    }
}

fuzz_target!(|data: &[u8]| jail::check(data));
