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
    /// How the rotary frequencies are stretched for sequences longer than those first trained on.
    pub rope_scaling: RopeScaling,
    /// The output matrix is the embedding.
    pub tied_output: bool,
    /// Longest sequence, prompt included.
    pub max_seq_len: usize,
}

/// Where a model folder may keep its shape: in folders of their own, or all files beside each other as Hugging Face
/// and Meta publish them.
pub const CONFIG_FILES: [&str; 4] = ["configs/params.json", "configs/config.json", "params.json", "config.json"];

/// A change of the rotary frequencies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    #[default]
    None,
    /// Every frequency divided by `factor` (Chen et al. 2023, arXiv 2306.15595).
    Linear {
        /// How many times longer sequences became.
        factor: f32,
    },
    /// Llama 3.1's: low frequencies divided by `factor`, high ones kept, those between interpolated.
    Llama3 {
        /// How many times longer sequences became.
        factor: f32,
        /// A wave that fits fewer times than this into the old context is low.
        low_freq_factor: f32,
        /// A wave that fits more often than this into the old context is high.
        high_freq_factor: f32,
        /// The old context, in positions.
        original_max_seq_len: f32,
    },
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
    /// The folder has none of [`CONFIG_FILES`].
    #[error("no {} in model folder `{}`: the number of attention heads cannot be told from the weights; give a folder that has one with --model-dir", CONFIG_FILES.join(", "), .0.display())]
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

