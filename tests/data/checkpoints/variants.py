#!/usr/bin/env python3
"""Write one small model in every way in which users keep models (a maintainer's tool; see ../make.sh).

Tests never need this file: what it writes is committed.

variants/NAME.pt, NAME.safetensors     the model in one file
variants/base/                         the model folder of the LoRA files: params.json, safetensors
variants/expected.json                 of each file: kind, epoch, metrics, config, and PyTorch's logits
hf/llama3/ hf/tied/                    Hugging Face folders saved by transformers (shards, Llama 3 scaling; tied output)
hf/expected.json                       ten prompts each, and what `generate` continues them with
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))
from make import MtpLlama, Params, random_model  # noqa: E402

PARAMS = Params(
    dim=16, n_layers=3, n_heads=2, n_kv_heads=1, vocab_size=24, multiple_of=8, n_future_tokens=2, max_seq_len=64
)  # fmt: skip
IDS = [0, 5, 9, 23, 2, 7, 7, 11, 3, 20, 1, 14]
RANK, ALPHA = 2, 6.0
FOLDER = "tests/data/checkpoints/variants/base"


# --- the model and what fine-tuning makes of it ---------------------------------------------------


def plain_state() -> OrderedDict[str, Tensor]:
    return OrderedDict((name, tensor.detach().clone()) for name, tensor in random_model(PARAMS, 3).state_dict().items())


def logits_of(state: dict[str, Tensor]) -> list:
    """PyTorch's logits (heads, positions, vocab) of these weights, in f32 whatever they are kept in."""
    model = MtpLlama(PARAMS).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    with torch.no_grad():
        logits = model(torch.tensor([IDS]))[:, 0]
    return [[[float(f"{x:.7g}") for x in row] for row in head] for head in logits.tolist()]


class LoraLinear(nn.Module):
    """A frozen linear map with a low-rank change beside it, as the trainers wrap it."""

    def __init__(self, linear: nn.Linear, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = linear
        self.lora_A = nn.Parameter(torch.randn(RANK, linear.in_features, generator=generator) * 0.3)
        self.lora_B = nn.Parameter(torch.randn(linear.out_features, RANK, generator=generator) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + ALPHA / RANK * (x @ self.lora_A.T @ self.lora_B.T)


def lora_model() -> MtpLlama:
    """The model with changes on wq and wv of the trunk and the first head, and extra heads of its own."""
    model = MtpLlama(PARAMS).eval()
    model.load_state_dict(plain_state())
    for i, layer in enumerate(model.layers):
        layer.attention.wq = LoraLinear(layer.attention.wq, 10 + i)
        layer.attention.wv = LoraLinear(layer.attention.wv, 20 + i)
    with torch.no_grad():
        for weight in model.extra_heads.parameters():
            weight.mul_(1.25)
    return model


def lora_logits() -> list:
    with torch.no_grad():
        logits = lora_model()(torch.tensor([IDS]))[:, 0]
    return [[[float(f"{x:.7g}") for x in row] for row in head] for head in logits.tolist()]


# --- layouts -----------------------------------------------------------------------------------------


def content(state: dict | None, **others: object) -> dict:
    whole = {
        "model_state_dict": state,
        "epoch": 3,
        "train_metrics": {"train_loss": 1.25},
        "val_metrics": {"val_loss": 1.5},
        "config": {"model": {"path": FOLDER, "dtype": "float32"}},
        "td_ema_state": None,
        **others,
    }
    return {key: value for key, value in whole.items() if key != "model_state_dict" or value is not None}


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in plain_state().items()}


def in_views() -> dict[str, Tensor]:
    """Every matrix a transposed view, every vector a stepped slice."""
    state = plain_state()
    turned = {name: t.t().contiguous().t() if t.dim() == 2 else torch.stack([t, -t], 1)[:, 0] for name, t in state.items()}
    assert not any(tensor.is_contiguous() for tensor in turned.values())
    return turned


def tied() -> dict[str, Tensor]:
    state = plain_state()
    state["output.weight"] = state["tok_embeddings.weight"]
    return state


def trained() -> tuple[dict, dict]:
    """After one real step of AdamW."""
    model = random_model(PARAMS, 3).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.tensor([IDS])).square().mean().backward()
    optimizer.step()
    return model.state_dict(), optimizer.state_dict()


