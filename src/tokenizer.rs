//! Text to token ids and back.

use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

mod sentencepiece;

use sentencepiece::SentencePiece;

/// Why a tokenizer could not be loaded or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The model folder has none.
    #[error("no {} in model folder `{}`", TOKENIZER_FILES.join(", "), .0.display())]
    Missing(PathBuf),
    /// The file is broken.
    #[error("failed to read tokenizer `{}`: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        cause: String,
    },
    /// No end-of-sequence token is known.
    #[error("tokenizer `{}` names no end-of-sequence token: add `eos_token_id` to the model folder's config.json", .0.display())]
    NoEos(PathBuf),
    /// A text could not be encoded, or ids not decoded.
    #[error("failed to {verb} with the tokenizer: {cause}")]
    Use {
        /// encode or decode.
        verb: &'static str,
        /// What the tokenizer said.
        cause: String,
    },
}

/// A tokenizer with the ids that end a sequence.
pub struct Tokenizer {
    inner: Inner,
    /// Put before a prompt where the tokenizer itself does not.
    bos: Option<u32>,
    eos: Vec<u32>,
    path: PathBuf,
}

enum Inner {
    Json(Box<tokenizers::Tokenizer>),
    SentencePiece(SentencePiece),
}

/// Where a model folder may keep its tokenizer; the first that is there counts.
pub const TOKENIZER_FILES: [&str; 4] =
    ["tokenizer/tokenizer.json", "tokenizer.json", "tokenizer/tokenizer.model", "tokenizer.model"];

/// Names under which published LLaMA-family tokenizers keep their end-of-sequence token.
const EOS_NAMES: [&str; 5] = ["</s>", "<|end_of_text|>", "<|eot_id|>", "<|endoftext|>", "<|im_end|>"];

impl Tokenizer {
    /// Loads the tokenizer of a model folder, `tokenizer.json` before `tokenizer.model`. The end of a sequence is
    /// `eos_token_id` of `generation_config.json` or `config.json` where that is given, else the one that
    /// `tokenizer.model` names, or whichever of the usual special tokens the vocabulary has.
    ///
    /// # Errors
    /// There is none, it cannot be read, or nothing tells the end of a sequence.
    pub fn from_folder(folder: &Path) -> Result<Tokenizer, TokenizerError> {
        let path = TOKENIZER_FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let path = path.ok_or_else(|| TokenizerError::Missing(folder.to_owned()))?;
        let unreadable = |cause: String| TokenizerError::Read { path: path.clone(), cause };
        let config = |name: &str| {
            let folders = ["", "configs", "tokenizer"].map(|inside| folder.join(inside).join(name));
            folders.iter().find_map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok())
        };
        let inner = match path.extension().is_some_and(|extension| extension == "json") {
            true => {
                let read = tokenizers::Tokenizer::from_file(&path);
                Inner::Json(Box::new(read.map_err(|cause| unreadable(cause.to_string()))?))
            }
            false => {
                let bytes = std::fs::read(&path).map_err(|cause| unreadable(cause.to_string()))?;
                Inner::SentencePiece(SentencePiece::from_bytes(&bytes).map_err(unreadable)?)
            }
        };
        let stated =
            ["generation_config.json", "config.json"].iter().filter_map(|name| config(name)).map(|json| eos_of(&json));
        let mut eos = stated.into_iter().find(|ids| !ids.is_empty()).unwrap_or_default();
        if eos.is_empty() {
            eos = match &inner {
                Inner::Json(json) => EOS_NAMES.iter().filter_map(|name| json.token_to_id(name)).collect(),
                Inner::SentencePiece(model) => model.eos.into_iter().collect(),
            };
        }
        if eos.is_empty() {
            return Err(TokenizerError::NoEos(path));
        }
        let wants_bos = config("tokenizer_config.json").and_then(|json| json.get("add_bos_token")?.as_bool());
        let bos = match &inner {
            // LLaMA's own code always begins with it.
            Inner::SentencePiece(model) => model.bos.filter(|_| wants_bos.unwrap_or(true)),
            Inner::Json(json) => match wants_bos {
                Some(true) => config("tokenizer_config.json")
                    .and_then(|json| bos_name(&json))
                    .and_then(|name| json.token_to_id(&name)),
                _ => None,
            },
        };
        Ok(Tokenizer { inner, bos, eos, path })
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is put before a prompt where the tokenizer itself does not.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The ids that end a sequence.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The same without an end of sequence, so that a benchmark's completions all have one length.
    pub fn endless(self) -> Tokenizer {
        Tokenizer { eos: Vec::new(), ..self }
    }

