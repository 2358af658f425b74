#!/usr/bin/env python3
"""Load a synthetic 2 GB checkpoint, and set reading its bytes and torch.load beside it.

    python3 benches/loading.py          # weights in f32, and in bf16

Each figure is the best of three, taken in turn, each in a process of its own; the file is in the page cache. It fails
if loading takes more memory than 1.1 times the weights, which are kept as they are stored, or for f32 longer than 1.3
times reading the file into memory (bf16 has twice the numbers to put in order, and takes up to 1.7 times). The files are
made on the first run, in target/loading, as is a virtual environment with PyTorch, ~/.cache/passk-venvs/checkpoints.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "target/loading"
VENV = Path.home() / ".cache/passk-venvs/checkpoints"
PYTHON = VENV / "bin/python"
RUNS = 3

MAKE = """
import json, sys, torch
path, dtype, layers = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
dim, hidden, vocab = 2048, 5632, 32000
torch.manual_seed(0)
weight = lambda out, width: (torch.randn(out, width) / width**0.5).to(dtype)
state = {"tok_embeddings.weight": weight(vocab, dim), "norm.weight": torch.ones(dim), "output.weight": weight(vocab, dim)}
for layer in range(layers):
    name = f"layers.{layer}."
    state |= {f"{name}attention.w{part}.weight": weight(dim, dim) for part in "qkvo"}
    state |= {f"{name}feed_forward.w{part}.weight": weight(hidden, dim) for part in "13"}
    state |= {f"{name}feed_forward.w2.weight": weight(dim, hidden)}
    state |= {f"{name}{part}_norm.weight": torch.ones(dim) for part in ("attention", "ffn")}
torch.save({"model_state_dict": state, "epoch": 1}, path)
"""

TORCH = """
import resource, sys, time, torch
begun = time.perf_counter()
torch.load(sys.argv[1], map_location="cpu", weights_only=True)
print('{"seconds": %f, "peak": %d}' % (time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""


def prepare(dtype: str, layers: int) -> Path:
    """The checkpoint, and model/configs/params.json beside it."""
    folder = FOLDER / dtype
    checkpoint = folder / "checkpoint_best.pt"
    if not checkpoint.exists():
        configs = folder / "model/configs"
        configs.mkdir(parents=True, exist_ok=True)
        shape = dict(dim=2048, n_layers=layers, n_heads=16, vocab_size=32000, multiple_of=256, max_seq_len=2048)
        (configs / "params.json").write_text(json.dumps(shape))
        aside = folder / "part.pt"
        subprocess.run([PYTHON, "-c", MAKE, aside, dtype, str(layers)], check=True)
        aside.rename(checkpoint)
    return checkpoint


def run(*command) -> dict:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def build() -> str:
    command = ["cargo", "bench", "--quiet", "--bench", "loading", "--no-run", "--message-format", "json"]
    command += os.environ.get("PASSK_BENCH_CARGO", "").split()
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    made = [json.loads(line) for line in said.splitlines()]
    return next(m["executable"] for m in made if m.get("executable") and m["target"]["name"] == "loading")


def compare(dtype: str, checkpoint: Path, bench: str) -> bool:
    ways = {
        "read": [bench, checkpoint],
        "passk": [bench, checkpoint, checkpoint.parent / "model"],
        "torch.load": [PYTHON, "-c", TORCH, checkpoint],
    }
    checkpoint.read_bytes()  # into the page cache
    runs = [{name: run(*command) for name, command in ways.items()} for _ in range(RUNS)]
    best = {name: min(r[name]["seconds"] for r in runs) for name in ways}
    size, weights = checkpoint.stat().st_size, runs[0]["passk"]["weights"]
    peak = {name: max(r[name].get("peak", 0) for r in runs) for name in ways}
    print(f"\n{dtype}: a file of {size / 1e9:.2f} GB, {weights / 1e9:.2f} GB of weights")
    print(f"  read        {best['read']:6.2f} s")
    print(f"  passk       {best['passk']:6.2f} s   {best['passk'] / best['read']:5.2f} x reading   peak {peak['passk'] / weights:.3f} x the weights")
    print(f"  torch.load  {best['torch.load']:6.2f} s   {best['torch.load'] / best['read']:5.2f} x reading   peak {peak['torch.load'] / size:.3f} x the file")
    return peak["passk"] <= 1.1 * weights and (dtype != "float32" or best["passk"] <= 1.3 * best["read"])


def main():
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "torch", "numpy"], check=True)
    bench = build()
    held = [compare(dtype, prepare(dtype, layers), bench) for dtype, layers in (("float32", 8), ("bfloat16", 17))]
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
