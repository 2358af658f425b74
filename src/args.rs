//! Raw arguments → resolved settings.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};
use thiserror::Error;

use crate::jail::{Isolation, Start};
use crate::model::device::{self, Dtype};
use crate::sampler::Sampling;
use crate::sampler::engine::{Decode, Options, Place};

/// A contradiction that clap cannot see, in one line.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ArgsError(String);

/// What fails a test case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gate {
    /// Any change of the problem's line in the accepted snapshot.
    Exact,
    /// A loss that noise does not explain, of one problem or over all.
    Noise,
    /// Nothing but a failure of the harness itself.
    Off,
}

/// The flags that harness targets and `passk evaluate` share.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Evaluation")]
pub struct EvaluateArgs {
    /// A .pt or .safetensors file, or a model folder; may be given several times
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pipeline", "samples"])]
    pub checkpoint: Vec<PathBuf>,
    /// A model folder as it is, before any fine-tuning
    #[arg(long, value_name = "DIR", conflicts_with_all = ["checkpoint", "pipeline", "samples"])]
    pub base_model: Option<PathBuf>,
    /// Pipelines, each at storage/checkpoints/NAME/checkpoint_best.pt; spaces or commas between names
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', conflicts_with = "samples")]
    pub pipeline: Vec<String>,
    /// With one pipeline: every checkpoint that matches, in epoch order
    #[arg(long, value_name = "GLOB", requires = "pipeline")]
    pub checkpoint_pattern: Option<String>,
    /// Completions already sampled, {"task_id", "completion"} a line; `canonical` for the dataset's own solutions
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
    /// Samples of each problem [default: 20; with --samples FILE as many as it has]
    #[arg(long, value_name = "N")]
    pub num_samples: Option<u32>,
    /// Sampling temperature; 0 is greedy and makes one sample
    #[arg(long, value_name = "F", default_value_t = 0.2, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Mass of the nucleus
    #[arg(long, value_name = "F", default_value_t = 0.95, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Most tokens in a completion
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// Selects the noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How a task becomes a prompt [default: the suite's first]
    #[arg(long, value_name = "NAME")]
    pub prompt_format: Option<String>,
    /// Which part of the dataset [default: the suite's first]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// A list of stops by name, of those that the suite has beside its own
    #[arg(long, value_name = "NAME")]
    pub stops: Option<String>,
    /// HumanEval+ or MBPP+: base and plus tests, as a second bar
    #[arg(long, value_parser = clap::builder::FalseyValueParser::new())]
    pub plus: bool,
    /// Sequences sampled at once, at most [default: as many as suit the device]; never changes a sample
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Where the model runs: auto, cpu, cuda:N or metal (mps); several, e.g. cuda:0,1 or cpu,cpu, share the problems
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', default_value = "auto")]
    pub device: Vec<String>,
    /// Type of weights and activations: f32, bf16 or f16 [default: the checkpoint's on a GPU, f32 on the CPU]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub dtype: Option<Dtype>,
    /// One token a forward, drafts by the model's extra heads, or what is measured to be faster; never changes a sample
    #[arg(long, value_name = "WAY", value_enum, default_value_t = Decode::Auto)]
    pub decode: Decode,
    /// How programs are kept from the machine, see `passk jail` [default: the best level that holds]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub isolation: Option<Isolation>,
    /// Agree that at `--isolation none` programs that a model wrote run with your rights
    #[arg(long, value_parser = clap::builder::FalseyValueParser::new())]
    pub i_understand_that_generated_code_runs_as_me: bool,
    /// Fork each program off an interpreter that waits, or start a fresh one for each
    #[arg(long, value_name = "HOW", value_enum, default_value = "warm")]
    pub python_start: Start,
    /// Believe a pass that was seen in one interpreter with its tests, as other harnesses do
    #[arg(long, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_split: bool,
    /// Run exact duplicates of a problem's programs each by itself; never changes a sample
    #[arg(long, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_dedup: bool,
    /// CPU seconds a program may use [default: the suite's]
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<f64>,
    /// Programs judged at once [default: cores]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// The k of pass@k [default: 1,5,10, and 20 from 20 samples on]
    #[arg(long, value_name = "K", value_delimiter = ',')]
    pub k: Vec<u32>,
    /// Names snapshot and run [default: the pipeline's name]
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,
    /// What fails a test case [default: exact where the accepted snapshot has the same settings, else noise]
    #[arg(long, value_name = "GATE", value_enum)]
    pub gate: Option<Gate>,
    /// Show, problem by problem, the difference to the snapshot of another label
    #[arg(long, value_name = "LABEL")]
    pub against: Option<String>,
    /// Model folder, when the checkpoint names none
    #[arg(long, value_name = "DIR")]
    pub model_dir: Option<PathBuf>,
    /// Rank of low-rank changes, when the checkpoint does not say it
    #[arg(long, value_name = "N")]
    pub lora_rank: Option<usize>,
    /// Alpha of low-rank changes, when the checkpoint does not say it
    #[arg(long, value_name = "F")]
    pub lora_alpha: Option<f64>,
    /// Throw away what an earlier invocation of the same run has judged
    #[arg(long, value_parser = clap::builder::FalseyValueParser::new())]
    pub fresh: bool,
    /// At most so many problems, drawn by a hash of their ids
    #[arg(long, value_name = "N")]
    pub max_tasks: Option<usize>,
    /// Tell no MLflow server of it, whatever MLFLOW_TRACKING_URI says
    #[arg(long, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_mlflow: bool,
    /// Checkpoints, datasets and runs
    #[arg(long, value_name = "DIR", default_value = "storage")]
    pub storage: PathBuf,
    /// Write summaries, gates and what moved here too, as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
    /// Write JUnit XML here
    #[arg(long, value_name = "PATH")]
    pub junit: Option<PathBuf>,
}

