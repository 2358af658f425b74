#!/usr/bin/env python3
"""How well sampling and judging overlap: HumanEval × 20 with a micro checkpoint, each half alone and both together.

    python3 benches/overlap.py [DATASETS]       # a folder with HumanEval.jsonl.gz; default ../shared/datasets

Two ways: with one core for each half, where the whole should take as long as the longer half, and as passk runs by
itself, where either half takes every core there is, so that the processors' time is what bounds it. Beside the ratio
stands the processors' time as a share of what two cores have. Every time is the best of three and has the start in it;
the dataset's self-check is done before.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSK = ROOT / "target/debug/passk"  # the dev profile is optimised
MICRO = ROOT / "storage/micro"


def quietly(*command, environment=None):
    environment = os.environ | (environment or {})
    subprocess.run(list(map(str, command)), check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(*flags, environment=None) -> tuple[float, float]:
    """Seconds of wall and of processor time of one evaluation."""
    spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before, begun = spent(), time.perf_counter()
    quietly(PASSK, "evaluate", "--dataset", "humaneval", "--fresh", *flags, environment=environment)
    return time.perf_counter() - begun, spent() - before


def main():
    datasets = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared/datasets").resolve()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    # Together with an example, so that features are those of `cargo test` and nothing is built twice.
    build = ["cargo", "build", "--locked", "--quiet", "--bin", "passk", "--example", "squares"]
    subprocess.run(build, cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="passk-overlap-") as work:
        storage = Path(work) / "storage"
        os.environ |= {"PASSK_STORAGE": str(storage), "PASSK_NO_MLFLOW": "1", "PASSK_GATE": "off"}
        os.chdir(work)
        quietly(PASSK, "fetch", "humaneval", "--storage", storage, environment={"PASSK_MIRROR": str(datasets)})
        checkpoint = MICRO / "checkpoints/baseline/checkpoint_best.pt"
        model = ["--checkpoint", checkpoint, "--model-dir", MICRO / "models/micro-mtp"]
        timed(*model, "--label", "first")
        made = [json.loads(line) for line in open(next(storage.glob("runs/humaneval-first-*/samples.jsonl")))]
        with open("given.jsonl", "w") as given:
            for row in made:
                print(json.dumps({key: row[key] for key in ("task_id", "completion")}), file=given)
        tokens = sum(row["tokens"] for row in made) / len(made)
        print(f"{len(made)} completions, mean length {tokens:.1f} tokens")
        print(f"{'':<16}{'sampling, s':>12}{'judging, s':>12}{'both, s':>9}{'both / longer':>15}{'of two cores':>14}")
        ways = {"a core each": (["--jobs", 1], {"RAYON_NUM_THREADS": "1"}), "as it is": ([], {})}
        for name, (flags, environment) in ways.items():
            halves = [*model, "--sample-only"], ["--samples", "given.jsonl"], model
            best = lambda half: min(timed(*half, *flags, "--label", "timed", environment=environment) for _ in range(3))
            (sampling, _), (judging, _), (both, processors) = map(best, halves)
            ratio, share = both / max(sampling, judging), processors / both / 2
            print(f"{name:<16}{sampling:>12.2f}{judging:>12.2f}{both:>9.2f}{ratio:>15.2f}{share:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