def wrapped_inside() -> dict[str, Tensor]:
    """FSDP and activation checkpointing put their names inside."""
    inside = lambda name: name.replace("layers.", "_fsdp_wrapped_module.layers.").replace(".attention.", "._checkpoint_wrapped_module.attention.")
    return {f"module.{inside(name)}": tensor for name, tensor in plain_state().items()}


HF_PARTS = {
    "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "tok_embeddings": "model.embed_tokens", "output": "lm_head",
}  # fmt: skip


def half_split(rows: Tensor) -> Tensor:
    """The rows of each head from Meta's interleaved rotary order into Hugging Face's."""
    head = PARAMS.dim // PARAMS.n_heads
    return rows.view(-1, head // 2, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        if ("attention.wq" in name or "attention.wk" in name) and not name.endswith("lora_A"):
            tensor = half_split(tensor)
        for ours, theirs in HF_PARTS.items():
            name = name.replace(ours, theirs)
        name = name if name.startswith(("model.", "lm_head", "extra_heads")) else f"model.{name}"
        renamed[name] = tensor.contiguous()
    return renamed


def lora_parts() -> dict[str, dict[str, Tensor]]:
    state = lora_model().state_dict()
    lora = {name: tensor for name, tensor in state.items() if "lora_" in name}
    heads = {name.removeprefix("extra_heads."): tensor for name, tensor in state.items() if name.startswith("extra_heads.")}
    return {"lora_state_dict": lora, "extra_heads_state_dict": heads, "value_head_state_dict": {"weight": torch.ones(1, PARAMS.dim)}}


def lora_file(**others: object) -> dict:
    return content(None, checkpoint_type="lora", **lora_parts(), **{"lora_config": {"rank": RANK, "alpha": ALPHA}, **others})


def peft_state() -> dict[str, Tensor]:
    """The changes alone, under PEFT's names and in Hugging Face's order; the extra heads as they are."""
    parts = hugging_face(lora_model().state_dict())
    changes = {f"base_model.model.{k}.weight": v for k, v in parts.items() if "lora_" in k}
    return {**changes, **{k: v for k, v in parts.items() if k.startswith("extra_heads.")}}


def with_attributes() -> dict[str, Tensor]:
    """Tensors that carry attributes of their own are pickled in another way."""
    state = plain_state()
    for tensor in state.values():
        tensor.note = "kept by the trainer"
    return state


def write_variants() -> None:
    folder = HERE / "variants"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "base/configs").mkdir(parents=True)
    (folder / "base/safetensors").mkdir()
    (folder / "base/configs/params.json").write_text(json.dumps(asdict(PARAMS), indent=2) + "\n")
    state = plain_state()
    save_file(state, folder / "base/safetensors/model.safetensors")

    logits, changed = logits_of(state), lora_logits()
    stepped, optimizer = trained()
    low = {dtype: {name: t.to(dtype) for name, t in state.items()} for dtype in
           (torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn)}  # fmt: skip
    buffers = {"layers.0.attention.mask": torch.ones(4, 4, dtype=torch.bool), "freqs_cis": torch.ones(4, 2, dtype=torch.complex64),
               "layers.1.rotary_emb.inv_freq": torch.arange(4), "value_head.steps": torch.tensor(7, dtype=torch.uint16)}  # fmt: skip
    numpy = {"train_metrics": {"train_loss": np.float64(1.25)}, "val_metrics": {"val_loss": np.float32(1.5)}, "epoch": np.int64(3)}
    texts = {"format": "pt", "epoch": "3", "train_loss": "1.25", "val_metrics": '{"val_loss": 1.5}',
             "config": json.dumps({"model": {"path": FOLDER, "dtype": "float32"}})}  # fmt: skip

    # name → content, logits, how it is saved
    files: dict[str, tuple] = {
        "full.pt": (content(state), logits),
        "adapter_key.pt": ({("adapter_state_dict" if k == "model_state_dict" else k): v for k, v in content(state).items()}, logits),
        "bare.pt": (state, logits),
        "bf16.pt": (content(low[torch.bfloat16]), logits_of(low[torch.bfloat16])),
        "f16.pt": (content(low[torch.float16]), logits_of(low[torch.float16])),
        "f64.pt": (content(low[torch.float64]), logits),
        "f8.pt": (content(low[torch.float8_e4m3fn]), logits_of(low[torch.float8_e4m3fn])),
        "buffers.pt": (content({**state, **buffers}), logits),
        "tied.pt": (content(tied()), logits_of(tied())),
        "views.pt": (content(in_views()), logits),
        "module.pt": (content(prefixed("module.")), logits),
        "wrapped_inside.pt": (content(wrapped_inside()), logits),
        "config_none.pt": (content(state, config=None), logits),
        "numpy.pt": (content(state, **numpy), logits),
        "adamw.pt": (content(stepped, optimizer_state_dict=optimizer), logits_of(stepped)),
        "attributes.pt": (content(with_attributes()), logits),
        "protocol5.pt": (content(state), logits, {"pickle_protocol": 5}),
        "hugging_face_names.pt": (content(hugging_face(state)), logits),
        "lora.pt": (lora_file(), changed),
        "lora_without_alpha.pt": (lora_file(lora_config={"rank": RANK}), changed),
        "lora_without_rank.pt": (lora_file(lora_config=None), changed),
        "lora_in_full.pt": (content(lora_model().state_dict(), lora_config={"rank": RANK, "alpha": ALPHA}), changed),
        "full.safetensors": (state, logits, {"metadata": texts}),
        "bf16.safetensors": (low[torch.bfloat16], logits_of(low[torch.bfloat16]), {"metadata": texts}),
        "hugging_face_names.safetensors": (hugging_face(state), logits, {"metadata": texts}),
        "peft.safetensors": (peft_state(), changed, {"metadata": {**texts, "lora_config": json.dumps({"r": RANK, "lora_alpha": ALPHA})}}),
    }  # fmt: skip
    expected = {}
    for name, (what, right, *options) in files.items():
        (save_file if name.endswith(".safetensors") else torch.save)(what, folder / name, **(options[0] if options else {}))
        bare, none = name == "bare.pt", name == "config_none.pt"
        expected[name] = {
            "kind": "lora" if name.startswith(("lora", "peft")) and name != "lora_in_full.pt" else "full",
            "epoch": None if bare else 3.0,
            "train_metrics": {} if bare else {"train_loss": 1.25},
            "val_metrics": {} if bare else {"val_loss": 1.5},
            "config": None if bare or none else {"model": {"path": FOLDER, "dtype": "float32"}},
            "logits": right,
        }
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(what, separators=(',', ':'))}" for name, what in expected.items())
    (folder / "expected.json").write_text(f'{{"ids": {IDS}, "files": {{\n{text}\n}}}}\n')
    print(f"variants: {len(expected)}, logits spread {np.std(logits):.2f}, LoRA moves them by {np.abs(np.array(logits) - changed).max():.2f}")