/// Where completions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contestants {
    /// Nothing was said.
    Unsaid,
    /// Checkpoint files.
    Checkpoints(Vec<PathBuf>),
    /// A model folder as it is.
    BaseModel(PathBuf),
    /// The best checkpoint of each pipeline.
    Pipelines(Vec<String>),
    /// Every matching checkpoint of one pipeline.
    Curve {
        /// The pipeline.
        pipeline: String,
        /// A glob over file names.
        pattern: String,
    },
    /// A file of completions.
    Samples(PathBuf),
    /// The dataset's own solutions.
    Canonical,
}

/// Everything a run is asked to do, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is evaluated.
    pub contestants: Contestants,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Samples of each problem; `None` when it was not said.
    pub num_samples: Option<u32>,
    /// Asked-for prompt format.
    pub prompt_format: Option<String>,
    /// Asked-for part of the dataset.
    pub split: Option<String>,
    /// Asked-for list of stops.
    pub stops: Option<String>,
    /// With the plus tests.
    pub plus: bool,
    /// Sequences at once, way of decoding, lanes.
    pub engine: Options,
    /// Where the model runs.
    pub place: Place,
    /// Asked-for level of isolation.
    pub isolation: Option<Isolation>,
    /// That `none` is agreed to.
    pub consent: bool,
    /// How interpreters are started.
    pub python_start: Start,
    /// Whether passes are judged once more apart from their tests.
    pub split_judging: bool,
    /// Whether exact duplicates are run once.
    pub dedup: bool,
    /// Asked-for limit of CPU time.
    pub timeout: Option<Duration>,
    /// Programs at once.
    pub jobs: usize,
    /// Asked-for k; empty for the default.
    pub k: Vec<u32>,
    /// Asked-for label.
    pub label: Option<String>,
    /// Asked-for gate.
    pub gate: Option<Gate>,
    /// Whose snapshot to show the difference to.
    pub against: Option<String>,
    /// Asked-for model folder.
    pub model_dir: Option<PathBuf>,
    /// Rank of low-rank changes, for checkpoints that do not say it.
    pub lora_rank: Option<usize>,
    /// Their alpha, for checkpoints that do not say it.
    pub lora_alpha: Option<f64>,
    /// Begin anew.
    pub fresh: bool,
    /// At most so many problems.
    pub max_tasks: Option<usize>,
    /// Whether an MLflow server may be told of it.
    pub mlflow: bool,
    /// The storage root.
    pub storage: PathBuf,
    /// Where the summary goes too.
    pub json: Option<PathBuf>,
    /// Where JUnit XML goes.
    pub junit: Option<PathBuf>,
    /// Sample, and leave judging to a later invocation.
    pub sample_only: bool,
}

