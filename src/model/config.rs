//! The shape of a model, from `params.json` (Meta's names) or `config.json` (Hugging Face's).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// Everything about a model that its weights do not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub dim: usize,
    /// All blocks: trunk, head 0 and the extra heads.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves n_heads / n_kv_heads query heads.
    pub n_kv_heads: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the feed-forward.
    pub hidden_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f32,
    /// Heads: head h at position t predicts token t + 1 + h. One is an ordinary LLaMA.
    pub n_future_tokens: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Longest sequence, prompt included.
    pub max_seq_len: usize,
}

/// Why a model folder could not be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No such folder at any of the places tried.
    #[error("no model folder `{wanted}` (tried {}): give it with --model-dir", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoFolder {
        /// As the checkpoint or the flag names it.
        wanted: String,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The folder lacks both files.
    #[error("no configs/params.json or configs/config.json in model folder `{}`: the number of attention heads cannot be told from the weights", .0.display())]
    NoConfig(PathBuf),
    /// The file cannot be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is no JSON, or a key is missing or of the wrong kind.
    #[error("failed to parse `{}`: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The numbers contradict each other.
    #[error("bad model shape in `{}`: {trouble}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        trouble: String,
    },
}

/// Keys of both kinds of file; the aliases are Hugging Face's.
#[derive(Deserialize)]
struct WireConfig {
    #[serde(alias = "hidden_size")]
    dim: usize,
    #[serde(alias = "num_hidden_layers")]
    n_layers: usize,
    #[serde(alias = "num_attention_heads")]
    n_heads: usize,
    #[serde(alias = "num_key_value_heads")]
    n_kv_heads: Option<usize>,
    vocab_size: usize,
    /// Hugging Face states the width of the feed-forward; Meta derives it.
    intermediate_size: Option<usize>,
    #[serde(default = "default_multiple_of")]
    multiple_of: usize,
    ffn_dim_multiplier: Option<f64>,
    #[serde(alias = "rms_norm_eps", default = "default_norm_eps")]
    norm_eps: f32,
    #[serde(default = "default_future_tokens")]
    n_future_tokens: usize,
    #[serde(default = "default_rope_theta")]
    rope_theta: f32,
    #[serde(alias = "max_position_embeddings", default = "default_max_seq_len")]
    max_seq_len: usize,
}

// Meta's own defaults (llama/model.py, ModelArgs).
fn default_multiple_of() -> usize {
    256
}
fn default_norm_eps() -> f32 {
    1e-5
}
fn default_future_tokens() -> usize {
    1
}
fn default_rope_theta() -> f32 {
    10_000.0
}
fn default_max_seq_len() -> usize {
    2048
}

impl Config {
    /// Reads the shape from a model folder.
    pub fn from_folder(folder: &Path) -> Result<Config, ConfigError> {
        let path = ["configs/params.json", "configs/config.json"]
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
            .ok_or_else(|| ConfigError::NoConfig(folder.to_owned()))?;
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let wire: WireConfig =
            serde_json::from_str(&text).map_err(|source| ConfigError::Parse { path: path.clone(), source })?;
        let config = Config::from(wire);
        match config.trouble() {
            Some(trouble) => Err(ConfigError::Shape { path, trouble: trouble.into() }),
            None => Ok(config),
        }
    }

