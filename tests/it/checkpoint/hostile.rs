//! Files made to hurt: an error that names file and trouble, within 2 s and 256 MiB, and no panic.
//!
//! Another process of this test binary reads them, so that its memory can be limited.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use passk::checkpoint::Checkpoint;
use rustix::process::{Resource, Rlimit, setrlimit};
use zip::write::SimpleFileOptions;

use super::bad::{Pickled, archive, call, dict, int, replaced, state, tensor, text, tuple};
use super::layout;

/// Bytes of a file, and words that the error must have.
type Case = (&'static str, Vec<u8>, &'static str);

fn good_pickle() -> Pickled {
    [b"\x80\x02".to_vec(), state(tensor("FloatStorage", 0, &[4], &[1])), b".".to_vec()].concat()
}

/// Members as they are, whatever torch.save would have written.
fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn good_zip() -> Vec<u8> {
    zipped(&[("a/data.pkl", &good_pickle()), ("a/data/0", &[0; 16])])
}

/// The good archive with `bytes` written `at` bytes after the `nth` (from 0) `signature`.
fn patched(signature: &[u8], nth: usize, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut zip = good_zip();
    let found = (0..zip.len()).filter(|&at| zip[at..].starts_with(signature)).nth(nth).unwrap();
    zip[found + at..found + at + bytes.len()].copy_from_slice(bytes);
    zip
}

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";

/// The good archive, its end record moved behind wide ones that say this of the directory.
fn wide(members: u64, size: u64, offset: u64, end_at: Option<u64>) -> Vec<u8> {
    let mut zip = good_zip();
    let mut end = zip.split_off(zip.len() - 22);
    let here = zip.len() as u64;
    let numbers = [44_u64, 45, 0, members, members, size, offset];
    zip.extend(b"PK\x06\x06");
    zip.extend(numbers[0].to_le_bytes());
    zip.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    numbers[3..].iter().for_each(|number| zip.extend(number.to_le_bytes()));
    zip.extend(b"PK\x06\x07\0\0\0\0");
    zip.extend(end_at.unwrap_or(here).to_le_bytes());
    zip.extend([1, 0, 0, 0]);
    end[8..20].fill(0xff);
    zip.extend(end);
    zip
}