impl EvaluateArgs {
    /// Checks what single flags cannot.
    ///
    /// # Errors
    /// A value out of range, or flags that contradict each other.
    pub fn resolve(self) -> Result<Settings, ArgsError> {
        let fail = |message: String| Err(ArgsError(message));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return fail(format!("--temperature is {}: it must be 0 (greedy) or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return fail(format!("--top-p is {}: it must be above 0 and at most 1", self.top_p));
        }
        for (flag, value) in [
            ("num-samples", self.num_samples.map_or(1, |n| n as usize)),
            ("max-tokens", self.max_tokens),
            ("batch", self.batch.unwrap_or(1)),
            ("jobs", self.jobs.unwrap_or(1)),
            ("max-tasks", self.max_tasks.unwrap_or(1)),
            ("lora-rank", self.lora_rank.unwrap_or(1)),
            ("k", self.k.iter().copied().min().unwrap_or(1) as usize),
        ] {
            if value == 0 {
                return fail(format!("--{flag} is 0: it must be at least 1"));
            }
        }
        if let Some(seconds) = self.timeout
            && !(seconds > 0.0 && seconds <= 86_400.0)
        {
            return fail(format!("--timeout is {seconds}: it must be above 0 and at most a day of seconds"));
        }
        if let Some(alpha) = self.lora_alpha.filter(|alpha| !alpha.is_finite()) {
            return fail(format!("--lora-alpha is {alpha}: it must be a number"));
        }
        for label in self.label.iter().chain(&self.against) {
            check_label(label)?;
        }
        let (engine, place) = engine(self.batch, self.decode, &self.device, self.dtype)?;
        let greedy = self.temperature == 0.0;
        let num_samples = if greedy && self.samples.is_none() { Some(1) } else { self.num_samples };
        Ok(Settings {
            contestants: self.contestants()?,
            sampling: Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                max_tokens: self.max_tokens,
                seed: self.seed,
            },
            num_samples,
            prompt_format: self.prompt_format,
            split: self.split,
            stops: self.stops,
            plus: self.plus,
            engine,
            place,
            isolation: self.isolation,
            consent: self.i_understand_that_generated_code_runs_as_me,
            python_start: self.python_start,
            split_judging: !self.no_split,
            dedup: !self.no_dedup,
            timeout: self.timeout.map(Duration::from_secs_f64),
            jobs: self.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1),
            k: self.k,
            label: self.label,
            gate: self.gate,
            against: self.against,
            model_dir: self.model_dir,
            lora_rank: self.lora_rank,
            lora_alpha: self.lora_alpha,
            fresh: self.fresh,
            max_tasks: self.max_tasks,
            mlflow: !self.no_mlflow,
            storage: self.storage,
            json: self.json,
            junit: self.junit,
            sample_only: false,
        })
    }

    fn contestants(&self) -> Result<Contestants, ArgsError> {
        if let Some(folder) = &self.base_model {
            return Ok(Contestants::BaseModel(folder.clone()));
        }
        let contestants = match (&self.samples, &self.checkpoint_pattern, self.pipeline.as_slice()) {
            (Some(file), ..) if file.as_os_str() == "canonical" => Contestants::Canonical,
            (Some(file), ..) => Contestants::Samples(file.clone()),
            (_, Some(pattern), [pipeline]) => {
                Contestants::Curve { pipeline: pipeline.clone(), pattern: pattern.clone() }
            }
            (_, Some(_), _) => {
                return Err(ArgsError("--checkpoint-pattern goes with one pipeline, not several".into()));
            }
            (_, None, []) if self.checkpoint.is_empty() => Contestants::Unsaid,
            (_, None, []) => Contestants::Checkpoints(self.checkpoint.clone()),
            // A shell splits at spaces, an environment twin does not.
            (_, None, names) => Contestants::Pipelines(
                names.iter().flat_map(|name| name.split_whitespace()).map(str::to_owned).collect(),
            ),
        };
        let several = self.checkpoint_pattern.is_some() || self.pipeline.len() > 1 || self.checkpoint.len() > 1;
        match self.label.is_some() && several {
            true => Err(ArgsError("--label names one run: give it with one checkpoint".into())),
            false => Ok(contestants),
        }
    }
}

