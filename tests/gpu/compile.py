#!/usr/bin/env python3
"""Compile src/model/device/kernels.cu with NVRTC as passk does at run time, for every element type: no GPU is needed.

    python3 tests/gpu/compile.py LIBNVRTC
"""

import ctypes
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src/model/device/kernels.cu"
KERNELS = ["add", "rms_norm", "swiglu", "store", "attention", "draw"]


def compile(nvrtc, element: str, pack: int, head_dim: int) -> str:
    program = ctypes.c_void_p()
    source = SOURCE.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    options = ["--gpu-architecture=compute_80", "--fmad=false", "--std=c++17"]
    options += [f"-DELEMENT={element}", f"-DPACK={pack}", f"-DHEAD_DIM={head_dim}"]
    pointers = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), pointers)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if failed or "warning" in log.value.decode():
        sys.exit(f"{element}, head size {head_dim}:\n{log.value.decode()}")
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    return ptx.value.decode()


def main():
    nvrtc = ctypes.CDLL(sys.argv[1])
    for element, width in (("float", 4), ("Half", 2), ("Bfloat", 2)):
        for head_dim in (8, 20, 64, 128):
            pack = next(pack for pack in (8, 4, 2, 1) if head_dim % pack == 0 and pack * width <= 16)
            ptx = compile(nvrtc, element, pack, head_dim)
            missing = [name for name in KERNELS if f".entry {name}(" not in ptx]
            assert not missing, f"{element}: no {missing}"
    print("kernels.cu compiles for f32, f16 and bf16")


main()