fn archives() -> Vec<Case> {
    let pickle = good_pickle();
    // Zeros as deflate writes them; the directory says 1 GB.
    let bomb = {
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..16).for_each(|_| deflate.write_all(&zeros).unwrap());
        deflate.finish().unwrap()
    };
    let deflated = |mut zip: Vec<u8>, nth: usize| {
        let at = (0..zip.len()).filter(|&at| zip[at..].starts_with(CENTRAL)).nth(nth).unwrap();
        zip[at + 10] = 8;
        zip[at + 24..at + 28].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        zip
    };
    let flood: Vec<u8> = {
        // A directory of 140 000 empty members.
        let entry = |i: u32| {
            let mut entry = [CENTRAL, &[0; 42]].concat();
            entry[28] = 7;
            [entry, format!("{i:07}").into_bytes()].concat()
        };
        let entries: Vec<u8> = (0..140_000).flat_map(entry).collect();
        let mut zip = wide(140_000, entries.len() as u64, 64, None);
        let tail = zip.split_off(zip.len() - 98);
        let mut flood = [b"PK\x03\x04".to_vec(), vec![0; 60], entries].concat();
        let at = flood.len() as u64;
        flood.extend(tail);
        let locator = flood.len() - 22 - 20;
        flood[locator + 8..locator + 16].copy_from_slice(&at.to_le_bytes());
        flood
    };
    let twice = zipped(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 16]), ("a/data/1", &[0; 16])]);
    let twice = replaced(&twice, b"a/data/1", b"a/data/0");
    let mut trailing = good_zip();
    trailing.extend([0; 100]);
    let mut comment = good_zip();
    comment.extend([b'x'; 70_000]);
    vec![
        ("a pickle of 1 GB, compressed", deflated(zipped(&[("a/data.pkl", &bomb)]), 0), "data.pkl is compressed"),
        (
            "a storage of 1 GB, compressed",
            deflated(zipped(&[("a/data.pkl", &pickle), ("a/data/0", &bomb)]), 1),
            "data/0 is compressed",
        ),
        ("a pickle of 65 MB", zipped(&[("a/data.pkl", &vec![b'N'; 65 << 20])]), "larger than any checkpoint's"),
        ("paths out of it", zipped(&[("../../a/data.pkl", &pickle)]), "lead out of it"),
        ("a path from the root", zipped(&[("/data.pkl", &pickle)]), "lead out of it"),
        ("no pickle", zipped(&[("a/data/0", &pickle)]), "no data.pkl"),
        ("no storage", zipped(&[("a/data.pkl", &pickle)]), "data/0 is missing"),
        ("a program", zipped(&[("a/data.pkl", &pickle), ("a/constants.pkl", b"")]), "TorchScript"),
        ("big-endian", zipped(&[("a/data.pkl", &pickle), ("a/byteorder", b"big")]), "big-endian"),
        ("an encrypted member", patched(CENTRAL, 1, 8, &[1]), "data/0 is compressed"),
        ("members that overlap", patched(CENTRAL, 1, 42, &[0, 0, 0, 0]), "overlaps what follows"),
        (
            "a member beyond the directory",
            patched(CENTRAL, 1, 20, &[0xf0, 0xff, 0, 0, 0xf0, 0xff, 0, 0]),
            "overlaps what follows",
        ),
        (
            "a member of nearly 4 GB",
            patched(CENTRAL, 1, 20, &[0xfe, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff]),
            "overlaps",
        ),
        ("a wide member without its width", patched(CENTRAL, 1, 24, &[0xff; 4]), "truncated or damaged"),
        ("another name in the member", patched(LOCAL, 1, 30, b"b"), "data/0 is damaged"),
        ("a member that is none", patched(LOCAL, 1, 0, b"PK\x07\x08"), "data/0 is damaged"),
        ("padding beyond the directory", patched(LOCAL, 1, 28, &[0xff, 0xff]), "data/0 is damaged"),
        ("a name that is no text", patched(CENTRAL, 0, 46, &[0xff]), "not UTF-8"),
        ("an extra field longer than the entry", patched(CENTRAL, 1, 30, &[0xff, 0xff]), "truncated or damaged"),
        ("fewer members than it says", patched(END, 0, 8, &[9, 0, 9, 0]), "truncated or damaged"),
        ("more members than it says", patched(END, 0, 8, &[1, 0, 1, 0]), "truncated or damaged"),
        ("a directory that lies elsewhere", patched(END, 0, 16, &[1, 0, 0, 0]), "truncated or damaged"),
        ("wide numbers promised", patched(END, 0, 16, &[0xff; 4]), "truncated or damaged"),
        ("two members of a name", twice, "two members called a/data/0"),
        ("2^63 members", wide(1 << 63, 100, 0, None), "more members than any checkpoint"),
        ("a directory of 2^63 bytes", wide(2, 1 << 63, 0, None), "more members than any checkpoint"),
        ("a directory at 2^64 - 1", wide(2, 100, u64::MAX, None), "truncated or damaged"),
        ("wide records beyond the file", wide(2, 100, 0, Some(u64::MAX - 3)), "truncated or damaged"),
        ("wide records that are none", wide(2, 100, 0, Some(0)), "truncated or damaged"),
        ("140 000 members", flood, "more members than any checkpoint"),
        ("bytes after the end", trailing, "truncated or damaged"),
        ("70 000 bytes after the end", comment, "truncated or damaged"),
    ]
}