/// How and where the engine works.
fn engine(
    batch: Option<usize>,
    decode: Decode,
    devices: &[String],
    dtype: Option<Dtype>,
) -> Result<(Options, Place), ArgsError> {
    let (mut ordinals, mut metal) = (Vec::new(), false);
    for device in devices {
        let (kind, number) = device.split_once(':').map_or((device.as_str(), None), |(kind, n)| (kind, Some(n)));
        let bad = |trouble: &str| Err(ArgsError(format!("--device {device}: {trouble}")));
        match (kind, number) {
            ("auto" | "cpu", None) => {}
            ("cuda", None) => ordinals.push(0),
            ("cuda", Some(number)) => match number.parse() {
                Ok(number) => ordinals.push(number),
                Err(_) => return bad("a number follows the colon, as in cuda:0"),
            },
            // cuda:0,1
            _ if !ordinals.is_empty() && device.parse::<usize>().is_ok() => ordinals.extend(device.parse::<usize>()),
            ("metal" | "mps", None) => metal = true,
            _ => return bad("there is no such device; use auto, cpu, cuda:N or metal"),
        }
    }
    let bad = |trouble: &str| Err(ArgsError(format!("--device {}: {trouble}", devices.join(","))));
    if !ordinals.is_empty() && !device::BUILT {
        return bad("this passk was built without CUDA; build it with --features cuda, or use cpu");
    }
    if metal && !device::METAL_BUILT {
        return bad("this passk was built without Metal; build it on macOS with --features metal, or use cpu");
    }
    if metal && devices.len() > 1 {
        return bad("there is one Apple GPU, and it shares a run with nothing else");
    }
    let named_cpu = devices.iter().any(|device| device == "cpu");
    if named_cpu && !ordinals.is_empty() {
        return bad("CPU and GPU do not share a run");
    }
    if ordinals.is_empty() && !metal && !named_cpu && devices.len() == 1 && device::count() > 0 {
        ordinals.push(0);
    }
    let place = match (ordinals.is_empty(), dtype) {
        (_, dtype) if metal => Place::Metal { dtype },
        (false, dtype) => Place::Cuda { ordinals, dtype },
        (true, None | Some(Dtype::F32)) => Place::Cpu,
        (true, Some(dtype)) => {
            return Err(ArgsError(format!(
                "--dtype {dtype}: the CPU computes in f32, and weights of {dtype} are widened; leave it out"
            )));
        }
    };
    let suits = if matches!(place, Place::Cuda { .. }) { 256 } else { 64 };
    let lanes = (place == Place::Cpu && devices.len() > 1).then_some(devices.len());
    Ok((Options { batch: batch.unwrap_or(suits), decode, lanes }, place))
}

/// A label is a folder's name and the first part of test names.
pub fn check_label(label: &str) -> Result<(), ArgsError> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !label.is_empty() && !label.starts_with('.') && label.chars().all(fits) {
        true => Ok(()),
        false => Err(ArgsError(format!(
            "label `{label}` must be letters, digits, `-`, `_` and `.`, and not begin with a dot: choose one with --label"
        ))),
    }
}

