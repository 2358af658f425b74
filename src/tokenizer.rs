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

    /// Starts to decode what follows `prompt`. Seeded with the prompt's last ids, because a decoder that sees the
    /// completion alone takes its first space for the start of a sentence and drops it.
    pub(crate) fn stream(&self, prompt: &[u32]) -> Result<Stream, TokenizerError> {
        let seed = prompt[prompt.len().saturating_sub(Stream::SEED)..].to_vec();
        let prefix = self.decode(&seed)?;
        Ok(Stream { ids: seed, prefix })
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
pub(crate) struct Stream {
    /// Ids whose text is `prefix`, then ids whose text is still held back.
    ids: Vec<u32>,
    prefix: String,
}

impl Stream {
    /// Ids of context: more than any decoder looks back.
    const SEED: usize = 8;

    /// Takes one more id and returns the text that is now complete.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, TokenizerError> {
        self.ids.push(id);
        let text = tokenizer.decode(&self.ids)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        let piece = self.after_prefix(&text);
        let old = self.ids.len().saturating_sub(Self::SEED);
        self.ids.drain(..old);
        self.prefix = tokenizer.decode(&self.ids)?;
        Ok(piece)
    }

    /// The text held back at the end of a sequence, with replacement characters for what never became one.
    pub(crate) fn finish(&self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        Ok(self.after_prefix(&tokenizer.decode(&self.ids)?))
    }

    fn after_prefix(&self, text: &str) -> String {
        text.get(self.prefix.len()..).unwrap_or_default().to_owned()
    }
}
