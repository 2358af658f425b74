#!/usr/bin/env python3
"""Set the CPU engine beside PyTorch, in one run, on the same weights, prompt and lengths.

    python3 benches/compare.py          # micro (1.3 M) and small (110 M, random weights)
    python3 benches/compare.py micro
    python3 benches/compare.py small small-bf16     # a checkpoint in f32 beside one in bf16

For each model it prints tokens per second of

    naive       the whole prefix through the model again for every token, one sequence at a time
    generate    transformers' `generate` with its key-value cache, all 20 sequences in one batch
    passk       the engine at 20 and 64 sequences, plain; and at one sequence, plain and speculative

the ratios between them, and the share of the matrix rate that the engine reaches at 64 sequences: PyTorch's or
NumPy's, whichever is higher, over 64 rows and the model's own shapes. The prompt is as long as HumanEval's are in the mean; every completion has exactly the
length that is printed. A virtual environment with PyTorch and transformers is made on the first run, under
~/.cache/passk-venvs/generate.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = Path.home() / ".cache/passk-venvs/generate"
PYTHON = VENV / "bin/python"
MICRO = ROOT / "storage/micro/models/micro-mtp"


def enter_venv():
    """Run again under the environment's Python, which is made if it is not there."""
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "torch", "transformers", "numpy"], check=True)
    os.execv(PYTHON, [str(PYTHON), *sys.argv])


def small(folder: Path, dtype: str) -> Path:
    """Write a random model of 110 M active weights with one head, once, in the layout of the trainers."""
    import torch

    checkpoint = folder / "checkpoint_best.pt"
    if checkpoint.exists():
        return checkpoint
    dim, layers, hidden, vocab = 768, 12, 2048, 32000
    torch.manual_seed(0)
    weight = lambda out, width: (torch.randn(out, width) / width**0.5).to(getattr(torch, dtype))
    state = {
        "tok_embeddings.weight": weight(vocab, dim),
        "norm.weight": torch.ones(dim),
        "output.weight": weight(vocab, dim),
    }
    for layer in range(layers):
        name = f"layers.{layer}"
        for part in "qkvo":
            state[f"{name}.attention.w{part}.weight"] = weight(dim, dim)
        state[f"{name}.feed_forward.w1.weight"] = weight(hidden, dim)
        state[f"{name}.feed_forward.w2.weight"] = weight(dim, hidden)
        state[f"{name}.feed_forward.w3.weight"] = weight(hidden, dim)
        state[f"{name}.attention_norm.weight"] = torch.ones(dim)
        state[f"{name}.ffn_norm.weight"] = torch.ones(dim)
    for part in ("configs", "tokenizer"):
        (folder / "model" / part).mkdir(parents=True, exist_ok=True)
    tokenizer = (MICRO / "tokenizer/tokenizer.json").read_bytes()
    (folder / "model/tokenizer/tokenizer.json").write_bytes(tokenizer)
    params = dict(dim=dim, n_layers=layers, n_heads=12, vocab_size=vocab, multiple_of=256, n_future_tokens=1)
    (folder / "model/configs/params.json").write_text(json.dumps(params | {"max_seq_len": 2048}))
    torch.save({"model_state_dict": state, "epoch": 0}, checkpoint)
    return checkpoint