    fn trouble(&self) -> Option<&'static str> {
        let Config { dim, n_layers, n_heads, n_kv_heads, n_future_tokens, .. } = *self;
        if dim == 0 || n_layers == 0 || n_heads == 0 || n_kv_heads == 0 || n_future_tokens == 0 {
            Some("dim, n_layers, n_heads, n_kv_heads and n_future_tokens must be at least 1")
        } else if self.vocab_size == 0 || self.hidden_dim == 0 || self.max_seq_len == 0 {
            Some("vocab_size, the feed-forward's width and max_seq_len must be at least 1")
        } else if [dim, n_layers, self.vocab_size, self.hidden_dim, self.max_seq_len].iter().any(|&n| n > 1 << 24) {
            Some("no model has more than 2^24 of dim, layers, tokens, feed-forward width or positions")
        } else if dim % n_heads != 0 || dim / n_heads % 2 != 0 {
            Some("dim / n_heads must be an even whole number")
        } else if n_heads % n_kv_heads != 0 {
            Some("n_heads must be a multiple of n_kv_heads")
        } else if n_layers < n_future_tokens {
            Some("n_layers must be at least n_future_tokens")
        } else {
            None
        }
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.n_heads
    }

    /// Width of all keys, or all values, of one position in one layer.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim()
    }

    /// Names of the blocks in the order in which the cache numbers them: trunk, head 0, extra heads.
    pub(crate) fn blocks(&self) -> Vec<String> {
        let ordinary = (0..=self.n_layers - self.n_future_tokens).map(|i| format!("layers.{i}"));
        let extra = (0..self.n_future_tokens - 1).map(|j| format!("extra_heads.{j}"));
        ordinary.chain(extra).collect()
    }

    /// Blocks below the heads.
    pub(crate) fn trunk_len(&self) -> usize {
        self.n_layers - self.n_future_tokens
    }

    /// Every tensor such a model has, with its shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let &Config { dim, hidden_dim, vocab_size, .. } = self;
        let mut tensors = vec![
            ("tok_embeddings.weight".to_owned(), vec![vocab_size, dim]),
            ("norm.weight".to_owned(), vec![dim]),
            ("output.weight".to_owned(), vec![vocab_size, dim]),
        ];
        for block in self.blocks() {
            tensors.extend([
                (format!("{block}.attention_norm.weight"), vec![dim]),
                (format!("{block}.attention.wq.weight"), vec![dim, dim]),
                (format!("{block}.attention.wk.weight"), vec![self.kv_dim(), dim]),
                (format!("{block}.attention.wv.weight"), vec![self.kv_dim(), dim]),
                (format!("{block}.attention.wo.weight"), vec![dim, dim]),
                (format!("{block}.ffn_norm.weight"), vec![dim]),
                (format!("{block}.feed_forward.w1.weight"), vec![hidden_dim, dim]),
                (format!("{block}.feed_forward.w2.weight"), vec![dim, hidden_dim]),
                (format!("{block}.feed_forward.w3.weight"), vec![hidden_dim, dim]),
            ]);
        }
        tensors
    }
}

impl From<WireConfig> for Config {
    fn from(wire: WireConfig) -> Config {
        Config {
            dim: wire.dim,
            n_layers: wire.n_layers,
            n_heads: wire.n_heads,
            n_kv_heads: wire.n_kv_heads.unwrap_or(wire.n_heads),
            vocab_size: wire.vocab_size,
            hidden_dim: wire
                .intermediate_size
                .unwrap_or_else(|| meta_hidden_dim(wire.dim, wire.ffn_dim_multiplier, wire.multiple_of)),
            norm_eps: wire.norm_eps,
            n_future_tokens: wire.n_future_tokens,
            rope_theta: wire.rope_theta,
            max_seq_len: wire.max_seq_len,
        }
    }
}

/// Two thirds of 4 dim, times the multiplier, rounded up to `multiple_of` (llama/model.py, FeedForward).
fn meta_hidden_dim(dim: usize, multiplier: Option<f64>, multiple_of: usize) -> usize {
    let two_thirds = dim.saturating_mul(8) / 3;
    let scaled = multiplier.map_or(two_thirds, |m| (m * two_thirds as f64) as usize);
    scaled.div_ceil(multiple_of.max(1)).saturating_mul(multiple_of.max(1))
}

/// Finds the model folder `wanted`, absolute or relative to the first of `roots` that has it.
pub fn find_folder(wanted: &str, roots: &[PathBuf]) -> Result<PathBuf, ConfigError> {
    let tried: Vec<PathBuf> = roots.iter().map(|root| root.join(wanted)).collect();
    match tried.iter().find(|path| path.is_dir()) {
        Some(folder) => Ok(folder.clone()),
        None => Err(ConfigError::NoFolder { wanted: wanted.to_owned(), tried }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feed_forward_width_is_metas() {
        assert_eq!(meta_hidden_dim(4096, None, 256), 11008); // LLaMA 7B
        assert_eq!(meta_hidden_dim(4096, Some(1.3), 1024), 14336); // Llama 3 8B
    }

    #[test]
    fn hugging_face_names_are_read() {
        let json = r#"{"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 96, "vocab_size": 100, "rms_norm_eps": 1e-6, "max_position_embeddings": 99,
            "rope_theta": 500000.0, "n_future_tokens": 2}"#;
        let config = Config::from(serde_json::from_str::<WireConfig>(json).unwrap());
        assert_eq!((config.hidden_dim, config.n_kv_heads, config.max_seq_len), (96, 2, 99));
        assert_eq!(config.blocks(), ["layers.0", "layers.1", "extra_heads.0"]);
    }
}
