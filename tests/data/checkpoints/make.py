#!/usr/bin/env python3
"""Write the checkpoint fixtures beside this file, with real PyTorch (a maintainer's tool).

Tests never need this file: what it writes is committed. Seeds are fixed; the zip archives hold
no times, so a second run with the same PyTorch writes the same bytes.

    pip install torch numpy tokenizers
    python tests/data/checkpoints/make.py

heads4/ heads1/ grouped/    a whole model each: checkpoint_best.pt, model/configs/params.json, and
                            expected.json with PyTorch's logits and greedy continuation
layouts/NAME.pt             one way in which a trainer may write a checkpoint, and in
layouts/expected.json       what passk must read from each
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "storage/micro"))
from train import MtpLlama, Params  # noqa: E402

BOS, EOS = 0, 1


# --- whole models ------------------------------------------------------------------------------

MODELS = {
    "heads4": Params(
        dim=32, n_layers=5, n_heads=4, vocab_size=64, multiple_of=16, ffn_dim_multiplier=0.5, n_future_tokens=4, max_seq_len=128,
    ),
    "heads1": Params(dim=32, n_layers=2, n_heads=4, vocab_size=64, multiple_of=16, n_future_tokens=1, max_seq_len=128),
    "grouped": Params(
        dim=32, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=64, multiple_of=32, ffn_dim_multiplier=0.8, norm_eps=1e-6,
        n_future_tokens=2, rope_theta=500000.0, max_seq_len=128,
    ),
}  # fmt: skip


def random_model(params: Params, seed: int) -> MtpLlama:
    """Weights large enough that every layer and every position changes the argmax."""
    torch.manual_seed(seed)
    model = MtpLlama(params).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.uniform_(0.6, 1.4)
            elif name.startswith("tok_embeddings"):
                weight.normal_(std=1.0)
            else:
                weight.normal_(std=1.6 / math.sqrt(weight.shape[1]))
    return model


@torch.no_grad()
def greedy(model: MtpLlama, prompt: list[int], n: int) -> tuple[list[int], float]:
    """n ids by head 0, and the smallest lead the chosen id had over the next: what a reader
    of these weights may be off by without choosing otherwise."""
    ids, lead = list(prompt), math.inf
    for _ in range(n):
        best = model(torch.tensor([ids]))[0, 0, -1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[len(prompt) :], lead


def write_model(name: str, params: Params) -> None:
    folder = HERE / name
    (folder / "model/configs").mkdir(parents=True, exist_ok=True)
    (folder / "model/configs/params.json").write_text(json.dumps(asdict(params), indent=2) + "\n")
    # The first seed whose continuation is long, without EOS, varied, and never a close call.
    for seed in range(1000):
        model = random_model(params, seed)
        generator = torch.Generator().manual_seed(seed)
        prompt = [BOS, *torch.randint(2, params.vocab_size, (7,), generator=generator).tolist()]
        continuation, lead = greedy(model, prompt, 64)
        if EOS not in continuation and len(set(continuation)) >= 24 and lead > 0.01:
            break
    else:
        raise SystemExit(f"{name}: no seed gives a continuation worth testing")
    ids = [BOS, *torch.randint(2, params.vocab_size, (11,), generator=generator).tolist()]
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[:, 0]  # (H, T, V)
    content = trainer_layout(model.state_dict(), path=f"tests/data/checkpoints/{name}/model", n_future_tokens=params.n_future_tokens)
    torch.save(content, folder / "checkpoint_best.pt")
    rounded = [[[float(f"{x:.7g}") for x in row] for row in head] for head in logits.tolist()]
    expected = {"ids": ids, "logits": rounded, "prompt": prompt, "greedy": continuation}
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    print(f"{name}: seed {seed}, smallest lead {lead:.3f}, {len(set(continuation))} of 64 ids differ, logits spread {logits.std():.2f}")


def trainer_layout(state: dict, path: str, n_future_tokens: int) -> dict:
    return {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.0003, "betas": (0.9, 0.95), "params": [0, 1]}]},
        "epoch": 3,
        "train_metrics": {"train_loss": 1.25},
        "val_metrics": {"val_loss": 1.5, "val_loss_head0": 1.125},
        "config": {
            "model": {"path": path, "dtype": "float32", "n_future_tokens": n_future_tokens},
            "training": {"pipeline": "fixture", "learning_rate": 0.0003},
            "dataset": {"name": "none"},
        },
        "td_ema_state": None,
    }


# --- layouts -----------------------------------------------------------------------------------


def tensors(dtype: torch.dtype = torch.float32) -> OrderedDict[str, Tensor]:
    """A stand-in for a model's state dict: two small weights."""
    generator = torch.Generator().manual_seed(7)
    return OrderedDict(
        (name, torch.randn(shape, generator=generator).to(dtype))
        for name, shape in {"tok_embeddings.weight": (5, 8), "norm.weight": (8,)}.items()
    )


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors().items()}


