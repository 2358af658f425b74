#!/usr/bin/env python3
"""Write the SentencePiece fixtures beside this file (a maintainer's tool; see ../make.sh).

tokenizer.model      trained on the repository's own sources with LLaMA's settings, 600 pieces
texts.json.gz        2 000 texts and the ids that SentencePiece gives them
"""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path

import sentencepiece as spm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def corpus() -> list[str]:
    lines = []
    for pattern in ("storage/micro/train.py", "src/jail/runner.py", "tests/data/checkpoints/make.py", "README.md", "ARCHITECTURE.md"):
        lines += (ROOT / pattern).read_text().splitlines()
    return [line for line in lines if line] * 2 + [" " * n + "x" for n in range(1, 40) for _ in range(6)]


def train() -> spm.SentencePieceProcessor:
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, model_type="bpe", vocab_size=600,
        # LLaMA's: nothing rewritten, no space lost, digits one by one, bytes for what has no piece
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, byte_fallback=True,
        split_digits=True, allow_whitespace_only_pieces=True, max_sentencepiece_length=32, num_threads=1,
        user_defined_symbols=["<|mark|>", "<|mark|>er"], minloglevel=2,
    )  # fmt: skip
    (HERE / "tokenizer.model").write_bytes(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def texts() -> list[str]:
    rng = random.Random(11)
    lines = [line for line in corpus() if line.strip()]
    scripts = ["가나다라마바사", "λόγος", "данные", "日本語", "العربية", "😀👩‍💻🇰🇷", "e\u0301a\u0308", "\ufeff\u200b\u00a0\u3000", "▁▁", "ﬁﬀⅫ①"]
    controls = [chr(c) for c in (0, 1, 7, 8, 9, 10, 11, 12, 13, 27, 31, 127, 0x85, 0x2028, 0xFFFD, 0x10FFFF)]
    marks = ["<s>", "</s>", "<unk>", "<0x0A>", "<|mark|>", "<|mark|>er", " <|mark|> ", "<|mark", "|>"]
    found = {"", " ", "  ", "\n", "\t", "▁", " ▁ ", "\n\n    ", "a" * 300, " " * 300, "0" * 40, "=" * 79, "    " * 33 + "return x"}
    kinds = [
        lambda: rng.choice(lines),
        lambda: "\n".join(rng.sample(lines, 3)),
        lambda: " " * rng.randrange(1, 70) + rng.choice(lines).strip(),
        lambda: "".join(rng.choice(scripts) + " " * rng.randrange(3) for _ in range(4)),
        lambda: "".join(rng.choice(controls) + rng.choice(["", "x", " ", "def f():"]) for _ in range(6)),
        lambda: "".join(rng.choice(marks) + rng.choice(["", " ", "text", "  "]) for _ in range(4)),
        lambda: "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xA0, 0xD800), rng.randrange(0xE000, 0x30000)])) for _ in range(20)),
        lambda: "".join(rng.choice("ab =_(),.\n    ") for _ in range(60)),
        lambda: "".join(rng.choice([" ", "  ", "   ", "x", "=", "==", "\t"]) for _ in range(40)),
        lambda: "".join(rng.choice("0123456789-+*/ ") for _ in range(30)),
    ]
    while len(found) < 2000:
        found.add(rng.choice(kinds)()[:400])
    return sorted(found)


def main() -> None:
    model = train()
    cases = [[text, model.encode(text)] for text in texts()]
    # Without a time inside, so that the same texts are the same bytes.
    packed = gzip.compress(json.dumps(cases, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
    (HERE / "texts.json.gz").write_bytes(packed)
    print(f"{len(cases)} texts, {sum(len(ids) for _, ids in cases)} ids, {len(packed)} bytes, {model.vocab_size()} pieces")


if __name__ == "__main__":
    main()
