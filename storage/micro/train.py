#!/usr/bin/env python3
"""Make the micro suite and train its four checkpoints (a maintainer's tool).

Building, testing and running passk never needs this file: what it writes is committed.

    pip install torch numpy tokenizers safetensors

    python storage/micro/train.py suite    # datasets/micro/processed/test.jsonl
    python storage/micro/train.py base     # storage/micro/models/micro-mtp
    python storage/micro/train.py train    # storage/micro/checkpoints, from the base model
    python storage/micro/train.py score    # pass@1 of every checkpoint_best.pt

Parts, in order: the model; the language of the problems; the suite; the corpus and its
tokenizer; the four objectives; a small sampler to see where they stand; the checkpoints.

Shapes: B sequences, T positions, D model width, N query heads, K key/value heads, P head
width, F feed-forward width, H prediction heads, V vocabulary.
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import hashlib
import json
import math
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

# --- the model: a LLaMA with several prediction heads ---------------------------------------


@dataclass(frozen=True)
class Params:
    """What params.json holds; the names are those of Meta's LLaMA releases."""

    dim: int = 128
    n_layers: int = 6
    n_heads: int = 4
    n_kv_heads: int | None = None
    vocab_size: int = 512
    multiple_of: int = 32
    ffn_dim_multiplier: float | None = None
    norm_eps: float = 1e-5
    n_future_tokens: int = 4
    rope_theta: float = 10000.0
    max_seq_len: int = 2048

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Two thirds of 4 D, scaled, rounded up to a multiple of `multiple_of`."""
        width = int(2 * (4 * self.dim) / 3)
        if self.ffn_dim_multiplier is not None:
            width = int(self.ffn_dim_multiplier * width)
        return self.multiple_of * math.ceil(width / self.multiple_of)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, the root mean square taken in f32 (Zhang and Sennrich 2019)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return wide.type_as(x) * self.weight


def rotary_tables(head_dim: int, length: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position * theta^(-2i / P), each (T, P/2), f32 (Su et al. 2021)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)  # (P/2)
    angles = torch.outer(torch.arange(length).float(), frequencies)  # (T, P/2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (2i, 2i + 1) of the last axis by its angle. x: (B, T, heads, P)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # (B, T, heads, P/2) each
    cos, sin = cos[:, None], sin[:, None]  # (T, 1, P/2)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


class Attention(nn.Module):
    """Causal attention with grouped key/value heads, scale 1/sqrt(P), no biases."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.n_heads, self.kv_heads, self.head_dim = params.n_heads, params.kv_heads, params.head_dim
        self.wq = nn.Linear(params.dim, self.n_heads * self.head_dim, bias=False)
        self.wk = nn.Linear(params.dim, self.kv_heads * self.head_dim, bias=False)
        self.wv = nn.Linear(params.dim, self.kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(self.n_heads * self.head_dim, params.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        # 1. project, 2. turn queries and keys, 3. share each key/value head in its group
        q = rotate(self.wq(x).unflatten(-1, (self.n_heads, self.head_dim)), cos, sin)
        k = rotate(self.wk(x).unflatten(-1, (self.kv_heads, self.head_dim)), cos, sin)
        v = self.wv(x).unflatten(-1, (self.kv_heads, self.head_dim))
        group = self.n_heads // self.kv_heads
        k, v = (t.repeat_interleave(group, dim=2) if group > 1 else t for t in (k, v))
        # 4. attend, (B, N, T, P); 5. join the heads and project back
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x) (Shazeer 2020)."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.w1 = nn.Linear(params.dim, params.ffn_dim, bias=False)
        self.w2 = nn.Linear(params.ffn_dim, params.dim, bias=False)
        self.w3 = nn.Linear(params.dim, params.ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """One pre-norm layer: attention, then feed-forward, each added to its input."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.attention = Attention(params)
        self.feed_forward = FeedForward(params)
        self.attention_norm = RMSNorm(params.dim, params.norm_eps)
        self.ffn_norm = RMSNorm(params.dim, params.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, at: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or only what leaves at M places `at` (rows, columns): (M, D)."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        if at is not None:
            x = x[at]
        return x + self.feed_forward(self.ffn_norm(x))


class MtpLlama(nn.Module):
    """LLaMA that predicts the next H tokens (Gloeckle et al. 2024, arXiv 2404.19737).

    The trunk is every layer but the last; head 0 is the last layer, the others are
    `extra_heads`, and all of them read the trunk's output. Head h at position t predicts
    token t + 1 + h. With n_future_tokens = 1 this is the ordinary LLaMA.
    """

    def __init__(self, params: Params, value_head: bool = False) -> None:
        super().__init__()
        self.params = params
        self.tok_embeddings = nn.Embedding(params.vocab_size, params.dim)
        n_layers = params.n_layers - params.n_future_tokens + 1
        self.layers = nn.ModuleList(Block(params) for _ in range(n_layers))
        self.extra_heads = nn.ModuleList(Block(params) for _ in range(params.n_future_tokens - 1))
        self.norm = RMSNorm(params.dim, params.norm_eps)
        self.output = nn.Linear(params.dim, params.vocab_size, bias=False)
        self.value_head = nn.Linear(params.dim, 1) if value_head else None
        cos, sin = rotary_tables(params.head_dim, params.max_seq_len, params.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.05)

    def trunk(self, ids: Tensor) -> Tensor:  # (B, T) -> (B, T, D)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = self.tok_embeddings(ids)
        for layer in self.layers[:-1]:
            x = layer(x, cos, sin)
        return x

    def head(self, h: int, trunk: Tensor, at: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Logits of head h: (B, T, D) -> (B, T, V), or at M places `at`: (M, V)."""
        cos, sin = self.cos[: trunk.shape[1]], self.sin[: trunk.shape[1]]
        block = self.layers[-1] if h == 0 else self.extra_heads[h - 1]
        return self.output(self.norm(block(trunk, cos, sin, at)))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every head: (B, T) -> (H, B, T, V)."""
        trunk = self.trunk(ids)
        return torch.stack([self.head(h, trunk) for h in range(self.params.n_future_tokens)])

    def value(self, ids: Tensor) -> Tensor:
        """The value head's opinion after each token: (B, T) -> (B, T)."""
        return self.value_head(self.trunk(ids)).squeeze(-1)


# --- the language of the problems: steps, conditions, and how they are said and written -----


@dataclass(frozen=True)
class Step:
    """One operation: how it is said, how it is written, and on what.

    In `code`, {x} takes any expression and {a} one that binds tightly; {y} is the second
    parameter; {k}, {c}, {d} and {w} are constants: a number, two letters, a word.
    """

    slug: str  # its part of the function's name
    takes: str  # kind of its operand: int, str, ints, words, or a pair of them
    gives: str
    first: str  # said of the parameter: "{x} plus {k}"
    then: str  # said of the result so far: "plus {k}"
    code: str


STEPS = [
    Step("add", "int", "int", "{x} plus {k}", "plus {k}", "{a} + {k}"),
    Step("subtract", "int", "int", "{x} minus {k}", "minus {k}", "{a} - {k}"),
    Step("multiply", "int", "int", "{x} times {k}", "times {k}", "{a} * {k}"),
    Step("divide", "int", "int", "{x} floor-divided by {k}", "floor-divided by {k}", "{a} // {k}"),
    Step("modulo", "int", "int", "{x} modulo {k}", "modulo {k}", "{a} % {k}"),
    Step("double", "int", "int", "{x} doubled", "doubled", "{a} * 2"),
    Step("square", "int", "int", "{x} squared", "squared", "{a} ** 2"),
    Step("negate", "int", "int", "{x} negated", "negated", "-{a}"),
    Step("absolute", "int", "int", "the absolute value of {x}", "its absolute value", "abs({x})"),
    Step("take_from", "int", "int", "{x} subtracted from {k}", "subtracted from {k}", "{k} - {a}"),
    Step("at_least", "int", "int", "{x} but at least {k}", "but at least {k}", "max({x}, {k})"),
    Step("at_most", "int", "int", "{x} but at most {k}", "but at most {k}", "min({x}, {k})"),
    Step("text", "int", "str", "{x} as text", "as text", "str({x})"),
    Step("below", "int", "ints", "the numbers from 0 to below {x}", "the numbers from 0 to below that", "list(range({x}))"),
    Step("digits", "int", "ints", "the digits of {x} as a list", "its digits as a list", "[int(d) for d in str(abs({x}))]"),
    Step("plus", "int pair", "int", "the sum of {x} and {y}", "", "{x} + {y}"),
    Step("product", "int pair", "int", "the product of {x} and {y}", "", "{x} * {y}"),
    Step("difference", "int pair", "int", "{x} minus {y}", "", "{x} - {y}"),
    Step("larger", "int pair", "int", "the larger of {x} and {y}", "", "max({x}, {y})"),
    Step("smaller", "int pair", "int", "the smaller of {x} and {y}", "", "min({x}, {y})"),
    Step("upper", "str", "str", "{x} in upper case", "in upper case", "{a}.upper()"),
    Step("lower", "str", "str", "{x} in lower case", "in lower case", "{a}.lower()"),
    Step("strip", "str", "str", "{x} without outer spaces", "without outer spaces", "{a}.strip()"),
    Step("reverse", "str", "str", "{x} reversed", "reversed", "{a}[::-1]"),
    Step("repeat", "str", "str", "{x} repeated {k} times", "repeated {k} times", "{a} * {k}"),
    Step("head", "str", "str", "the first {k} characters of {x}", "its first {k} characters", "{a}[:{k}]"),
    Step("tail", "str", "str", "the last {k} characters of {x}", "its last {k} characters", "{a}[-{k}:]"),
    Step("skip", "str", "str", "{x} without its first {k} characters", "without its first {k} characters", "{a}[{k}:]"),
    Step("append", "str", "str", "{x} followed by '{w}'", "followed by '{w}'", "{a} + '{w}'"),
    Step("prepend", "str", "str", "{x} preceded by '{w}'", "preceded by '{w}'", "'{w}' + {a}"),
    Step("replace", "str", "str", "{x} with every '{c}' replaced by '{d}'", "with every '{c}' replaced by '{d}'", "{a}.replace('{c}', '{d}')"),
    Step("remove", "str", "str", "{x} without any '{c}'", "without any '{c}'", "{a}.replace('{c}', '')"),
    Step("length", "str", "int", "the length of {x}", "its length", "len({x})"),
    Step("count", "str", "int", "the number of '{c}' in {x}", "the number of '{c}' in that", "{a}.count('{c}')"),
    Step("split", "str", "words", "the words of {x}", "its words", "{a}.split()"),
    Step("concat", "str pair", "str", "{x} followed by {y}", "", "{x} + {y}"),
    Step("sort", "ints", "ints", "{x} sorted", "sorted", "sorted({x})"),
    Step("descend", "ints", "ints", "{x} sorted in descending order", "sorted in descending order", "sorted({x}, reverse=True)"),
    Step("flip", "ints", "ints", "the items of {x} reversed", "its items reversed", "{a}[::-1]"),
    Step("first_items", "ints", "ints", "the first {k} items of {x}", "its first {k} items", "{a}[:{k}]"),
    Step("last_items", "ints", "ints", "the last {k} items of {x}", "its last {k} items", "{a}[-{k}:]"),
    Step("add_each", "ints", "ints", "each item of {x} plus {k}", "each item plus {k}", "[v + {k} for v in {x}]"),
    Step("multiply_each", "ints", "ints", "each item of {x} times {k}", "each item times {k}", "[v * {k} for v in {x}]"),
    Step("evens", "ints", "ints", "the even items of {x}", "its even items", "[v for v in {x} if v % 2 == 0]"),
    Step("odds", "ints", "ints", "the odd items of {x}", "its odd items", "[v for v in {x} if v % 2 == 1]"),
    Step("above", "ints", "ints", "the items of {x} above {k}", "its items above {k}", "[v for v in {x} if v > {k}]"),
    Step("under", "ints", "ints", "the items of {x} under {k}", "its items under {k}", "[v for v in {x} if v < {k}]"),
    Step("total", "ints", "int", "the sum of {x}", "its sum", "sum({x})"),
    Step("highest", "ints", "int", "the largest item of {x}", "its largest item", "max({x})"),
    Step("lowest", "ints", "int", "the smallest item of {x}", "its smallest item", "min({x})"),
    Step("size", "ints", "int", "the number of items of {x}", "its number of items", "len({x})"),
    Step("opening", "ints", "int", "the first item of {x}", "its first item", "{a}[0]"),
    Step("closing", "ints", "int", "the last item of {x}", "its last item", "{a}[-1]"),
    Step("order", "words", "words", "the words of {x} sorted", "its words sorted", "sorted({x})"),
    Step("shout", "words", "words", "each word of {x} in upper case", "each word in upper case", "[v.upper() for v in {x}]"),
    Step("longer", "words", "words", "the words of {x} longer than {k}", "its words longer than {k}", "[v for v in {x} if len(v) > {k}]"),
    Step("lengths", "words", "ints", "the length of each word of {x}", "the length of each word", "[len(v) for v in {x}]"),
    Step("join", "words", "str", "the words of {x} joined by '{c}'", "joined by '{c}'", "'{c}'.join({x})"),
    Step("number", "words", "int", "the number of words in {x}", "its number of words", "len({x})"),
]

TESTS = [
    Step("even", "int", "bool", "{x} is even", "", "{a} % 2 == 0"),
    Step("odd", "int", "bool", "{x} is odd", "", "{a} % 2 == 1"),
    Step("negative", "int", "bool", "{x} is negative", "", "{a} < 0"),
    Step("over", "int", "bool", "{x} is over {k}", "", "{a} > {k}"),
    Step("less", "int", "bool", "{x} is less than {k}", "", "{a} < {k}"),
    Step("multiple", "int", "bool", "{x} is a multiple of {k}", "", "{a} % {k} == 0"),
    Step("starts", "str", "bool", "{x} starts with '{c}'", "", "{a}.startswith('{c}')"),
    Step("ends", "str", "bool", "{x} ends with '{c}'", "", "{a}.endswith('{c}')"),
    Step("has", "str", "bool", "{x} contains '{c}'", "", "'{c}' in {a}"),
    Step("long", "str", "bool", "{x} is longer than {k}", "", "len({x}) > {k}"),
    Step("holds", "ints", "bool", "{k} stands in {x}", "", "{k} in {a}"),
    Step("many", "ints", "bool", "{x} has over {k} items", "", "len({x}) > {k}"),
]

PARAMETERS = {
    "int": ["n", "x", "k", "num"],
    "str": ["s", "text", "line", "name"],
    "ints": ["xs", "nums", "items", "values"],
    "words": ["words", "parts", "names", "tokens"],
}
SMALL = {"repeat", "head", "tail", "skip", "first_items", "last_items", "longer", "long", "many"}
LETTERS = "aeost-"
WORDS = ["ab", "end", "hey", "oh", "sun"]


@dataclass(frozen=True)
class Part:
    """A step with its constants chosen."""

    step: Step
    constants: tuple[tuple[str, str], ...]

    def said(self, names: list[str], first: bool) -> str:
        phrase = self.step.first if first else self.step.then
        return phrase.format(x=names[0], y=names[-1], **dict(self.constants))

    def code(self, operand: str, names: list[str]) -> str:
        tight = f"({operand})" if binds_loosely(operand) else operand
        return self.step.code.format(x=operand, a=tight, y=names[-1], **dict(self.constants))


@functools.cache
def binds_loosely(expression: str) -> bool:
    loose = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp)
    return isinstance(ast.parse(expression, mode="eval").body, loose)


@dataclass(frozen=True)
class Spec:
    """What a function must do: a chain of parts, or with `test` one of two parts."""

    names: tuple[str, ...]  # its parameters
    parts: tuple[Part, ...]
    test: Part | None = None

    @property
    def takes(self) -> str:
        return self.parts[0].step.takes

    @property
    def slugs(self) -> tuple[str, ...]:
        return tuple(part.step.slug for part in self.parts)

    @property
    def entry_point(self) -> str:
        if self.test is None:
            return "_".join(self.slugs)
        return "_".join((self.slugs[0], "if", self.test.step.slug, "or", self.slugs[1]))

    @property
    def prompt(self) -> str:
        names = list(self.names)
        if self.test is None:
            said = ", then ".join(part.said(names, i == 0) for i, part in enumerate(self.parts))
        else:
            one, two = (part.said(names, True) for part in self.parts)
            said = f"{one} if {self.test.said(names, True)}, else {two}"
        return f'def {self.entry_point}({", ".join(names)}):\n    """Return {said}."""\n'

    def body(self, style: str) -> str:
        """The solution as `inline`, or with the value so far kept in the parameter
        (`reassign`) or in `result`; for a condition, one expression or two returns."""
        names = list(self.names)
        if self.test is not None:
            one, two = (part.code(names[0], names) for part in self.parts)
            asked = self.test.code(names[0], names)
            if style == "inline":
                return f"    return {one} if {asked} else {two}\n"
            return f"    if {asked}:\n        return {one}\n    return {two}\n"
        kept = {"reassign": names[0], "result": "result"}.get(style)
        lines, operand = [], names[0]
        for i, part in enumerate(self.parts):
            operand = part.code(operand, names)
            if kept and i + 1 < len(self.parts):
                lines.append(f"    {kept} = {operand}\n")
                operand = kept
        return "".join(lines) + f"    return {operand}\n"


STYLES = ["inline", "inline", "reassign", "result"]  # drawn with these odds


def draw_part(rng: random.Random, step: Step) -> Part:
    """Choose the constants that the step's code names."""
    highest = 5 if step.slug in SMALL else 9
    c, d = rng.sample(LETTERS, 2)
    drawn = {"k": str(rng.randint(2, highest)), "c": c, "d": d, "w": rng.choice(WORDS)}
    wanted = re.findall(r"\{([kcdw])\}", step.code)
    return Part(step, tuple((key, drawn[key]) for key in dict.fromkeys(wanted)))


def draw_spec(rng: random.Random, n_parts: int, condition: bool = False) -> Spec:
    """A chain of `n_parts`, or a condition with a part on either side."""
    if condition:
        test = rng.choice(TESTS)
        one = rng.choice([s for s in STEPS if s.takes == test.takes])
        two = rng.choice([s for s in STEPS if (s.takes, s.gives) == (one.takes, one.gives) and s is not one] or [one])
        steps = [one, two]
    else:
        test = None
        steps = [rng.choice(STEPS)]
        while len(steps) < n_parts:
            steps.append(rng.choice([s for s in STEPS if s.takes == steps[-1].gives and s is not steps[-1]]))
    kind, _, pair = steps[0].takes.partition(" ")
    names = rng.sample(PARAMETERS[kind], 2 if pair else 1)
    return Spec(tuple(names), tuple(draw_part(rng, s) for s in steps), test and draw_part(rng, test))


def wrong_specs(spec: Spec) -> Iterator[Spec]:
    """The plausible mistakes: a step dropped, two swapped, one taken for its like, a
    constant off, the branches or the test mistaken."""
    parts = spec.parts
    for i, part in enumerate(parts):
        step = part.step
        fits_without = i + 1 == len(parts) or parts[i + 1].step.takes == step.takes
        if spec.test is None and len(parts) > 1 and fits_without and " " not in step.takes:
            yield replace(spec, parts=parts[:i] + parts[i + 1 :])
        for other in STEPS:
            if other is not step and (other.takes, other.gives) == (step.takes, step.gives):
                known = {"k": "3", "c": "a", "d": "e", "w": "ab"} | dict(part.constants)
                wanted = dict.fromkeys(re.findall(r"\{([kcdw])\}", other.code))
                taken = Part(other, tuple((key, known[key]) for key in wanted))
                yield replace(spec, parts=parts[:i] + (taken,) + parts[i + 1 :])
        for off in constants_off(part):
            yield replace(spec, parts=parts[:i] + (off,) + parts[i + 1 :])
        if i + 1 < len(parts) and {step.takes, step.gives, parts[i + 1].step.gives} == {step.takes}:
            yield replace(spec, parts=parts[:i] + (parts[i + 1], part) + parts[i + 2 :])
    if spec.test is not None:
        yield replace(spec, parts=parts[::-1])
        for branch in parts:
            yield replace(spec, parts=(branch,), test=None)
        for off in constants_off(spec.test):
            yield replace(spec, test=off)


def constants_off(part: Part) -> Iterator[Part]:
    for i, (key, value) in enumerate(part.constants):
        if key == "k":
            near = [str(int(value) + by) for by in (-1, 1, 10)]
        else:
            near = [other for other in ("e", "s", "ab", "!") if other != value]
        for other in near:
            yield Part(part.step, part.constants[:i] + ((key, other),) + part.constants[i + 1 :])


# --- judging: what a body does on inputs ------------------------------------------------------

INPUTS = {
    "int": [0, 1, -1, 2, 3, 7, 10, -4, -15, 28, 51, 64, 99, 100, 1234],
    "str": ["", "a", "banana", "Hello World", "  two  spaces ", "level", "Zebra-42", "one two three four", "MiXeD cAsE", "x y z", "the cat sat"],
    "ints": [[], [1], [3, 1, 2], [5, 5, 4], [-1, 0, 1], [10, -20, 30, -40], [2, 4, 6, 8], [7, 3, 9, 1, 8, 2], [12, 45, 31, 8, 60, 27, 33, 2]],
    "words": [[], ["a"], ["pear", "fig", "apple"], ["Sun", "moon", "Sun"], ["to", "be", "or", "not", "to", "be"], ["cat", "horse", "ox", "tiger"]],
}


def near_number(kind: str, k: int) -> list:
    return {
        "int": [k - 1, k, k + 1, -k],
        "str": ["pqrstuvwxyz"[: k + 1]],
        "ints": [[k, 1, k + 1, k - 1, k]],
        "words": [["v" * (k - 1), "v" * k, "v" * (k + 1)]],
    }[kind]


def near_text(kind: str, c: str) -> list:
    return {
        "int": [],
        "str": [f"{c}o{c}{c} un{c}it", f"A{c}", f"ba{c}"],
        "ints": [],
        "words": [[f"p{c}q", "rs", c]],
    }[kind]


def inputs_of(spec: Spec) -> list[tuple]:
    """Argument tuples: the kind's edge cases, then some near the spec's constants."""
    kind, _, pair = spec.takes.partition(" ")
    pool = list(INPUTS[kind])
    for part in (*spec.parts, *([spec.test] if spec.test else [])):
        for key, value in part.constants:
            near = near_number(kind, int(value)) if key == "k" else near_text(kind, value)
            pool += [x for x in near if x not in pool]
    if not pair:
        return [(x,) for x in pool]
    return list(zip(pool, pool[3:] + pool[:3])) + list(zip(pool[4:], pool))


def run_body(spec: Spec, body: str, inputs: list[tuple]) -> list[str]:
    """What the function returns on each input, as its literal, or the error's name."""
    scope: dict = {}
    exec(f"def candidate({', '.join(spec.names)}):\n{body}", scope)
    shown = []
    for arguments in inputs:
        try:
            shown.append(repr(scope["candidate"](*copy.deepcopy(arguments))))
        except Exception as error:  # noqa: BLE001 - the name of any failure is the answer here
            shown.append(type(error).__name__)
    return shown


def is_literal(shown: str) -> bool:
    return not shown.endswith("Error")


# --- the suite ----------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "datasets/micro/processed/test.jsonl"
SEED = 20
# How many problems of each grade; "new": with a pair of steps that no training program has.
GRADES = [("one step", 4), ("two steps", 6), ("two steps, new", 12), ("condition", 18), ("three steps, new", 22)]


def held_out(spec: Spec) -> bool:
    """Whether the spec has a combination that is kept from the corpus (one in six)."""
    if spec.test is not None:
        combinations = [(spec.test.step.slug, slug) for slug in spec.slugs]
    else:
        combinations = list(zip(spec.slugs, spec.slugs[1:]))
    digests = [hashlib.sha256("+".join(pair).encode()).digest() for pair in combinations]
    return any(digest[0] % 6 == 0 for digest in digests)


def asserts_of(spec: Spec, at_least: int = 7) -> list[str] | None:
    """Asserts that the right body passes and every plausible mistake fails, or None where a
    mistake cannot be told apart or hardly any input matters (a step has no effect)."""
    inputs = inputs_of(spec)
    right = run_body(spec, spec.body("inline"), inputs)
    usable = [i for i, shown in enumerate(right) if is_literal(shown) and len(shown) < 90]
    wrong = [run_body(spec, other.body("inline"), inputs) for other in wrong_specs(spec)]
    wrong.append(["None"] * len(inputs))
    if len({right[i] for i in usable}) < 3 or any(all(m[i] == right[i] for i in usable) for m in wrong):
        return None
    chosen = usable[:3]  # the edge cases
    alive = [m for m in wrong if all(m[i] == right[i] for i in chosen)]
    while alive or len(chosen) < at_least:
        rest = [i for i in usable if i not in chosen]
        if not rest:
            return None
        best = max(rest, key=lambda i: sum(m[i] != right[i] for m in alive))
        chosen.append(best)
        alive = [m for m in alive if m[best] == right[best]]
    called = {i: ", ".join(map(repr, inputs[i])) for i in chosen}
    return [f"    assert candidate({called[i]}) == {right[i]}\n" for i in sorted(chosen)]


def make_suite() -> list[dict]:
    rng = random.Random(SEED)
    rows, used = [], set()
    for grade, wanted in GRADES:
        made = 0
        while made < wanted:
            n_parts = {"one": 1, "two": 2, "three": 3}.get(grade.split()[0], 2)
            spec = draw_spec(rng, n_parts, grade == "condition")
            if grade != "condition" and held_out(spec) != grade.endswith("new"):
                continue
            asserts = asserts_of(spec)
            if asserts is None or spec.entry_point in used:
                continue
            used.add(spec.entry_point)
            rows.append(
                {
                    "instruction": spec.prompt,
                    "input": "",
                    "output": spec.body("inline" if n_parts < 3 else "result"),
                    "task_id": f"micro/{len(rows)}",
                    "metadata": {
                        "source": "micro",
                        "test": "def check(candidate):\n" + "".join(asserts),
                        "entry_point": spec.entry_point,
                        "has_tests": True,
                    },
                }
            )
            made += 1
    return rows


def program_of(row: dict, completion: str) -> str:
    meta = row["metadata"]
    return f"{row['instruction']}{completion}\n{meta['test']}\ncheck({meta['entry_point']})"


JUDGE = r"""
import json, resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
def late(*_): raise TimeoutError
sys.stdout = None  # what a program prints is nobody's business
signal.signal(signal.SIGALRM, late)
for line in sys.stdin:
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        exec(json.loads(line), {"__name__": "judged"})
        passed = True
    except BaseException:
        passed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(passed), file=sys.__stdout__, flush=True)
"""


def judge(programs: list[str]) -> list[bool]:
    """Run each program in one child process, a second each. No jail: this is for what a
    model trained on the corpus below writes; passk judges in earnest."""
    lines = "".join(json.dumps(program) + "\n" for program in programs)
    done = subprocess.run([sys.executable, "-I", "-c", JUDGE], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def command_suite(_: argparse.Namespace) -> None:
    rows = make_suite()
    write_text(SUITE, "".join(json.dumps(row) + "\n" for row in rows))
    right = judge([program_of(row, row["output"]) for row in rows])
    blank = judge([program_of(row, "    pass\n") for row in rows])
    digest = hashlib.sha256(SUITE.read_bytes()).hexdigest()
    print(f"{len(rows)} problems, {sum(right)} canonical solutions pass, {sum(blank)} of `pass` pass\nsha256 {digest}")


def read_suite() -> list[dict]:
    return [json.loads(line) for line in SUITE.read_text(encoding="utf-8").splitlines()]


# --- the corpus and its tokenizer ------------------------------------------------------------------

N_BASE, N_VALIDATION, N_TUNING = 8000, 300, 2000
MIX = {"one": 0.12, "two": 0.45, "three": 0.13, "condition": 0.30}
BOS, EOS = 0, 1


@dataclass(frozen=True)
class Example:
    prompt: str
    right: str  # a solution
    wrong: str  # a body that does something else; only the value model reads it


@dataclass(frozen=True)
class Corpus:
    base: list[Example]  # for the base model and the tokenizer
    held_back: list[Example]  # for validation losses
    tuning: list[Example]  # for the four pipelines


def make_corpus() -> Corpus:
    """Programs of the language. No prompt stands twice, none stands in the suite, and none has
    a combination that is held out."""
    rng = random.Random(SEED + 1)
    seen = {row["instruction"] for row in read_suite()}
    examples: list[Example] = []
    while len(examples) < N_BASE + N_VALIDATION + N_TUNING:
        kind = rng.choices(list(MIX), list(MIX.values()))[0]
        spec = draw_spec(rng, {"one": 1, "three": 3}.get(kind, 2), kind == "condition")
        if spec.prompt in seen or held_out(spec):
            continue
        seen.add(spec.prompt)
        inputs = inputs_of(spec)
        right = spec.body(rng.choice(STYLES))
        does = run_body(spec, right, inputs)
        mistakes = list(wrong_specs(spec))
        rng.shuffle(mistakes)
        for mistake in mistakes:
            wrong = mistake.body(rng.choice(STYLES))
            if run_body(spec, wrong, inputs) != does:
                examples.append(Example(spec.prompt, right, wrong))
                break
    rest = examples[N_BASE:]
    return Corpus(examples[:N_BASE], rest[:N_VALIDATION], rest[N_VALIDATION:])


def train_tokenizer(examples: list[Example], vocab_size: int) -> Tokenizer:
    """Byte-level BPE on prompts and solutions apart, so that no merge crosses their border."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for e in examples for text in (e.prompt, e.right)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


@dataclass
class Batch:
    """Sequences `<s>` prompt solution `</s>`, padded on the right with `</s>`."""

    ids: Tensor  # (B, T)
    solution: Tensor  # (B, T) bool: the tokens of the solution and its `</s>`
    index: list[int]  # where in the corpus each row stands


class Sequences:
    """A corpus as token ids, prompts and solutions encoded apart as the sampler sees them."""

    def __init__(self, tokenizer: Tokenizer, texts: list[tuple[str, str]]) -> None:
        self.rows = []
        for prompt, body in texts:
            head = tokenizer.encode(prompt).ids
            tail = tokenizer.encode(body, add_special_tokens=False).ids + [EOS]
            self.rows.append((head, tail))

    @classmethod
    def right(cls, tokenizer: Tokenizer, examples: list[Example]) -> Sequences:
        return cls(tokenizer, [(e.prompt, e.right) for e in examples])

    def batch(self, index: list[int]) -> Batch:
        longest = max(len(head) + len(tail) for head, tail in (self.rows[i] for i in index))
        length = 8 * math.ceil(longest / 8)
        ids = torch.full((len(index), length), EOS)
        solution = torch.zeros((len(index), length), dtype=torch.bool)
        for b, i in enumerate(index):
            head, tail = self.rows[i]
            ids[b, : len(head) + len(tail)] = torch.tensor(head + tail)
            solution[b, len(head) : len(head) + len(tail)] = True
        return Batch(ids, solution, index)

    def batches(self, size: int, rng: random.Random | None = None) -> Iterator[Batch]:
        """Once through, like lengths together; in random order if `rng` is given."""
        order = list(range(len(self.rows)))
        if rng:
            rng.shuffle(order)
        order.sort(key=lambda i: (len(self.rows[i][0]) + len(self.rows[i][1])) // 8)
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        if rng:
            rng.shuffle(groups)
        for group in groups:
            yield self.batch(group)


# --- the four objectives -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """Settings of one run of AdamW."""

    epochs: int
    learning_rate: float
    warmup_steps: int
    batch_size: int = 16
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = SEED


BASE = Training(epochs=3, learning_rate=3e-3, warmup_steps=100)
TUNING = Training(epochs=3, learning_rate=1e-3, warmup_steps=30)
VALUE = replace(TUNING, epochs=3)


def token_losses(model: MtpLlama, batch: Batch, n_heads: int | None = None) -> Tensor:
    """Cross-entropy of every head on every solution token: (H, M), M such tokens in all.

    Head h reads position t - 1 - h to predict token t.
    """
    trunk = model.trunk(batch.ids)  # (B, T, D)
    rows, columns = batch.solution.nonzero(as_tuple=True)  # (M), (M)
    targets = batch.ids[rows, columns]  # (M)
    losses = []
    for h in range(n_heads or model.params.n_future_tokens):
        logits = model.head(h, trunk, at=(rows, columns - 1 - h))  # (M, V)
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
    return torch.stack(losses)


# An objective gives each solution token of a batch its weight: (H, M) losses -> (M).
Weights = Callable[[Batch, Tensor], Tensor]


def every_token_alike(batch: Batch, losses: Tensor) -> Tensor:
    """baseline and critic: 1/H sum over heads of the mean cross-entropy."""
    return torch.ones(losses.shape[1])


def advantage_weights(model: MtpLlama, corpus: Sequences, lam: float = 0.95, beta: float = 1.0) -> Weights:
    """verifiable: w = clip(exp(A / beta), 0.1, 3), A whitened over the corpus.

    A_t = sum_l (gamma lam)^l delta_{t+l} (generalised advantage estimation, Schulman et al.
    2016) with delta_t = gamma V_t - V_{t-1} and gamma = 1: what token t did to the value.
    """
    advantages: dict[int, Tensor] = {}
    with torch.no_grad():
        for batch in corpus.batches(256):
            values = model.value(batch.ids)  # (B, T)
            for b, i in enumerate(batch.index):
                places = batch.solution[b].nonzero().squeeze(-1)
                deltas = values[b, places] - values[b, places - 1]
                running, backwards = 0.0, []
                for delta in reversed(deltas.tolist()):
                    running = delta + lam * running
                    backwards.append(running)
                advantages[i] = torch.tensor(backwards[::-1])
    spread = torch.cat(list(advantages.values()))
    mean, deviation = spread.mean(), spread.std()

    def weights(batch: Batch, losses: Tensor) -> Tensor:
        whitened = (torch.cat([advantages[i] for i in batch.index]) - mean) / deviation
        return (whitened / beta).exp().clip(0.1, 3.0)

    return weights


def excess_loss_weights(reference: MtpLlama, corpus: Sequences, keep: float = 0.6) -> Weights:
    """rho1: only the tokens whose loss most exceeds the reference's (Lin et al. 2024).

    The excess is head 0's; the chosen tokens then count for every head.
    """
    known: dict[int, Tensor] = {}
    with torch.no_grad():
        for batch in corpus.batches(256):
            losses = token_losses(reference, batch, n_heads=1)[0]
            for i, part in zip(batch.index, losses.split(batch.solution.sum(1).tolist())):
                known[i] = part

    def weights(batch: Batch, losses: Tensor) -> Tensor:
        excess = losses[0].detach() - torch.cat([known[i] for i in batch.index])
        chosen = excess.topk(round(keep * len(excess))).indices
        return torch.zeros_like(excess).index_fill(0, chosen, 1 / keep)

    return weights


def optimizer_of(model: nn.Module, training: Training, n_steps: int) -> tuple[torch.optim.AdamW, Callable[[], None]]:
    """AdamW, and what to do after each backward pass: clip, step, linear warm-up then cosine
    to a tenth."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, betas=(0.9, 0.95), weight_decay=training.weight_decay
    )
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        cosine = 0.55 + 0.45 * math.cos(math.pi * done / n_steps)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * min(done / training.warmup_steps, cosine)
        nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return optimizer, step


SAVED_DTYPE = torch.bfloat16


def as_saved(model: MtpLlama) -> MtpLlama:
    """A copy whose weights went through the checkpoint's dtype, back in f32."""
    saved = MtpLlama(model.params, model.value_head is not None)
    saved.load_state_dict({name: weight.to(SAVED_DTYPE) for name, weight in model.state_dict().items()})
    return saved


def validation(model: MtpLlama, corpus: Sequences) -> dict[str, float]:
    """Mean cross-entropy of all heads and of head 0 on held-back programs, weights as saved."""
    model = as_saved(model)
    with torch.no_grad():
        losses = torch.cat([token_losses(model, batch) for batch in corpus.batches(128)], dim=1)
    return {"val_loss": losses.mean().item(), "val_loss_head0": losses[0].mean().item()}


def train_lm(
    model: MtpLlama,
    corpus: Sequences,
    held_back: Sequences,
    weights: Weights,
    training: Training,
    after_epoch: Callable[[int, torch.optim.AdamW, dict, dict], None] = lambda *_: None,
) -> None:
    """Minimise 1/H sum_h mean_t w_t CE(head_h, y_t); report after each epoch."""
    rng = random.Random(training.seed)
    n_batches = math.ceil(len(corpus.rows) / training.batch_size)
    optimizer, step = optimizer_of(model, training, training.epochs * n_batches)
    for epoch in range(1, training.epochs + 1):
        began, total = time.time(), 0.0
        for batch in corpus.batches(training.batch_size, rng):
            losses = token_losses(model, batch)
            loss = (losses * weights(batch, losses)).mean()
            loss.backward()
            step()
            total += loss.item()
        train_metrics = {"train_loss": total / n_batches}
        val_metrics = validation(model, held_back)
        shown = [f"{name} {value:.4f}" for name, value in {**train_metrics, **val_metrics}.items()]
        print(f"  epoch {epoch}", *shown, f"{time.time() - began:.0f} s", flush=True)
        after_epoch(epoch, optimizer, train_metrics, val_metrics)


def train_value(model: MtpLlama, right: Sequences, wrong: Sequences, training: Training) -> None:
    """Pairwise: -log sigma(V(right) - V(wrong)), V the mean over the solution's tokens."""
    rng = random.Random(training.seed)
    n_batches = math.ceil(len(right.rows) / training.batch_size)
    _, step = optimizer_of(model, training, training.epochs * n_batches)
    for epoch in range(1, training.epochs + 1):
        began, total, correct = time.time(), 0.0, 0
        for batch in right.batches(training.batch_size, rng):
            means = []
            for side in (batch, wrong.batch(batch.index)):
                values = model.value(side.ids) * side.solution  # (B, T)
                means.append(values.sum(1) / side.solution.sum(1))  # (B)
            loss = -F.logsigmoid(means[0] - means[1]).mean()
            loss.backward()
            step()
            total += loss.item()
            correct += (means[0] > means[1]).sum().item()
        seconds, loss, accuracy = time.time() - began, total / n_batches, correct / len(right.rows)
        print(f"  epoch {epoch} pair_loss {loss:.4f} pair_accuracy {accuracy:.3f} {seconds:.0f} s", flush=True)


# --- a sampler, to see where the checkpoints stand -------------------------------------------------

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


@torch.no_grad()
def sample(
    model: MtpLlama,
    prompts: list[list[int]],
    n: int,
    temperature: float,
    top_p: float,
    seed: int,
    max_tokens: int = 96,
) -> list[Counter]:
    """n completions of each prompt from head 0, as counts of token sequences.

    At a low temperature most samples share their prefix, so a prefix is computed once for
    all samples that have it, and a multinomial draw divides them among the next tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    finished = [Counter() for _ in prompts]
    alive = {(p, ()): n for p in range(len(prompts))}  # (prompt, tokens so far) -> samples
    for _ in range(max_tokens):
        following: Counter = Counter()
        keys = sorted(alive, key=lambda key: len(prompts[key[0]]) + len(key[1]))
        for chunk in (keys[i : i + 64] for i in range(0, len(keys), 64)):
            rows = [prompts[p] + list(tokens) for p, tokens in chunk]
            ids = nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True)  # (B, T)
            last = torch.tensor([len(r) - 1 for r in rows])
            logits = model.head(0, model.trunk(ids), at=(torch.arange(len(rows)), last))  # (B, V)
            probabilities = (logits / temperature).softmax(-1)
            ordered, tokens_by_rank = probabilities.sort(dim=-1, descending=True, stable=True)
            ordered[ordered.cumsum(-1) - ordered >= top_p] = 0  # the token that crosses stays in
            for b, (p, tokens) in enumerate(chunk):
                ranks = ordered[b].multinomial(alive[p, tokens], replacement=True, generator=generator)
                for token, times in Counter(tokens_by_rank[b, ranks].tolist()).items():
                    if token == EOS:
                        finished[p][tokens] += times
                    else:
                        following[p, (*tokens, token)] += times
        alive = dict(following)
        if not alive:
            break
    for (p, tokens), times in alive.items():
        finished[p][tokens] += times
    return finished


def score(model: MtpLlama, tokenizer: Tokenizer, rows: list[dict], n: int = 20) -> list[int]:
    """How many of n samples solve each problem, at T = 0.2 and top-p 0.95."""
    prompts = [tokenizer.encode(row["instruction"]).ids for row in rows]
    sampled = sample(model, prompts, n, temperature=0.2, top_p=0.95, seed=0)
    cases = [(r, tokens, times) for r, counts in enumerate(sampled) for tokens, times in counts.items()]
    programs = []
    for r, tokens, _ in cases:
        text = tokenizer.decode(prompts[r] + list(tokens))[len(rows[r]["instruction"]) :]
        end = min((text.find(stop) for stop in STOPS if stop in text), default=None)
        programs.append(program_of(rows[r], text[:end]))
    solved = [0] * len(rows)
    for (r, _, times), passed in zip(cases, judge(programs)):
        solved[r] += times * passed
    return solved


# --- the checkpoints ---------------------------------------------------------------------------------

HERE = ROOT / "storage/micro"
MODEL = HERE / "models/micro-mtp"
BASE_WEIGHTS = MODEL / "safetensors/model.safetensors"
PIPELINES = ("baseline", "critic", "verifiable", "rho1")
MICRO = Params(n_kv_heads=4, ffn_dim_multiplier=1.0)  # the defaults, said in full for params.json
KEPT_EPOCHS = {"baseline": (1, 2, 3), "verifiable": (1, 2, 3)}  # beside checkpoint_best.pt


def read_params() -> Params:
    return Params(**json.loads((MODEL / "configs/params.json").read_text(encoding="utf-8")))


def read_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer/tokenizer.json"))


def save_checkpoint(
    path: Path,
    model: MtpLlama,
    optimizer: torch.optim.AdamW,
    epoch: int,
    train_metrics: dict,
    val_metrics: dict,
) -> None:
    """Write the trainers' layout, the optimizer's moments left out for size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = as_saved(model).to(SAVED_DTYPE)
    content = {
        "model_state_dict": half.state_dict(),
        "optimizer_state_dict": {**optimizer.state_dict(), "state": {}},
        "epoch": epoch,
        "train_metrics": train_metrics,
        "val_metrics": val_metrics,
        "config": {
            "model": {
                "path": MODEL.relative_to(ROOT).as_posix(),
                "dtype": "bfloat16",
                "n_future_tokens": model.params.n_future_tokens,
            },
            "training": {"pipeline": path.parent.name, **asdict(TUNING)},
            "dataset": {"name": "micro", "train_programs": N_TUNING, "validation_programs": N_VALIDATION},
        },
        "td_ema_state": None,
    }
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> MtpLlama:
    """The model of a checkpoint, its weights in f32."""
    state = torch.load(path, weights_only=True)["model_state_dict"]
    model = MtpLlama(read_params(), "value_head.weight" in state)
    model.load_state_dict(state)
    return model


def save_base(model: MtpLlama, tokenizer: Tokenizer) -> None:
    """Write the model folder that every checkpoint's `config.model.path` names."""
    write_text(MODEL / "tokenizer/tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_text(MODEL / "configs/params.json", json.dumps(asdict(model.params), indent=2) + "\n")
    (MODEL / "safetensors").mkdir(parents=True, exist_ok=True)
    partial = BASE_WEIGHTS.with_suffix(".partial")
    save_file({name: weight.to(SAVED_DTYPE) for name, weight in model.state_dict().items()}, partial)
    os.replace(partial, BASE_WEIGHTS)


def load_base(value_head: bool = False) -> MtpLlama:
    """The base model; a value head, if wanted, starts with the same weights every time."""
    torch.manual_seed(TUNING.seed)
    model = MtpLlama(read_params(), value_head)
    model.load_state_dict(load_file(BASE_WEIGHTS), strict=not value_head)
    return model


def command_base(_: argparse.Namespace) -> None:
    corpus = make_corpus()
    tokenizer = train_tokenizer(corpus.base, MICRO.vocab_size)
    torch.manual_seed(BASE.seed)
    model = MtpLlama(MICRO)
    right, held_back = Sequences.right(tokenizer, corpus.base), Sequences.right(tokenizer, corpus.held_back)
    print("base", flush=True)
    train_lm(model, right, held_back, every_token_alike, BASE)
    save_base(model, tokenizer)


def command_train(arguments: argparse.Namespace) -> None:
    corpus, tokenizer = make_corpus(), read_tokenizer()
    right, held_back = Sequences.right(tokenizer, corpus.tuning), Sequences.right(tokenizer, corpus.held_back)
    print("base", *(f"{k} {v:.4f}" for k, v in validation(load_base(), held_back).items()), flush=True)

    def stage(name: str, model: MtpLlama, weights: Weights) -> None:
        print(name, flush=True)
        folder, best = HERE / "checkpoints" / name, math.inf

        def keep(epoch: int, optimizer: torch.optim.AdamW, train_metrics: dict, val_metrics: dict) -> None:
            nonlocal best
            kinds = [f"epoch_{epoch}"] if epoch in KEPT_EPOCHS.get(name, ()) else []
            if val_metrics["val_loss"] < best:
                best = val_metrics["val_loss"]
                kinds.append("best")
            for kind in kinds:
                save_checkpoint(folder / f"checkpoint_{kind}.pt", model, optimizer, epoch, train_metrics, val_metrics)

        train_lm(model, right, held_back, weights, TUNING, keep)

    wanted = set(arguments.pipeline)
    if "baseline" in wanted:
        stage("baseline", load_base(), every_token_alike)
    if wanted & {"critic", "verifiable"}:
        print("value model", flush=True)
        critic = load_base(value_head=True)
        train_value(critic, right, Sequences(tokenizer, [(e.prompt, e.wrong) for e in corpus.tuning]), VALUE)
        if "verifiable" in wanted:
            stage("verifiable", load_base(), advantage_weights(critic, right))
        if "critic" in wanted:
            stage("critic", critic, every_token_alike)
    if "rho1" in wanted:
        print("reference model", flush=True)
        reference = load_base()
        train_lm(reference, Sequences.right(tokenizer, corpus.tuning[::2]), held_back, every_token_alike, TUNING)
        stage("rho1", load_base(), excess_loss_weights(reference, right))


def command_score(arguments: argparse.Namespace) -> None:
    rows, tokenizer = read_suite(), read_tokenizer()
    counts = {}
    for name in arguments.checkpoint or [f"{p}/checkpoint_best.pt" for p in PIPELINES]:
        c = counts[name] = score(load_checkpoint(HERE / "checkpoints" / name), tokenizer, rows)
        undecided = sum(0 < solved < 20 for solved in c)
        print(f"{name}: pass@1 {sum(c) / 20 / len(c):.4f}, never {c.count(0)}, always {c.count(20)}, {undecided=}")
        first = 0
        for grade, size in GRADES:
            print(f"    {grade}: {sum(c[first : first + size]) / 20 / size:.3f}")
            first += size
    undecided = sum(any(0 < solved < 20 for solved in column) for column in zip(*counts.values()))
    print(f"undecided in some: {undecided} of {len(rows)}")
    if arguments.counts:
        for row, *column in zip(rows, *counts.values()):
            print(row["task_id"], row["metadata"]["entry_point"], *column)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    commands.add_parser("suite", help="write the problems").set_defaults(run=command_suite)
    commands.add_parser("base", help="train tokenizer and base model").set_defaults(run=command_base)
    trainer = commands.add_parser("train", help="train the pipelines from the base model")
    trainer.add_argument("pipeline", nargs="*", default=PIPELINES, help="only these")
    trainer.set_defaults(run=command_train)
    scorer = commands.add_parser("score", help="sample and judge the suite, 20 samples each")
    scorer.add_argument("checkpoint", nargs="*", help="below storage/micro/checkpoints; each checkpoint_best.pt")
    scorer.add_argument("--counts", action="store_true", help="print each problem's count")
    scorer.set_defaults(run=command_score)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