def checkpoint(state: dict, **others: object) -> dict:
    """The trainer's layout at its smallest; `others` are added or replace."""
    config = {"model": {"path": "models/x", "dtype": "float32"}}
    return {"model_state_dict": state, "epoch": 1, "train_metrics": {}, "val_metrics": {}, "config": config, **others}


def adapter_key() -> dict:
    content = checkpoint({})
    del content["model_state_dict"]
    return {"adapter_state_dict": tensors(), **content, "epoch": 2.5}


def module_state() -> dict:
    """A real module's state dict, which carries `_metadata`, and what AdamW makes of it."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(3, 8)).sum().backward()
    optimizer.step()
    return checkpoint(model.state_dict(), optimizer_state_dict=optimizer.state_dict())


def aliased() -> dict:
    """Output tied to the embedding, and one dict in two places."""
    state = tensors()
    state["output.weight"] = state["tok_embeddings.weight"]
    metrics = {"loss": 0.5}
    return checkpoint(state, train_metrics=metrics, val_metrics=metrics)


def views() -> dict:
    """Parts of one storage: transposed, sliced, stepped through, of one element, empty."""
    whole = torch.arange(48, dtype=torch.float32).view(6, 8)
    return checkpoint({
        "transposed": whole.t(),
        "rows": whole[2:4],
        "columns": whole[:, 3:5],
        "stepped": whole[::2, 1::3],
        "permuted": whole.view(2, 3, 8).permute(2, 0, 1),
        "scalar": whole[5, 7],
        "one": whole[1:2, 2:3],
        "empty": whole[:0],
    })  # fmt: skip


def numpy_metrics() -> dict:
    train = {"train_loss": np.float64(1.75), "tokens": np.int64(123456), "lr": np.float32(0.5), "note": "left out", "steps": 7}
    val = {"val_loss": torch.tensor(2.25), "accuracy": torch.tensor([0.5], dtype=torch.bfloat16), "best": True, "worst": math.inf}
    return checkpoint(tensors(), epoch=np.int64(4), train_metrics=train, val_metrics=val)


def odd_config() -> dict:
    """Values that are no JSON: a path, a dtype, infinity, a tuple, keys that are no text."""
    model = {"path": pathlib.PurePosixPath("/models/llama"), "dtype": torch.bfloat16}
    training = {"betas": (0.9, 0.95), "clip": math.inf, "huge": 10**30, "negative": -(2**40), "by_epoch": {1: 0.5, 2: None}}
    return checkpoint(tensors(), config={"model": model, "training": training, "shape": torch.Size([2, 3])})


def integers() -> dict:
    kinds = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    buffers = {f"{str(kind).removeprefix('torch.')}": torch.tensor([0, 1, 100, 1]).to(kind) for kind in kinds}
    return checkpoint({**tensors(), **buffers, "negative": torch.tensor([-3, 2**40])})


def lora() -> dict:
    return {
        "checkpoint_type": "lora",
        "lora_state_dict": {"layers.0.attention.wq.lora_A": torch.ones(2, 8), "layers.0.attention.wq.lora_B": torch.full((8, 2), 0.5)},
        "extra_heads_state_dict": {"0.attention_norm.weight": torch.full((8,), 2.0)},
        "value_head_state_dict": {"weight": torch.full((1, 8), 3.0)},
        "lora_config": {"rank": 2, "alpha": 4},
        **{key: value for key, value in checkpoint({}).items() if key != "model_state_dict"},
    }


LAYOUTS = {
    "plain": checkpoint(tensors()),
    "adapter_key": adapter_key(),
    "module_prefix": checkpoint(prefixed("module.")),
    "transformer_prefix": checkpoint(prefixed("transformer.")),
    "nested_prefix": checkpoint(prefixed("module._orig_mod.transformer.")),
    "bf16": checkpoint(tensors(torch.bfloat16)),
    "f16": checkpoint(tensors(torch.float16)),
    "f64": checkpoint(tensors(torch.float64)),
    "parameters": checkpoint({name: nn.Parameter(tensor) for name, tensor in tensors().items()}),
    "config_none": checkpoint(tensors(), config=None, train_metrics=None, epoch=None),
    "value_head": checkpoint({**prefixed("transformer."), "value_head.weight": torch.ones(1, 8), "value_head.bias": torch.zeros(1)}),
    "aliased": aliased(),
    "views": views(),
    "numpy_metrics": numpy_metrics(),
    "odd_config": odd_config(),
    "adamw": module_state(),
    "integers": integers(),
    "lora": lora(),
    "protocol4": checkpoint(tensors()),
    "protocol5": checkpoint(tensors()),
}

# How a layout is saved if not as torch.save does by itself.
OPTIONS = {"protocol4": {"pickle_protocol": 4}, "protocol5": {"pickle_protocol": 5}}

# What passk must say of a layout beyond what can be read off the content itself.
CONFIGS = {
    "odd_config": {
        "model": {"path": "/models/llama", "dtype": "bfloat16"},
        "training": {"betas": [0.9, 0.95], "clip": "inf", "huge": "a large integer", "negative": -(2**40), "by_epoch": {"1": 0.5, "2": None}},
        "shape": [2, 3],
    },
}


def numbers(metrics: dict | None) -> dict[str, float | str]:
    """The metrics that are numbers; JSON has no infinity."""
    found = {k: float(v) for k, v in (metrics or {}).items() if not isinstance(v, str)}
    return {k: v if math.isfinite(v) else str(v) for k, v in found.items()}


def state_of(content: dict) -> dict[str, Tensor]:
    if "lora_state_dict" in content:
        heads = {f"extra_heads.{k}": v for k, v in content["extra_heads_state_dict"].items()}
        value = {f"value_head.{k}": v for k, v in content["value_head_state_dict"].items()}
        return {**content["lora_state_dict"], **heads, **value}
    state = content.get("model_state_dict") or content["adapter_state_dict"]
    return {name.split("module.")[-1].split("_orig_mod.")[-1].split("transformer.")[-1]: tensor for name, tensor in state.items()}


def parameters(state: dict[str, Tensor]) -> int:
    weights = [(name, t) for name, t in state.items() if t.is_floating_point() and not name.startswith("value_head.")]
    places = {(t.data_ptr(), t.shape, t.stride()): t.numel() for _, t in weights}
    return sum(places.values())


DTYPES = {
    torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.int64: "i64",
    torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip


def write_layouts() -> None:
    folder = HERE / "layouts"
    folder.mkdir(exist_ok=True)
    expected = {}
    for name, content in LAYOUTS.items():
        torch.save(content, folder / f"{name}.pt", **OPTIONS.get(name, {}))
        # What a reader finds, not what was saved: torch.load is the judge.
        loaded = torch.load(folder / f"{name}.pt", weights_only=False)
        state = state_of(loaded)
        epoch = loaded["epoch"]
        expected[name] = {
            "kind": "lora" if "lora_state_dict" in loaded else "full",
            "epoch": None if epoch is None else float(epoch),
            "train_metrics": numbers(loaded["train_metrics"]),
            "val_metrics": numbers(loaded["val_metrics"]),
            "config": CONFIGS.get(name, loaded["config"]),
            "parameters": parameters(state),
            "tensors": {
                key: {
                    "dtype": DTYPES[tensor.dtype],
                    "shape": list(tensor.shape),
                    "values": tensor.detach().float().flatten().tolist(),
                }
                for key, tensor in state.items()
            },
        }
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(expected[name])}" for name in sorted(expected))
    (folder / "expected.json").write_text("{\n" + text + "\n}\n")
    print(f"layouts: {len(expected)}")


def main() -> None:
    torch.set_num_threads(1)
    for name, params in MODELS.items():
        write_model(name, params)
    write_layouts()


if __name__ == "__main__":
    main()
