//! The command line for those who want no test harness around an evaluation.
#![allow(clippy::print_stdout)] // what `fetch` prints is its result

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use passk::args::{EvaluateArgs, Settings, with_twins};
use passk::bench;
use passk::checkpoint::{Checkpoint, TensorInfo};
use passk::compare::{self, Choice, Comparison};
use passk::dataset::{Fetched, Fetcher, Progress};
use passk::jail;
use passk::model::device::{self, Dtype};
use passk::report::{chart, table};
use passk::runner::{self, Selection};
use passk::suite;
use passk::track::{self, Outcome, Server};

/// Evaluates code-generation checkpoints: pass@k for HumanEval-like benchmarks
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)] // one value, parsed once
enum Command {
    /// Sample, judge and record, with progress on stderr
    Evaluate {
        /// The benchmark
        #[arg(long, value_name = "NAME")]
        dataset: String,
        #[command(flatten)]
        evaluate: EvaluateArgs,
        /// Only sample: what is sampled lies in the run's folder until the same command judges it
        #[arg(long)]
        sample_only: bool,
        /// Only problems whose names contain one of these; a complete task id is exact
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// Leave out problems whose names contain this; may be given several times
        #[arg(long, value_name = "FILTER")]
        skip: Vec<String>,
        /// Match filters exactly rather than by substring
        #[arg(long)]
        exact: bool,
    },
    /// Send the runs that MLflow (MLFLOW_TRACKING_URI) does not have yet; twice is harmless
    Sync {
        /// Whose runs
        #[arg(long, value_name = "DIR", default_value = "storage")]
        storage: PathBuf,
    },
    /// Compare runs: tables on stdout, and CSV, Markdown and a chart in files
    Compare(CompareArgs),
    /// Write report.html: scores, charts, and every problem with its completions
    Report(CompareArgs),
    /// Show what a checkpoint holds, without loading its weights
    Inspect {
        /// A .pt or .safetensors file, or a model folder
        checkpoint: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try which levels of isolation hold on this machine, and say why the others do not
    Jail {
        /// How the interpreter is started
        #[arg(long, value_name = "HOW", value_enum, default_value = "warm")]
        python_start: jail::Start,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure sampling on a GPU, and check there what can be checked nowhere else
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Download a dataset from its publisher, or from PASSK_MIRROR (a folder or URL)
    Fetch {
        /// The dataset, or `all`
        name: String,
        /// Where it goes
        #[arg(long, value_name = "DIR", default_value = "storage")]
        storage: PathBuf,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Agreement with the CPU, one row one result, replaying, and HumanEval × 20 with random weights of a 6.7 B model
    Gpu {
        /// Number of the CUDA device
        #[arg(long, value_name = "N", default_value_t = 0)]
        device: usize,
        /// Type of the large model's weights
        #[arg(long, value_name = "TYPE", value_enum, default_value = "bf16")]
        dtype: Dtype,
        /// Lengths of the completions
        #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,200,512")]
        lengths: Vec<usize>,
        /// Sequences at once, at most
        #[arg(long, value_name = "N", default_value_t = 1024)]
        batch: usize,
        /// Where HumanEval and the micro model lie
        #[arg(long, value_name = "DIR", default_value = "storage")]
        storage: PathBuf,
        /// Where the result goes
        #[arg(long, value_name = "PATH", default_value = "storage/bench/gpu.json")]
        json: PathBuf,
    },
}

/// Which runs are looked at together.
#[derive(clap::Args)]
struct CompareArgs {
    /// Labels, run ids or run folders [default: the best checkpoint of every pipeline]
    #[arg(value_name = "LABEL|RUN")]
    names: Vec<String>,
    /// Only runs on this dataset
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Compare runs that were not measured alike, too, and mark it
    #[arg(long)]
    unlike: bool,
    /// Take the runs from MLflow (MLFLOW_TRACKING_URI) instead of storage/runs
    #[arg(long)]
    mlflow: bool,
    /// The MLflow experiment
    #[arg(long, value_name = "NAME", requires = "mlflow")]
    experiment: Option<String>,
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = "storage/reports")]
    output_dir: PathBuf,
    /// Whose runs
    #[arg(long, value_name = "DIR", default_value = "storage")]
    storage: PathBuf,
}

fn main() -> ExitCode {
    jail::host();
    let argv: Vec<_> = std::env::args_os().collect();
    let command = Cli::command()
        .mut_subcommand("evaluate", |command| with_twins(command, &argv))
        .mut_subcommand("fetch", |command| with_twins(command, &argv))
        .mut_subcommand("sync", |command| with_twins(command, &argv));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let done = match cli.command {
        Command::Evaluate { dataset, evaluate, sample_only, filter, skip, exact } => {
            self::evaluate(&dataset, evaluate, sample_only, &Selection { filters: filter, skip, exact })
        }
        Command::Compare(args) => compare(&args),
        Command::Report(args) => report(&args),
        Command::Inspect { checkpoint, json } => inspect(&checkpoint, json),
        Command::Sync { storage } => sync(&storage),
        Command::Jail { python_start, json } => jail(python_start, json),
        Command::Fetch { name, storage } => fetch(&name, &storage),
        Command::Bench { what: Bench::Gpu { device, dtype, lengths, batch, storage, json } } => {
            bench_gpu(device, dtype, lengths, batch, &storage, &json)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn evaluate(dataset: &str, args: EvaluateArgs, sample_only: bool, selection: &Selection) -> Result<ExitCode> {
    let Some(suite) = suite::SUITES.iter().find(|suite| suite.name() == dataset) else {
        let known: Vec<&str> = suite::SUITES.iter().map(|suite| suite.name()).collect();
        bail!("unknown dataset `{dataset}`: there are {}", known.join(", "));
    };
    Ok(runner::evaluate(*suite, Settings { sample_only, ..args.resolve()? }, selection)?)
}

fn bench_gpu(
    ordinal: usize,
    dtype: Dtype,
    lengths: Vec<usize>,
    batch: usize,
    storage: &Path,
    json: &Path,
) -> Result<ExitCode> {
    let setup = bench::Setup {
        device: device::open(ordinal)?,
        kind: device::kind(ordinal)?,
        dtypes: vec![Dtype::F32, Dtype::Bf16, Dtype::F16],
        large: bench::large(),
        dtype,
        steps: vec![1, 16, 64, 256],
        lengths,
        batch,
        samples: 20,
    };
    let outcome = bench::gpu(&setup, storage, &mut |line| eprintln!("{line}"))?;
    if let Some(folder) = json.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    }
    let text = format!("{}\n", serde_json::to_string_pretty(&outcome)?);
    std::fs::write(json, text).with_context(|| format!("failed to write `{}`", json.display()))?;
    print(&format!("{}\n", json.display()))?;
    Ok(if outcome.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn jail(start: jail::Start, json: bool) -> Result<ExitCode> {
    let survey = jail::survey(&jail::Python::find()?, start)?;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&survey)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let python = &survey.python;
    let mut text = format!("python      {} {} ({start})\n", python.path.display(), python.version);
    for level in &survey.levels {
        let name = level.level.to_string();
        text += &match level.holds {
            true => format!(
                "{name:<12}holds: {} canaries held\n            {}\n",
                level.score(),
                level.mechanisms.join(", ")
            ),
            false => format!("{name:<12}does not hold: {}\n", level.missing.join(", ")),
        };
    }
    text += "none        needs --isolation none --i-understand-that-generated-code-runs-as-me\n";
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(name: &str, storage: &Path) -> Result<ExitCode> {
    let wanted: Vec<_> = suite::SOURCES.iter().filter(|source| name == "all" || source.name == name).collect();
    if wanted.is_empty() {
        let known: Vec<&str> = suite::SOURCES.iter().map(|source| source.name).collect();
        bail!("unknown dataset `{name}`: there are {}, all", known.join(", "));
    }
    let mirror = std::env::var("PASSK_MIRROR").ok().filter(|mirror| !mirror.is_empty());
    let fetcher = Fetcher { mirror, ..Fetcher::default() };
    let mut code = ExitCode::SUCCESS;
    for source in &wanted {
        let mut bar = Bar::new();
        let fetched = fetcher.fetch(source, storage, &mut |progress| bar.draw(progress));
        bar.clear();
        match fetched {
            Ok(Fetched { path, rows, sha256, pinned, .. }) => {
                let unpinned = format!("; no digest is pinned for this file, its sha256 is {sha256}");
                let unpinned = if pinned { "" } else { &unpinned };
                print(&format!("{}: {rows} tasks in {}{unpinned}\n", source.name, path.display()))?;
            }
            // Of all, one that cannot be had keeps nobody from the others.
            Err(error) if wanted.len() > 1 => {
                eprintln!("error: {}: {error}", source.name);
                code = ExitCode::from(2);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(code)
}

/// A line on stderr that shows how far a download is, where a terminal shows it.
struct Bar {
    shown: bool,
    drawn: std::time::Instant,
}

impl Bar {
    fn new() -> Bar {
        Bar { shown: std::io::stderr().is_terminal(), drawn: std::time::Instant::now() }
    }

    fn draw(&mut self, Progress { file, bytes, of }: Progress) {
        let often = self.drawn.elapsed() < std::time::Duration::from_millis(100) && of.is_none_or(|of| bytes < of);
        if !self.shown || often {
            return;
        }
        self.drawn = std::time::Instant::now();
        let mega = |bytes: u64| bytes as f64 / 1e6;
        // A line that a narrow terminal breaks in two cannot be drawn over.
        let columns = width(std::io::stderr());
        let line = match of {
            Some(of) => {
                let words = format!("{:.1} of {:.1} MB", mega(bytes), mega(of));
                let room = columns.saturating_sub(file.chars().count() + words.len() + 3);
                let room = room.min(30) as u64;
                let done = (bytes * room).checked_div(of).unwrap_or(room).min(room);
                let (done, rest) = ("█".repeat(done as usize), "·".repeat((room - done) as usize));
                format!("{file} {done}{rest} {words}")
            }
            None => format!("{file} {:.1} MB", mega(bytes)),
        };
        let line: String = line.chars().take(columns.saturating_sub(1)).collect();
        let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn sync(storage: &Path) -> Result<ExitCode> {
    let Some(server) = Server::from_env()? else {
        bail!("no MLflow server is named: set MLFLOW_TRACKING_URI to its http:// or https:// address");
    };
    let (mut sent, mut there, mut kept) = (0, 0, 0);
    track::sync(&storage.join("runs"), &server, &mut |folder, outcome| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        match outcome {
            Ok(Outcome::Sent(url, remark)) => {
                sent += 1;
                eprintln!("{name}: {url}{}", remark.map(|remark| format!(" ({remark})")).unwrap_or_default());
            }
            Ok(Outcome::There) => there += 1,
            Err(error) => {
                kept += 1;
                eprintln!("{name}: {error}");
            }
        }
    })?;
    eprintln!("{}: {sent} sent, {there} there already, {kept} kept", server.address());
    Ok(if kept == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the runs and compares them; notes go to stderr.
fn comparison(args: &CompareArgs) -> Result<Comparison> {
    let choice = Choice { dataset: args.dataset.clone(), names: args.names.clone() };
    let chosen = if args.mlflow {
        let Some(server) = Server::from_env()? else {
            bail!("--mlflow needs a server: set MLFLOW_TRACKING_URI");
        };
        let folder = tempfile::tempdir()?;
        let server = server.with_experiment(args.experiment.clone());
        let fetched = track::fetch(&server, args.dataset.as_deref(), folder.path())?;
        if fetched.folders.is_empty() {
            let of = args.dataset.as_ref().map(|dataset| format!(" on {dataset}")).unwrap_or_default();
            let why = match fetched.left_out.as_slice() {
                [] => "evaluate with MLFLOW_TRACKING_URI set, or send runs with `passk sync`".to_owned(),
                left_out => format!("left out: {}", left_out.join("; ")),
            };
            bail!("experiment `{}` at {} has no run{of} to compare: {why}", server.experiment(), server.address());
        }
        let mut chosen = compare::choose(folder.path(), &choice)?;
        chosen.notes.extend(fetched.left_out.into_iter().map(|why| format!("left out: {why}")));
        chosen
    } else {
        compare::choose(&args.storage.join("runs"), &choice)?
    };
    let comparison = Comparison::new(chosen, args.unlike)?;
    comparison.notes.iter().for_each(|note| eprintln!("passk: {note}"));
    Ok(comparison)
}

fn compare(args: &CompareArgs) -> Result<ExitCode> {
    let comparison = comparison(args)?;
    let name = format!("comparison_{}", comparison.dataset);
    let files = [
        (format!("{name}.csv"), table::csv(&comparison)?),
        (format!("{name}_pairs.csv"), table::csv_of_pairs(&comparison)?),
        (format!("{name}_problems.csv"), table::csv_of_problems(&comparison)?),
        (format!("{name}.md"), table::markdown(&comparison).into_bytes()),
        (format!("{name}.svg"), chart::svg(&comparison)?.into_bytes()),
    ];
    for (file, bytes) in files {
        write(&args.output_dir.join(file), &bytes)?;
    }
    chart::png(&comparison, &args.output_dir.join(format!("{name}.png")))?;
    print(&table::terminal(&comparison, columns()))?;
    eprintln!(
        "passk: {}/{name}.{{csv,md,svg,png}}, {name}_pairs.csv and {name}_problems.csv",
        args.output_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn report(args: &CompareArgs) -> Result<ExitCode> {
    let comparison = comparison(args)?;
    let path = args.output_dir.join("report.html");
    write(&path, passk::report::html::page(&comparison).as_bytes())?;
    print(&format!("{}\n", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, bytes))
        .with_context(|| format!("failed to write `{}`: choose another place with --output-dir", path.display()))
}

/// Columns of the terminal; `COLUMNS` decides if it is set, and 120 stand for what is no terminal.
fn columns() -> usize {
    width(std::io::stdout()).max(20)
}

fn width(of: impl std::os::fd::AsFd) -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let seen = || rustix::termios::tcgetwinsize(of).ok().map(|size| usize::from(size.ws_col));
    said.or_else(seen).filter(|&columns| columns > 0).unwrap_or(120)
}

/// A reader that has gone away is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn inspect(path: &Path, as_json: bool) -> Result<ExitCode> {
    let checkpoint = Checkpoint::open(path)?;
    let digest = checkpoint.digest(&mut runner::hashing(path))?;
    let text = match as_json {
        true => serde_json::to_string_pretty(&described(&checkpoint, &digest))? + "\n",
        false => shown(&checkpoint, &digest)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What a checkpoint holds, for programs.
fn described(checkpoint: &Checkpoint, digest: &str) -> serde_json::Value {
    let tensor = |(name, tensor): (&String, &TensorInfo)| serde_json::json!({ "name": name, "dtype": tensor.dtype.to_string(), "shape": tensor.shape });
    serde_json::json!({
        "path": checkpoint.path,
        "files": checkpoint.files(),
        "kind": format!("{:?}", checkpoint.kind).to_lowercase(),
        "epoch": checkpoint.epoch,
        "train_metrics": checkpoint.train_metrics,
        "val_metrics": checkpoint.val_metrics,
        "parameters": checkpoint.parameters(),
        "lora": checkpoint.has_lora().then(|| {
            serde_json::json!({ "rank": checkpoint.lora.rank, "alpha": checkpoint.lora.alpha })
        }),
        "blake3": digest,
        "metadata": checkpoint.metadata,
        "config": checkpoint.config,
        "tensors": checkpoint.tensors.iter().map(tensor).collect::<Vec<_>>(),
    })
}

/// The same, for people.
fn shown(checkpoint: &Checkpoint, digest: &str) -> Result<String> {
    let mut text = String::new();
    let mut row = |key: &str, value: String| text += &format!("{key:<12}{value}\n");
    let said = |number: Option<String>| number.unwrap_or_else(|| "not said".into());
    row("path", checkpoint.path.display().to_string());
    if checkpoint.path.is_dir() {
        checkpoint.files().iter().for_each(|file| row("file", file.display().to_string()));
    }
    row("kind", format!("{:?}", checkpoint.kind).to_lowercase());
    row("epoch", checkpoint.epoch.map_or("none".into(), |epoch| epoch.to_string()));
    for (name, value) in checkpoint.train_metrics.iter().chain(&checkpoint.val_metrics) {
        row("metric", format!("{name} {value}"));
    }
    row("parameters", checkpoint.parameters().to_string());
    if checkpoint.has_lora() {
        let (rank, alpha) = (checkpoint.lora.rank.map(|rank| rank.to_string()), checkpoint.lora.alpha);
        row("lora", format!("rank {} · alpha {}", said(rank), said(alpha.map(|alpha| alpha.to_string()))));
    }
    row("blake3", digest.to_owned());
    for (name, value) in &checkpoint.metadata {
        row("metadata", format!("{name} {value}"));
    }
    row("config", serde_json::to_string_pretty(&checkpoint.config)?);
    for (name, tensor) in &checkpoint.tensors {
        row("tensor", format!("{name} {:?} {}", tensor.shape, tensor.dtype));
    }
    Ok(text)
}