/// Keys of both kinds of file; the aliases are Hugging Face's. Not candle-transformers' `LlamaConfig`, which reads Hugging
/// Face's names alone and takes a base of 10,000 where transformers 5 writes `rope_parameters`; nor does it see the keys
/// that make a model another one than it would compute (biases, windows, linear scaling).
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
    rope_theta: Option<f32>,
    #[serde(alias = "max_position_embeddings", default = "default_max_seq_len")]
    max_seq_len: usize,
    #[serde(default)]
    tie_word_embeddings: bool,

    /// Hugging Face's; transformers 5 writes `rope_parameters`, with the base inside.
    #[serde(alias = "rope_parameters")]
    rope_scaling: Option<WireRope>,
    /// Meta's, of Llama 3.1 and later.
    #[serde(default)]
    use_scaled_rope: bool,
    rope_scaling_factor: Option<f32>,
    rope_high_freq_factor: Option<f32>,

    // What would make it another model than a LLaMA.
    model_type: Option<String>,
    hidden_act: Option<String>,
    head_dim: Option<usize>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    sliding_window: Option<usize>,
    quantization_config: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct WireRope {
    /// Before transformers 4.45 it was `type`.
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
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
const DEFAULT_ROPE_THETA: f32 = 10_000.0;
fn default_max_seq_len() -> usize {
    2048
}

impl Config {
    /// Reads the shape from a model folder: the first of [`CONFIG_FILES`] that it has.
    ///
    /// # Errors
    /// There is none, it cannot be read, its numbers contradict each other, or they are not a LLaMA's.
    pub fn from_folder(folder: &Path) -> Result<Config, ConfigError> {
        let path = CONFIG_FILES
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
            .ok_or_else(|| ConfigError::NoConfig(folder.to_owned()))?;
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let wire: WireConfig =
            serde_json::from_str(&text).map_err(|source| ConfigError::Parse { path: path.clone(), source })?;
        let checked = Config::try_from(wire).and_then(|config| match config.trouble() {
            Some(trouble) => Err(trouble.to_owned()),
            None => Ok(config),
        });
        checked.map_err(|trouble| ConfigError::Shape { path, trouble })
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

    /// Angle from one position to the next of each pair of a head, in radians: head_dim / 2 values, scaling included.
    ///
    /// θ^(−2i / head_dim) (Su et al. 2021, arXiv 2104.09864, section 3.2.2), in f32 as the trainers compute it. The
    /// scaling is that of Llama 3.1's reference code (`apply_scaling` in llama_models/llama3/model.py).
    pub fn rotary_frequencies(&self) -> Vec<f32> {
        let plain = (0..self.head_dim() / 2).map(|pair| {
            let exponent = (2 * pair) as f32 / self.head_dim() as f32;
            1.0 / libm::powf(self.rope_theta, exponent)
        });
        plain.map(|frequency| self.rope_scaling.apply(frequency)).collect()
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

impl RopeScaling {
    fn apply(self, frequency: f32) -> f32 {
        match self {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_seq_len } => {
                // How often the wave fits into the old context.
                let waves = original_max_seq_len / (2.0 * std::f32::consts::PI / frequency);
                if waves > high_freq_factor {
                    frequency
                } else if waves < low_freq_factor {
                    frequency / factor
                } else {
                    let smooth = (waves - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

impl TryFrom<WireConfig> for Config {
    type Error = String;

    fn try_from(wire: WireConfig) -> Result<Config, String> {
        wire.check()?;
        let rope = wire.rope_scaling.as_ref();
        Ok(Config {
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
            rope_theta: wire.rope_theta.or(rope.and_then(|rope| rope.rope_theta)).unwrap_or(DEFAULT_ROPE_THETA),
            rope_scaling: match rope {
                Some(rope) => rope.scaling(wire.max_seq_len)?,
                None if wire.use_scaled_rope => RopeScaling::Llama3 {
                    // The constants of Meta's reference code.
                    factor: wire.rope_scaling_factor.unwrap_or(8.0),
                    low_freq_factor: 1.0,
                    high_freq_factor: wire.rope_high_freq_factor.unwrap_or(4.0),
                    original_max_seq_len: 8192.0,
                },
                None => RopeScaling::None,
            },
            tied_output: wire.tie_word_embeddings,
            max_seq_len: wire.max_seq_len,
        })
    }
}

impl WireConfig {
    /// Refuses what would be computed in another way than a LLaMA: a wrong logit is worse than none.
    fn check(&self) -> Result<(), String> {
        let is_llama = |kind: &String| matches!(kind.as_str(), "llama" | "mistral");
        if let Some(kind) = self.model_type.as_ref().filter(|kind| !is_llama(kind)) {
            return Err(format!("model_type is {kind}: passk runs models of the LLaMA family (llama, mistral)"));
        }
        if let Some(act) = self.hidden_act.as_ref().filter(|act| *act != "silu") {
            return Err(format!("hidden_act is {act}: a LLaMA's is silu"));
        }
        if self.attention_bias || self.mlp_bias {
            return Err("it has biases (attention_bias, mlp_bias): a LLaMA has none".into());
        }
        if self.quantization_config.is_some() {
            return Err("its weights are quantised (quantization_config): save them as f32, f16 or bf16".into());
        }
        if let Some(window) = self.sliding_window.filter(|&window| window < self.max_seq_len) {
            return Err(format!("sliding_window is {window}: passk attends to all positions, up to max_seq_len"));
        }
        if let Some(head_dim) = self.head_dim.filter(|&head_dim| head_dim.checked_mul(self.n_heads) != Some(self.dim)) {
            return Err(format!("head_dim is {head_dim}: passk needs hidden_size / num_attention_heads"));
        }
        Ok(())
    }
}

impl WireRope {
    fn scaling(&self, max_seq_len: usize) -> Result<RopeScaling, String> {
        let number = |name: &str, value: Option<f32>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(format!("rope_scaling has {name} {value}: it must be above 0")),
            None => Err(format!("rope_scaling has no {name}")),
        };
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: number("factor", self.factor)? }),
            Some("llama3") => {
                let original = self.original_max_position_embeddings.unwrap_or(max_seq_len as f32);
                let scaling = (
                    number("factor", self.factor)?,
                    number("low_freq_factor", self.low_freq_factor)?,
                    number("high_freq_factor", self.high_freq_factor)?,
                    number("original_max_position_embeddings", Some(original))?,
                );
                let (factor, low_freq_factor, high_freq_factor, original_max_seq_len) = scaling;
                if high_freq_factor <= low_freq_factor {
                    return Err("rope_scaling has a high_freq_factor that is not above its low_freq_factor".into());
                }
                Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_seq_len })
            }
            Some(other) => Err(format!("rope scaling `{other}` is none of those passk knows: default, linear, llama3")),
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
        let config = parse(json).unwrap();
        assert_eq!((config.hidden_dim, config.n_kv_heads, config.max_seq_len), (96, 2, 99));
        assert_eq!(config.blocks(), ["layers.0", "layers.1", "extra_heads.0"]);
    }

    fn parse(json: &str) -> Result<Config, String> {
        Config::try_from(serde_json::from_str::<WireConfig>(json).map_err(|error| error.to_string())?)
    }

    /// A small model with these keys beside the necessary ones.
    fn with(keys: &str) -> Result<Config, String> {
        parse(&format!(
            r#"{{"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 9, "intermediate_size": 96,
            "max_position_embeddings": 131072{keys}}}"#
        ))
    }

    #[test]
    fn rope_scaling_is_read_in_every_spelling() {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_seq_len: 8192.0,
        };
        let old = r#", "rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"}"#;
        let new = r#", "rope_parameters": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500000.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"}"#;
        let meta = r#", "rope_theta": 500000.0, "use_scaled_rope": true"#;
        for (keys, expected) in [
            (old, llama3),
            (new, llama3),
            (meta, llama3),
            (r#", "rope_theta": 5e5, "rope_scaling": null"#, RopeScaling::None),
            (r#", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}"#, RopeScaling::None),
            (
                r#", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}"#,
                RopeScaling::Linear { factor: 2.0 },
            ),
        ] {
            let config = with(keys).unwrap();
            assert_eq!((config.rope_scaling, config.rope_theta), (expected, 500_000.0), "{keys}");
        }
    }

    #[test]
    fn rotary_frequencies_are_those_of_transformers() {
        let check = |keys: &str, expected: [f32; 8]| {
            let frequencies = with(keys).unwrap().rotary_frequencies();
            for (ours, theirs) in frequencies.iter().zip(expected) {
                assert!((ours - theirs).abs() <= theirs * 1e-6, "{keys}: {frequencies:?}");
            }
            assert_eq!(frequencies.len(), expected.len());
        };
        // What transformers 5.24 computes of the same configs (`ROPE_INIT_FUNCTIONS`).
        check(
            r#", "rope_theta": 5e5, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"}"#,
            [1.0, 0.19392274, 0.03760603, 0.0072926647, 0.00052484616, 3.428102e-5, 6.64787e-6, 1.2891732e-6],
        );
        check(
            r#", "rope_scaling": {"type": "linear", "factor": 4.0}"#,
            [0.25, 0.07905694, 0.025, 0.007905694, 0.0025, 7.905694e-4, 0.00025, 7.905694e-5],
        );
    }

    #[test]
    fn models_of_other_kinds_are_refused() {
        for (keys, expected) in [
            (r#", "model_type": "gemma""#, "model_type is gemma"),
            (r#", "hidden_act": "gelu""#, "hidden_act is gelu"),
            (r#", "attention_bias": true"#, "it has biases"),
            (r#", "head_dim": 32"#, "head_dim is 32"),
            (r#", "sliding_window": 4096"#, "sliding_window is 4096"),
            (r#", "quantization_config": {}"#, "quantised"),
            (r#", "rope_scaling": {"type": "yarn", "factor": 2.0}"#, "rope scaling `yarn`"),
            (r#", "rope_scaling": {"type": "linear"}"#, "rope_scaling has no factor"),
            (r#", "rope_scaling": {"type": "linear", "factor": 0.0}"#, "must be above 0"),
        ] {
            let error = with(keys).unwrap_err();
            assert!(error.contains(expected), "{keys}: {error}");
        }
        assert!(
            with(r#", "model_type": "llama", "hidden_act": "silu", "head_dim": 16, "sliding_window": null"#).is_ok()
        );
    }
}
