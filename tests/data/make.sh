#!/usr/bin/env bash
# Writes the fixtures of checkpoints and tokenizers anew, with the versions that wrote them (a maintainer's tool).
# The environment is made on the first run; PASSK_VENV says where. Checkpoints come out byte for byte as they are
# committed, but for the order of metadata in .safetensors; tokenizer/ is trained on this repository's own texts, and differs when they have changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${PASSK_VENV:-$HOME/.cache/passk-venvs/checkpoints}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet \
  torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3 sentencepiece==0.2.3 numpy==2.4.6
for script in checkpoints/make.py checkpoints/variants.py tokenizer/make.py; do
  "$venv/bin/python" "tests/data/$script"
done