    /// Whether `id` ends a sequence.
    pub fn is_eos(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// Encodes a prompt, with BOS before it as the tokenizer's post-processor or configuration says.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = match &self.inner {
            Inner::SentencePiece(model) => model.encode(text),
            Inner::Json(json) => match json.encode_fast(text, true) {
                Ok(encoding) => encoding.get_ids().to_vec(),
                Err(cause) => return Err(TokenizerError::Use { verb: "encode", cause: cause.to_string() }),
            },
        };
        if let Some(bos) = self.bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Starts to decode what follows `prompt`. Seeded with the prompt, because a decoder that sees the completion alone
    /// takes its first space for the start of a sentence and drops it.
    pub(crate) fn stream(&self, prompt: &[u32]) -> Result<Stream, TokenizerError> {
        Ok(Stream { context: prompt.len(), ids: prompt.to_vec(), prefix: self.decode(prompt)? })
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let text = match &self.inner {
            Inner::SentencePiece(model) => model.decode(ids),
            Inner::Json(json) => json.decode(ids, true).map_err(|cause| cause.to_string()),
        };
        text.map_err(|cause| TokenizerError::Use { verb: "decode", cause })
    }
}

/// `eos_token_id` of a configuration: a number or a list of them.
fn eos_of(config: &Value) -> Vec<u32> {
    let ids = match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.clone(),
        Some(id) => vec![id.clone()],
        None => Vec::new(),
    };
    ids.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// `bos_token` of a tokenizer_config.json: a text, or an object with it.
