//! Bad files: damaged copies, and archives around pickles that no PyTorch would write.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use passk::checkpoint::{Checkpoint, CheckpointError};
use zip::write::SimpleFileOptions;

use super::{assert_says, layout};

/// Opens a file of these bytes and reads every tensor, by name.
fn read_all(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>, CheckpointError> {
    fs::write(path, bytes).unwrap();
    let checkpoint = Checkpoint::open(path)?;
    let names = checkpoint.tensors.keys();
    names
        .map(|name| {
            let values = checkpoint.read_f32(name);
            let rows = by_rows(&checkpoint, name);
            assert_eq!(values.as_ref().ok(), rows.as_ref().ok(), "{name}");
            Ok((name.clone(), values?))
        })
        .collect()
}

/// The same, the second half of the rows before the first.
fn by_rows(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>, CheckpointError> {
    let rows = checkpoint.rows(name)?;
    let shape = &checkpoint.tensors[name].shape;
    let half = shape.first().map_or(0, |count| count / 2);
    let mut values = vec![0.0; checkpoint.tensors[name].elements()];
    let (first, second) = values.split_at_mut(half * shape.iter().skip(1).product::<usize>());
    rows.read(half, second)?;
    rows.read(0, first)?;
    rows.finish()?;
    Ok(values)
}

/// Reading these bytes fails, soon, and the error names the file and says these words.
fn check_bad(bytes: &[u8], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.pt");
    let began = Instant::now();
    match read_all(&path, bytes) {
        Ok(_) => panic!("read without an error that says {words:?}"),
        Err(error) => assert_says(&error, &path, words),
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{words:?}: {:?}", began.elapsed());
}

#[test]
fn files_that_are_no_checkpoints() {
    let safetensors = b"\x10\0\0\0\0\0\0\0{\"a\":1}         ";
    let legacy = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    let cases: [(&[u8], &str); 6] = [
        (b"", "the file is empty"),
        (b"P", "neither a zip archive"),
        (b"just some text, long enough", "neither a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (safetensors, "its header"),
        (legacy, "before PyTorch 1.6"),
    ];
    for (bytes, words) in cases {
        check_bad(bytes, &[words]);
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let bytes = fs::read(layout("plain")).unwrap();
    for length in (1..bytes.len()).step_by(bytes.len() / 60).chain([4, bytes.len() - 1]) {
        check_bad(&bytes[..length], &["failed to read"]);
    }
    check_bad(&bytes[..bytes.len() / 2], &["truncated or damaged"]);
}

/// A changed byte is noticed or does not matter: no weight is ever read wrong.
#[test]
fn a_damaged_file_is_refused_or_read_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    let bytes = fs::read(layout("plain")).unwrap();
    let right = read_all(&path, &bytes).unwrap();
    let (mut state, mut refused) = (1_u64, 0);
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        let (place, flip) = (random() % bytes.len(), 1 + random() % 255);
        damaged[place] ^= flip as u8;
        match read_all(&path, &damaged) {
            Ok(values) => assert_eq!(values, right, "byte {place} ^ {flip}"),
            Err(error) => {
                assert_says(&error, &path, &[]);
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// All of `from` replaced by the equally long `to`.
pub(super) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn archives_with_a_bad_member() {
    let bytes = fs::read(layout("plain")).unwrap();
    check_bad(&replaced(&bytes, b"plain/data.pkl", b"plain/dada.pkl"), &["no data.pkl"]);
    check_bad(&replaced(&bytes, b"plain/data/0", b"plain/data/x"), &["tok_embeddings.weight", "data/0 is missing"]);

    // The compression method in the directory's first entry, which is the pickle's: 8 is deflate.
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let mut deflated = bytes.clone();
    deflated[directory + 10] = 8;
    check_bad(&deflated, &["data.pkl is compressed"]);

    // A value of the first tensor; the member's sum no longer fits.
    let member = bytes.windows(12).position(|window| window == b"plain/data/0").unwrap();
    let mut flipped = bytes.clone();
    flipped[member + 100] ^= 1;
    check_bad(&flipped, &["tensor tok_embeddings.weight", "CRC-32"]);
}

// --- pickles that no PyTorch would write ---------------------------------------------------------

pub(super) type Pickled = Vec<u8>;

pub(super) fn text(text: &str) -> Pickled {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn int(value: i64) -> Pickled {
    [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
}

pub(super) fn tuple(members: &[Pickled]) -> Pickled {
    [b"(", members.concat().as_slice(), b"t"].concat()
}

pub(super) fn ints(values: &[i64]) -> Pickled {
    tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>())
}

pub(super) fn dict(entries: &[(&str, Pickled)]) -> Pickled {
    let entries: Vec<_> = entries.iter().map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", entries.concat().as_slice(), b"u"].concat()
}

pub(super) fn call(module: &str, name: &str, args: &[Pickled]) -> Pickled {
    [format!("c{module}\n{name}\n").as_bytes(), &tuple(args), b"R"].concat()
}

/// A tensor in storage 0, which is said to have four elements.
pub(super) fn tensor(class: &str, offset: i64, shape: &[i64], strides: &[i64]) -> Pickled {
    let class = format!("ctorch\n{class}\n").into_bytes();
    let id = tuple(&[text("storage"), class, text("0"), text("cpu"), int(4)]);
    let storage = [id, b"Q".to_vec()].concat();
    let args = [storage, int(offset), ints(shape), ints(strides), b"\x89".to_vec(), b"}".to_vec()];
    call("torch._utils", "_rebuild_tensor_v2", &args)
}

pub(super) fn state(tensor: Pickled) -> Pickled {
    dict(&[("model_state_dict", dict(&[("w", tensor)]))])
}

/// An archive of this pickle and a storage of this many bytes.
pub(super) fn archive(pickle: &[u8], storage_bytes: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let pickle = [b"\x80\x02", pickle, b"."].concat();
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", vec![0; storage_bytes])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn hostile_tensors_are_refused() {
    let good = archive(&state(tensor("FloatStorage", 1, &[3], &[1])), 16);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read_all(&folder.path().join("good.pt"), &good).unwrap()["w"], [0.0; 3]);

    let huge = i64::MAX;
    let cases = [
        (tensor("FloatStorage", 2, &[3], &[1]), 16, "needs 20 bytes"),
        (tensor("FloatStorage", 0, &[4], &[2]), 16, "needs 28 bytes"),
        (tensor("FloatStorage", huge, &[3], &[1]), 16, "larger than any memory"),
        (tensor("FloatStorage", 0, &[huge, huge], &[1, 1]), 16, "larger than any memory"),
        (tensor("FloatStorage", 0, &[1 << 40], &[0]), 16, "more elements than its storage"),
        (tensor("FloatStorage", 0, &[2, 2], &[1]), 16, "differ in length"),
        (tensor("FloatStorage", 0, &[-1], &[1]), 16, "no lengths"),
        (tensor("FloatStorage", 0, &[1; 9], &[1; 9]), 16, "no lengths"),
        (tensor("FloatStorage", 0, &[4], &[1]), 15, "data/0 is too short (15 bytes)"),
        (tensor("QInt8Storage", 0, &[1], &[1]), 32, "torch.QInt8Storage is not a storage type"),
        (tensor("ComplexFloatStorage", 0, &[1], &[1]), 32, "it is complex"),
        (call("torch._utils", "_rebuild_tensor_v2", &[int(1)]), 0, "not a plain tensor"),
        (
            call("torch._utils", "_rebuild_tensor_v2", &[int(1), int(1), int(1), int(1)]),
            0,
            "its storage is not described",
        ),
        (call("os", "system", &[text("true")]), 0, "it is os.system, not a plain tensor"),
        (int(1), 0, "it is 1, not a plain tensor"),
    ];
    for (tensor, storage_bytes, words) in cases {
        check_bad(&archive(&state(tensor), storage_bytes), &["tensor w", words]);
    }
}

#[test]
fn hostile_pickles_are_refused() {
    let good = tensor("FloatStorage", 0, &[4], &[1]);
    let with_config = |config: Pickled| {
        let state = dict(&[("w", good.clone())]);
        dict(&[("model_state_dict", state), ("config", config)])
    };
    let deep = [vec![b']'; 10_000], vec![b'a'; 9_999]].concat();
    // Each tuple holds the one before it ten times: twenty make 10^20 values.
    let level = |i: u8| [b"(", &[b'h', i][..].repeat(10)[..], &[b't', b'q', i + 1, b'0'][..]].concat();
    let levels: Vec<u8> = (0..20).flat_map(level).collect();
    let laughs = [b")q\x000", levels.as_slice(), b"h\x14"].concat();
    let cyclic = b"]q\x00h\x00a".to_vec();
    let twice = dict(&[("module.w", good.clone()), ("w", good.clone())]);

    let cases = [
        (b"".to_vec(), "an empty stack"),
        (b"]".to_vec(), "it holds a list, not a dict"),
        (call("models", "Llama", &[]), "it holds models.Llama, not a dict"),
        (
            dict(&[("weights", int(1)), ("epoch", int(2))]),
            "it has no state dict: none of model_state_dict, adapter_state_dict, lora_state_dict, but [weights, epoch]",
        ),
        (dict(&[("model_state_dict", b"N".to_vec())]), "it has no state dict"),
        (dict(&[("model_state_dict", int(3))]), "model_state_dict is 3, not a dict"),
        (dict(&[("model_state_dict", dict(&[]))]), "holds no tensors"),
        (dict(&[("model_state_dict", twice)]), "two tensors for w"),
        (with_config(deep), "config is nested too deep"),
        (with_config(cyclic), "config is nested too deep"),
        (with_config(laughs), "config is too large"),
        (b"X\xff\xff\xff\x7f".to_vec(), "an unexpected end"),
        (b"\x82\x01".to_vec(), "an unknown opcode"),
        (vec![b'N'; 2_000_000], "too many values"),
    ];
    for (pickle, words) in cases {
        check_bad(&archive(&pickle, 16), &[words]);
    }
}