def llama(checkpoint: Path, folder: Path):
    """The checkpoint's trunk and head 0 as a transformers model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    params = json.loads((folder / "configs/params.json").read_text())
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["model_state_dict"]
    state = {name.removeprefix("module."): value.float() for name, value in state.items()}
    dim, heads = params["dim"], params["n_heads"]
    layers = params["n_layers"] - params["n_future_tokens"] + 1
    config = LlamaConfig(
        hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, vocab_size=params["vocab_size"],
        intermediate_size=state["layers.0.feed_forward.w1.weight"].shape[0], rms_norm_eps=params.get("norm_eps", 1e-5),
        max_position_embeddings=params["max_seq_len"], bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    # Meta's rotary pairs are neighbours, transformers' are half a head apart.
    halves = lambda w: w.view(heads, dim // heads // 2, 2, dim).transpose(1, 2).reshape(dim, dim)
    names = {
        "model.embed_tokens.weight": state["tok_embeddings.weight"],
        "model.norm.weight": state["norm.weight"],
        "lm_head.weight": state["output.weight"],
    }
    for layer in range(layers):
        ours, theirs = f"layers.{layer}", f"model.layers.{layer}"
        for part in "qkvo":
            value = state[f"{ours}.attention.w{part}.weight"]
            names[f"{theirs}.self_attn.{part}_proj.weight"] = halves(value) if part in "qk" else value
        for part, other in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
            names[f"{theirs}.mlp.{other}_proj.weight"] = state[f"{ours}.feed_forward.{part}.weight"]
        names[f"{theirs}.input_layernorm.weight"] = state[f"{ours}.attention_norm.weight"]
        names[f"{theirs}.post_attention_layernorm.weight"] = state[f"{ours}.ffn_norm.weight"]
    model.load_state_dict(names, strict=True)
    return model


def pick(logits):
    """One token a row at temperature 0.2 and top-p 0.95."""
    import torch

    weights = torch.softmax(logits / 0.2, -1)
    ordered, ids = weights.sort(-1, descending=True)
    ordered[ordered.cumsum(-1) - ordered >= 0.95] = 0
    return ids.gather(-1, torch.multinomial(ordered, 1))


def naive(model, prompt, tokens: int) -> float:
    import torch

    ids = prompt.clone()
    begun = time.perf_counter()
    with torch.no_grad():
        for _ in range(tokens):
            ids = torch.cat([ids, pick(model(ids, use_cache=False).logits[:, -1])], -1)
    return tokens / (time.perf_counter() - begun)


def generate(model, prompt, sequences: int, tokens: int) -> float:
    import torch

    batch = prompt.repeat(sequences, 1)
    settings = dict(do_sample=True, temperature=0.2, top_p=0.95, top_k=0, max_new_tokens=tokens, min_new_tokens=tokens)
    begun = time.perf_counter()
    with torch.no_grad():
        out = model.generate(batch, attention_mask=torch.ones_like(batch), **settings)
    assert out.shape == (sequences, prompt.shape[1] + tokens)
    return sequences * tokens / (time.perf_counter() - begun)


def matrix_rate(model) -> tuple[float, str]:
    """The rate over the model's own products at 64 rows, in multiplications and additions a second, and whose it is."""
    import torch

    weights = [m.weight.detach() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {w.shape[1]: torch.randn(64, w.shape[1]) for w in weights}
    ways = {
        "PyTorch": lambda w: torch.nn.functional.linear(inputs[w.shape[1]], w),
        "NumPy": lambda w: inputs[w.shape[1]].numpy() @ w.numpy().T,
    }
    best = {}
    for name, multiply in ways.items():
        for _ in range(4):
            begun = time.perf_counter()
            for weight in weights:
                multiply(weight)
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - begun)
    name = min(best, key=best.get)
    return 2 * 64 * sum(w.numel() for w in weights) / best[name], name


def engine(checkpoint: Path, folder: Path, length: int, ways: list[str]) -> dict:
    command = ["cargo", "bench", "--quiet", "--bench", "cpu", *os.environ.get("PASSK_BENCH_CARGO", "").split(), "--"]
    command += [str(checkpoint), str(folder), str(ROOT / "benches/prompt.txt"), str(length), *ways]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {line["way"]: line for line in map(json.loads, lines)}


def compare(name: str, checkpoint: Path, folder: Path, length: int):
    import torch
    from tokenizers import Tokenizer

    text = (ROOT / "benches/prompt.txt").read_text()
    ids = Tokenizer.from_file(str(folder / "tokenizer/tokenizer.json")).encode(text).ids
    prompt = torch.tensor([ids])
    several = ["plain:1", "speculative:1", "auto:1"] if name == "micro" else ["plain:1"]
    ours = engine(checkpoint, folder, length, ["plain:16", "plain:20", "plain:64", "plain:200", *several])
    model = llama(checkpoint, folder)
    naive(model, prompt, 4)
    slow = naive(model, prompt, length)
    generate(model, prompt, 20, 4)
    theirs = generate(model, prompt, 20, length)
    rate, whose = matrix_rate(model)
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    speed = {way: line["tokens_per_second"] for way, line in ours.items()}
    print(f"\n{name}: {weights / 1e6:.1f} M weights in products, prompt of {len(ids)} tokens, {torch.get_num_threads()} threads")
    print(f"  naive       {slow:9.1f} tokens/s   (one sequence, length {length})")
    print(f"  generate    {theirs:9.1f} tokens/s   (20 sequences, mean length {length})")
    for way, line in ours.items():
        ratios = f"{speed[way] / slow:7.1f} x naive {speed[way] / theirs:7.1f} x generate"
        print(f"  {way:<14}{speed[way]:7.0f} tokens/s   {ratios}   (mean length {line['mean_tokens']:.0f})")
    if "speculative:1" in ours:
        line = ours["speculative:1"]
        print(f"  speculative is {speed['speculative:1'] / speed['plain:1']:.2f} x plain at one sequence, "
              f"{line['tokens_per_forward']:.2f} tokens a forward, heads held {line['head_acceptance']}")  # fmt: skip
    share = speed["plain:64"] * 2 * weights / rate
    print(f"  matrix rate {rate / 1e9:.0f} GFLOP/s at 64 rows ({whose}'s); the engine's 64 sequences reach {share:.2f} of it")
    print(f"  64 sequences cost {speed['plain:16'] / speed['plain:64']:.2f} of 16's time a token; "
          f"n = 200 takes {10 * speed['plain:20'] / speed['plain:200']:.2f} times n = 20")  # fmt: skip


def main():
    enter_venv()
    wanted = sys.argv[1:] or ["micro", "small"]
    if "micro" in wanted:
        compare("micro", ROOT / "storage/micro/checkpoints/baseline/checkpoint_best.pt", MICRO, 200)
    for name, dtype in (("small", "float32"), ("small-bf16", "bfloat16")):
        if name in wanted:
            folder = VENV.parent / name
            compare(name, small(folder, dtype), folder / "model", 96)


if __name__ == "__main__":
    main()
