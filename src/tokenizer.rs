//! Text to token ids and back.

use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

/// Why a tokenizer could not be loaded or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The model folder has none.
    #[error("no tokenizer/tokenizer.json in model folder `{}`", .0.display())]
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
    #[error("tokenizer `{}` names no end-of-sequence token: add `eos_token_id` to configs/config.json", .0.display())]
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
    inner: tokenizers::Tokenizer,
    eos: Vec<u32>,
    path: PathBuf,
}

/// Names under which published LLaMA-family tokenizers keep their end-of-sequence token.
const EOS_NAMES: [&str; 5] = ["</s>", "<|end_of_text|>", "<|eot_id|>", "<|endoftext|>", "<|im_end|>"];

impl Tokenizer {
    /// Loads `tokenizer/tokenizer.json` of a model folder. The end of a sequence is `eos_token_id` of
    /// `configs/config.json` where that is given, else whichever of the usual special tokens the vocabulary has.
    pub fn from_folder(folder: &Path) -> Result<Tokenizer, TokenizerError> {
        let path = folder.join("tokenizer/tokenizer.json");
        if !path.is_file() {
            return Err(TokenizerError::Missing(folder.to_owned()));
        }
        let inner = tokenizers::Tokenizer::from_file(&path)
            .map_err(|cause| TokenizerError::Read { path: path.clone(), cause: cause.to_string() })?;
        let mut eos = stated_eos(&folder.join("configs/config.json"));
        if eos.is_empty() {
            eos = EOS_NAMES.iter().filter_map(|name| inner.token_to_id(name)).collect();
        }
        if eos.is_empty() {
            return Err(TokenizerError::NoEos(path));
        }
        Ok(Tokenizer { inner, eos, path })
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ids that end a sequence.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Whether `id` ends a sequence.
    pub fn is_eos(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// Encodes a prompt, with the special tokens that the tokenizer's post-processor adds (BOS).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match self.inner.encode_fast(text, true) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(cause) => Err(TokenizerError::Use { verb: "encode", cause: cause.to_string() }),
        }
    }

    /// Starts to decode what follows `prompt`. Seeded with the prompt, because a decoder that sees the completion alone
    /// takes its first space for the start of a sentence and drops it.
    pub(crate) fn stream(&self, prompt: &[u32]) -> Result<Stream, TokenizerError> {
        Ok(Stream { context: prompt.len(), ids: prompt.to_vec(), prefix: self.decode(prompt)? })
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(ids, true).map_err(|cause| TokenizerError::Use { verb: "decode", cause: cause.to_string() })
    }
}

/// `eos_token_id` of a config.json: a number or a list of them.
fn stated_eos(config: &Path) -> Vec<u32> {
    let Ok(text) = std::fs::read_to_string(config) else { return Vec::new() };
    let Ok(config) = serde_json::from_str::<Value>(&text) else { return Vec::new() };
    let ids = match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.clone(),
        Some(id) => vec![id.clone()],
        None => Vec::new(),
    };
    ids.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
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
}