fn pickles() -> Vec<Case> {
    let good = tensor("FloatStorage", 0, &[4], &[1]);
    let beside = |key: &str, value: Pickled| dict(&[("model_state_dict", dict(&[("w", good.clone())])), (key, value)]);
    let deep = |depth: usize| [vec![b']'; depth], vec![b'a'; depth - 1]].concat();
    let memo: Vec<u8> =
        (0..200_000_u32).flat_map(|i| [&b"Nr"[..], &(i * 21_474).to_le_bytes(), b"0"].concat()).collect();
    let cyclic = [&b"}q\x00"[..], &text("model_state_dict"), b"h\x00s"].concat();
    let system = |what: &str| call("os", "system", &[text(what)]);
    let long = |bytes: usize| [b"\x8b".to_vec(), (bytes as u32).to_le_bytes().to_vec(), vec![0x7f; bytes]].concat();
    let marks = vec![b'('; 1_000_000];
    let rows: Vec<(&'static str, Pickled, &'static str)> = vec![
        ("os.system at the root", system("true"), "it holds os.system, not a dict"),
        ("os.system as the state dict", dict(&[("model_state_dict", system("true"))]), "model_state_dict is os.system"),
        ("os.system as a tensor", state(system("true")), "it is os.system, not a plain tensor"),
        (
            "eval as a storage",
            state(call(
                "torch._utils",
                "_rebuild_tensor_v2",
                &[call("builtins", "eval", &[text("1")]), int(0), tuple(&[]), tuple(&[])],
            )),
            "its storage is not described",
        ),
        ("a state dict within itself", cyclic, "not a plain tensor"),
        ("half a million lists", beside("config", deep(500_000)), "config is nested too deep"),
        ("a million marks", marks, "an empty stack"),
        ("200 000 memo slots", [memo, b"}".to_vec()].concat(), "it has no state dict"),
        ("an integer of 16 MB", beside("model_state_dict", long(16 << 20)), "model_state_dict is a large integer"),
        (
            "a text of 2^63 bytes",
            [b"\x8d".to_vec(), (1_u64 << 63).to_le_bytes().to_vec()].concat(),
            "an unexpected end",
        ),
        ("a frame of 2^64 bytes", [b"\x95".to_vec(), vec![0xff; 8], system("true")].concat(), "it holds os.system"),
        ("old opcodes", b"(ios\nsystem\n".to_vec(), "an unknown opcode"),
        ("an extension", b"\x82\x01".to_vec(), "an unknown opcode"),
        ("no end", b"}".repeat(1000), "it has no state dict"),
        (
            "a name of 2 kB",
            dict(&[("model_state_dict", dict(&[(&"n".repeat(2000), good.clone())]))]),
            "not with a short text",
        ),
        (
            "a tensor of 2^40 elements in 16 bytes",
            state(tensor("FloatStorage", 0, &[1 << 40], &[0])),
            "more elements than its storage",
        ),
        (
            "2^62 elements",
            state(tensor("FloatStorage", 0, &[1 << 31, 1 << 31], &[0, 0])),
            "more elements than its storage",
        ),
        (
            "a storage of 2^62 elements",
            {
                let id =
                    tuple(&[text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), int(1 << 62)]);
                state(call(
                    "torch._utils",
                    "_rebuild_tensor_v2",
                    &[[id, b"Q".to_vec()].concat(), int(0), tuple(&[int(4)]), tuple(&[int(1)])],
                ))
            },
            "too short",
        ),
        (
            "a storage with a path for a key",
            {
                let id = tuple(&[
                    text("storage"),
                    b"ctorch\nFloatStorage\n".to_vec(),
                    text("../data.pkl"),
                    text("cpu"),
                    int(4),
                ]);
                state(call(
                    "torch._utils",
                    "_rebuild_tensor_v2",
                    &[[id, b"Q".to_vec()].concat(), int(0), tuple(&[int(4)]), tuple(&[int(1)])],
                ))
            },
            "data/../data.pkl is missing",
        ),
    ];
    rows.into_iter().map(|(name, pickle, words)| (name, archive(&pickle, 16), words)).collect()
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