fn bos_name(config: &Value) -> Option<String> {
    let token = config.get("bos_token")?;
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// Decodes a sequence id by id, holding back what is not yet a whole character.
///
/// `tokenizers::DecodeStream` does the same but cannot be seeded with a prompt, and borrows its tokenizer.
#[derive(Clone)]
pub(crate) struct Stream {
    /// The ids of the last text that was whole, then those still held back.
    ids: Vec<u32>,
    /// How many of `ids` are the former.
    context: usize,
    /// Their text.
    prefix: String,
}

impl Stream {
    /// Takes one more id and returns the text that is now complete.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, TokenizerError> {
        self.ids.push(id);
        let text = tokenizer.decode(&self.ids)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        let piece = self.after_prefix(tokenizer, text)?;
        // What was held back becomes the context. It begins where a text was whole, never inside a character.
        self.ids.drain(..self.context);
        self.context = self.ids.len();
        self.prefix = tokenizer.decode(&self.ids)?;
        Ok(piece)
    }

    /// The text held back at the end of a sequence, with replacement characters for what never became one.
    pub(crate) fn finish(&self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        self.after_prefix(tokenizer, tokenizer.decode(&self.ids)?)
    }

    fn after_prefix(&self, tokenizer: &Tokenizer, text: String) -> Result<String, TokenizerError> {
        match text.strip_prefix(&self.prefix) {
            Some(piece) => Ok(piece.to_owned()),
            // A broken byte spoils the bytes before it, for decoders that join them; those were whole and stay so.
            None => tokenizer.decode(&self.ids[self.context..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer as LLaMA's: spaces as `▁`, the first one dropped, and bytes for what has no token.
    fn llama_like() -> Tokenizer {
        let bytes = (0..=255).map(|byte| format!("\"<0x{byte:02X}>\": {byte}"));
        let words =
            ["▁return", "▁x", "▁", "def", "</s>"].iter().zip(256..).map(|(word, id)| format!("\"{word}\": {id}"));
        let vocab: Vec<String> = bytes.chain(words).collect();
        let json = format!(
            r#"{{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "model": {{"type": "BPE", "vocab": {{{}}}, "merges": [], "byte_fallback": true}},
            "decoder": {{"type": "Sequence", "decoders": [
                {{"type": "Replace", "pattern": {{"String": "▁"}}, "content": " "}},
                {{"type": "ByteFallback"}}, {{"type": "Fuse"}},
                {{"type": "Strip", "content": " ", "start": 1, "stop": 0}}]}}}}"#,
            vocab.join(", ")
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tokenizer")).unwrap();
        std::fs::write(folder.path().join("tokenizer/tokenizer.json"), json).unwrap();
        Tokenizer::from_folder(folder.path()).unwrap()
    }

    fn check(prompt: &[u32], ids: &[u32], expected: &str) {
        let tokenizer = llama_like();
        let mut stream = tokenizer.stream(prompt).unwrap();
        let mut text = String::new();
        for &id in ids {
            text += &stream.push(&tokenizer, id).unwrap();
        }
        text += &stream.finish(&tokenizer).unwrap();
        assert_eq!(text, expected, "{prompt:?} {ids:?}");
    }

    #[test]
    fn leading_spaces_and_split_characters_come_out_whole() {
        let newline = 0x0A;
        check(&[259, newline], &[256, 257, newline, 259], " return x\ndef");
        let korean: Vec<u32> = "코드다".bytes().map(u32::from).collect();
        check(&[259], &korean, "코드다");
        // Newlines after many bytes, and in a prompt that ends in bytes.
        check(&[259], &[&korean[..], &[newline, 259]].concat(), "코드다\ndef");
        check(&korean, &[newline, 259, 257], "\ndef x");
        // A character that is never finished does not take its neighbours with it.
        check(&[259], &[&korean[..], &[0xE3, 259]].concat(), "코드다\u{FFFD}def");
        check(&[259], &[257, 0xE3], " x\u{FFFD}");
    }

    /// The texts and ids of `tests/data/tokenizer/make.py`.
    fn sentencepiece_cases() -> (Tokenizer, Vec<(String, Vec<u32>)>) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer");
        let packed = std::fs::File::open(folder.join("texts.json.gz")).unwrap();
        let cases = serde_json::from_reader(flate2::read::GzDecoder::new(packed)).unwrap();
        (Tokenizer::from_folder(&folder).unwrap(), cases)
    }

    #[test]
    fn texts_encode_as_sentencepiece_does() {
        let (tokenizer, cases) = sentencepiece_cases();
        assert_eq!(cases.len(), 2000);
        for (text, expected) in cases {
            let ids = tokenizer.encode(&text).unwrap();
            assert_eq!((ids[0], &ids[1..]), (1, &expected[..]), "{text:?}");
        }
        assert_eq!(tokenizer.eos(), [2]);
    }

    /// Wherever a text is cut into prompt and completion, the completion's text is all that follows the prompt's.
    #[test]
    fn completions_decode_with_every_space() {
        let (tokenizer, cases) = sentencepiece_cases();
        for (at, (text, _)) in cases.iter().enumerate() {
            let ids = tokenizer.encode(text).unwrap();
            let (prompt, completion) = ids.split_at(1 + at % ids.len());
            let mut stream = tokenizer.stream(prompt).unwrap();
            let mut decoded = tokenizer.decode(prompt).unwrap();
            // A character whose bytes the cut parts is in neither half.
            if decoded.ends_with(char::REPLACEMENT_CHARACTER) {
                continue;
            }
            for &id in completion {
                decoded += &stream.push(&tokenizer, id).unwrap();
            }
            decoded += &stream.finish(&tokenizer).unwrap();
            assert_eq!(decoded, text.replace('\u{2581}', " "), "cut after {} ids", prompt.len());
        }
    }

    #[test]
    fn tokenizers_that_are_not_llamas_are_refused() {
        let bytes =
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer/tokenizer.model")).unwrap();
        let check = |bytes: &[u8], words: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("tokenizer.model"), bytes).unwrap();
            let error = Tokenizer::from_folder(folder.path()).map(drop).unwrap_err().to_string();
            assert!(error.contains("tokenizer.model") && error.contains(words), "{words}: {error}");
        };
        check(b"IQ== 0\nIg== 1\n", "tiktoken");
        check(&bytes[..bytes.len() - 1], "no SentencePiece model");
        check(&[0xff; 100], "no SentencePiece model");
        // Fields of a message that come again replace the ones before: trainer_spec.model_type, normalizer_spec's flags.
        check(&[&bytes[..], &[0x12, 2, 0x18, 1]].concat(), "not of the BPE kind");
        check(&[&bytes[..], &[0x1a, 2, 0x20, 1]].concat(), "drops spaces");
        check(&[&bytes[..], &[0x1a, 3, 0x12, 1, 7]].concat(), "rewrites text");
        // A piece without a kind is a normal one; an empty one is there twice then.
        check(&[&bytes[..], &[0x0a, 0, 0x0a, 0]].concat(), "twice");
    }
}