/// Gives every flag of [`EvaluateArgs`] its environment twin: `--num-samples` is `PASSK_NUM_SAMPLES`.
///
/// An empty variable counts as unset, and a source of completions that stands on the command line switches the twins
/// of the others off.
pub fn with_twins(command: Command, argv: &[OsString]) -> Command {
    const SOURCES: [&str; 5] = ["checkpoint", "base_model", "pipeline", "checkpoint_pattern", "samples"];
    let is_said = |source: &str| {
        let flag = format!("--{}", source.replace('_', "-"));
        argv.iter().filter_map(|arg| arg.to_str()).any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")))
    };
    let source_said = SOURCES.iter().any(|source| is_said(source));
    let flags = EvaluateArgs::augment_args(Command::new("flags"));
    let ids: Vec<String> =
        flags.get_arguments().map(|arg| arg.get_id().to_string()).chain(["dataset".to_owned()]).collect();
    command.mut_args(|arg| {
        let id = arg.get_id().to_string();
        let twin = format!("PASSK_{}", id.to_uppercase());
        let unset = std::env::var_os(&twin).is_none_or(|value| value.is_empty());
        let off = source_said && SOURCES.contains(&id.as_str());
        if !ids.contains(&id) || unset || off { arg } else { arg.env(twin) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    fn resolve(args: &str) -> Result<Settings, String> {
        let command = EvaluateArgs::augment_args(Command::new("t").no_binary_name(true));
        let matches = command.try_get_matches_from(args.split_whitespace()).map_err(|error| error.to_string())?;
        let args = EvaluateArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        args.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn pipelines_by_spaces_or_commas() {
        let both = Contestants::Pipelines(vec!["baseline".into(), "rho1".into()]);
        assert_eq!(resolve("--pipeline baseline rho1").unwrap().contestants, both);
        assert_eq!(resolve("--pipeline baseline,rho1 --seed 1").unwrap().contestants, both);
        assert_eq!(resolve("").unwrap().contestants, Contestants::Unsaid);
        assert_eq!(resolve("--base-model m").unwrap().contestants, Contestants::BaseModel("m".into()));
        assert_eq!(resolve("--samples canonical").unwrap().contestants, Contestants::Canonical);
    }

    #[test]
    fn greedy_makes_one_sample() {
        assert_eq!(resolve("--temperature 0 --num-samples 20").unwrap().num_samples, Some(1));
        assert_eq!(resolve("--num-samples 20").unwrap().num_samples, Some(20));
    }

    #[test]
    fn several_devices_are_lanes() {
        assert_eq!(resolve("").unwrap().engine.lanes, None);
        assert_eq!(resolve("--device cpu").unwrap().engine.lanes, None);
        assert_eq!(resolve("--device cpu,cpu").unwrap().engine.lanes, Some(2));
    }

    #[test]
    fn bad_values_are_named() {
        let check = |args: &str, expected: &str| {
            let error = resolve(args).unwrap_err();
            assert!(error.contains(expected), "`{args}`: `{error}` lacks `{expected}`");
        };
        check("--temperature -1", "--temperature is -1");
        check("--temperature nan", "--temperature is NaN");
        check("--top-p 0", "--top-p is 0");
        check("--top-p 1.01", "--top-p is 1.01");
        check("--num-samples 0", "--num-samples is 0");
        check("--k 1,0", "--k is 0");
        check("--timeout 0", "--timeout is 0");
        check("--label a/b", "label `a/b`");
        check("--label x --pipeline a b", "--label names one run");
        check("--pipeline a b --checkpoint-pattern *.pt", "one pipeline");
        check("--checkpoint a.pt --samples canonical", "cannot be used with");
        check("--device cuda:x", "--device cuda:x: a number follows the colon");
        if !device::BUILT {
            check("--device cuda:0,1", "--device cuda:0,1: this passk was built without CUDA");
        }
        if !device::METAL_BUILT {
            check("--device metal", "--device metal: this passk was built without Metal; build it on macOS with");
            check("--device mps", "--device mps: this passk was built without Metal");
        }
        check("--device metal:1", "--device metal:1: there is no such device");
        check("--device cpu,tpu", "--device tpu: there is no such device");
        check("--dtype bf16", "the CPU computes in f32");
        check("--checkpoint a.pt --base-model m", "cannot be used with");
        check("--lora-rank 0", "--lora-rank is 0");
        check("--lora-alpha inf", "--lora-alpha is inf");
        check("--gate sometimes", "possible values: exact, noise, off");
    }
}