fn headers() -> Vec<Case> {
    let one = |what: &str, data: usize| safetensors(&format!(r#"{{"w": {what}}}"#), data);
    let length = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
    vec![
        ("a header of 2^63 bytes", length(1 << 63, b"{\"a\": 1}"), "larger than any checkpoint's"),
        ("a header beyond the file", length(1000, b"{\"a\": 1}"), "ends beyond the file"),
        ("a header that is no JSON", safetensors("{x", 0), "its header"),
        ("a header that is no text", length(10, b"{\"\xff\xfe\xfd\xfc\xfb\"}x"), "its header"),
        ("half a million brackets", safetensors(&format!("{{\"a\": {}", "[".repeat(500_000)), 0), "its header"),
        ("no tensors", safetensors(r#"{"__metadata__": {}}"#, 0), "holds no tensors"),
        (
            "two tensors of a name",
            safetensors(
                r#"{"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}"#,
                1,
            ),
            "two tensors called w",
        ),
        (
            "two names of a tensor",
            safetensors(
                r#"{"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "module.w": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}"#,
                2,
            ),
            "two tensors for w",
        ),
        (
            "tensors that overlap",
            safetensors(
                r#"{"v": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "w": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}"#,
                3,
            ),
            "overlap or leave a hole at byte 2",
        ),
        ("a hole", one(r#"{"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}"#, 2), "leave a hole at byte 0"),
        (
            "an end before the beginning",
            one(r#"{"dtype": "U8", "shape": [1], "data_offsets": [2, 1]}"#, 2),
            "ends before it begins",
        ),
        (
            "offsets of 2^64 - 1",
            one(r#"{"dtype": "U8", "shape": [1], "data_offsets": [18446744073709551614, 18446744073709551615]}"#, 1),
            "ends beyond the file",
        ),
        (
            "a shape that overflows",
            one(r#"{"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}"#, 4),
            "larger than any memory",
        ),
        (
            "a shape of another size",
            one(r#"{"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}"#, 8),
            "needs 12 bytes",
        ),
        ("a negative length", one(r#"{"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}"#, 4), "its header"),
        ("a length of 1e400", one(r#"{"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}"#, 4), "its header"),
        (
            "a million axes",
            one(&format!(r#"{{"dtype": "U8", "shape": [1{}], "data_offsets": [0, 1]}}"#, ",1".repeat(999_999)), 1),
            "1000000 axes",
        ),
        (
            "an unknown type",
            one(r#"{"dtype": "F4_E2M1", "shape": [2], "data_offsets": [0, 1]}"#, 1),
            "F4_E2M1 is not a type passk reads",
        ),
        ("too few bytes", one(r#"{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}"#, 7), "ends beyond the file"),
        (
            "too many bytes",
            one(r#"{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}"#, 9),
            "need 8 bytes and it has 9",
        ),
    ]
}

fn truncations() -> Vec<Case> {
    let bytes = fs::read(layout("adamw")).unwrap();
    let cut = |i: usize| ("a file cut off", bytes[..bytes.len() * i / 20].to_vec(), "");
    (0..20).map(cut).collect()
}

fn cases() -> Vec<Case> {
    [archives(), pickles(), headers(), truncations()].concat()
}

const FOLDER: &str = "HOSTILE_FOLDER";

/// Reads all files of the folder, in order, and writes a line of each: milliseconds, and what came of it.
#[test]
fn reads_a_folder_within_limits() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let in_use =
        fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let limit = Some(in_use + (256 << 20));
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let began = Instant::now();
        let read = Checkpoint::open(&path)
            .and_then(|checkpoint| checkpoint.tensors.keys().try_for_each(|name| checkpoint.read_f32(name).map(drop)));
        let outcome = read.map_or_else(|error| error.to_string(), |()| "read".to_owned());
        // For the parent.
        writeln!(std::io::stdout(), "hostile {} {} {outcome}", path.display(), began.elapsed().as_millis()).unwrap();
    }
}

fn read_by_child(folder: &Path) -> Vec<(u64, String)> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["checkpoint::hostile::reads_a_folder_within_limits", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    // libtest begins its own line before the first of ours.
    let lines = stdout.lines().filter_map(|line| line.split_once("hostile ").map(|(_, rest)| rest));
    let parse = |line: &str| {
        let (_, rest) = line.split_once(' ').unwrap();
        let (milliseconds, outcome) = rest.split_once(' ').unwrap();
        (milliseconds.parse().unwrap(), outcome.to_owned())
    };
    lines.filter(|line| line.starts_with('/')).map(parse).collect()
}

#[test]
fn hostile_files_give_errors_within_two_seconds_and_256_mib() {
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    let folder = tempfile::tempdir().unwrap();
    for (at, (_, bytes, _)) in cases.iter().enumerate() {
        fs::write(folder.path().join(format!("{at:03}.pt")), bytes).unwrap();
    }
    let outcomes = read_by_child(folder.path());
    assert_eq!(outcomes.len(), cases.len());
    let mut wrong = Vec::new();
    for (at, ((milliseconds, outcome), (name, _, words))) in outcomes.iter().zip(&cases).enumerate() {
        let path = folder.path().join(format!("{at:03}.pt"));
        if !outcome.contains(path.to_str().unwrap()) || !outcome.contains(words) || *milliseconds >= 2000 {
            wrong.push(format!("{name}: should name the file and say {words:?}: {outcome} ({milliseconds} ms)"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let slowest = outcomes.iter().zip(&cases).max_by_key(|((milliseconds, _), _)| *milliseconds).unwrap();
    eprintln!("{} hostile files; the slowest is {:?} with {} ms", cases.len(), slowest.1.0, slowest.0.0);
}

/// The child can tell a good file, and its limit holds.
#[test]
fn the_limit_is_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(layout("plain"), folder.path().join("good.pt")).unwrap();
    assert_eq!(read_by_child(folder.path())[0].1, "read");
    let large = [0_u8; 4].repeat(80 << 20);
    let header =
        format!(r#"{{"w": {{"dtype": "F32", "shape": [{}], "data_offsets": [0, {}]}}}}"#, 80 << 20, large.len());
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &large].concat();
    fs::write(folder.path().join("good.pt"), bytes).unwrap();
    assert!(read_by_child(folder.path())[0].1.contains("no memory for its"));
}

/// What fuzzing found, kept so that it stays fixed: no panic.
#[test]
fn what_fuzzing_found_stays_fixed() {
    let folder = super::fixtures().join("found");
    let Ok(entries) = fs::read_dir(&folder) else { return };
    let count = entries.count();
    assert_eq!(read_by_child(&folder).len(), count);
}