# --- Hugging Face folders ------------------------------------------------------------------------------


def write_hugging_face() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    llama3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 32}  # fmt: skip
    common = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1}  # fmt: skip
    kinds = {"llama3": {"rope_parameters": llama3}, "tied": {"tie_word_embeddings": True}}
    expected = {}
    for name, options in kinds.items():
        folder = HERE / "hf" / name
        shutil.rmtree(folder, ignore_errors=True)
        for seed in range(1000):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(LlamaConfig(**common, **options)).eval()
            with torch.no_grad():
                for part, weight in model.named_parameters():
                    weight.uniform_(0.6, 1.4) if weight.dim() == 1 else weight.normal_(std=1.0 if "embed" in part else 0.3)
            cases, lead = [], 1.0
            for length in range(3, 63, 6):
                prompt = [0, *torch.randint(2, 96, (length,)).tolist()]
                out = model.generate(torch.tensor([prompt]), max_new_tokens=48, do_sample=False, pad_token_id=1,
                                     output_scores=True, return_dict_in_generate=True)  # fmt: skip
                top = torch.stack(out.scores)[:, 0].topk(2).values
                lead = min(lead, (top[:, 0] - top[:, 1]).min().item())
                cases.append({"prompt": prompt, "tokens": out.sequences[0, len(prompt) :].tolist()})
            varied = sum(len(set(case["tokens"])) > 12 for case in cases)
            # No close call, which another order of additions might decide otherwise, and no dull repetition.
            if lead > 2e-3 and varied >= 8:
                break
        model.save_pretrained(folder, max_shard_size="30KB" if name == "llama3" else "1GB")
        with torch.no_grad():
            logits = model(torch.tensor([cases[5]["prompt"]])).logits[0, -1].tolist()
        expected[name] = {"cases": cases, "logits": [float(f"{x:.7g}") for x in logits]}
        print(f"hf/{name}: seed {seed}, lead {lead:.4f}, {varied} of 10 varied, files {sorted(p.name for p in folder.iterdir())}")
    (HERE / "hf/expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    write_variants()
    write_hugging_face()
