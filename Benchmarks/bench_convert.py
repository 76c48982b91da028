#!/usr/bin/env python3
"""Compares the speed of `rwkv-ckpt convert` with `cp` followed by fsync and with a typical PyTorch script.

    scripts/install PREFIX && python3 -m venv VENV && VENV/bin/pip install torch numpy safetensors
    VENV/bin/python Benchmarks/bench_convert.py PREFIX/bin/rwkv-ckpt [--runs 5] [--gigabytes 3] [--directory DIR]

Converts an hxa079 student from the rwkv-infer layout to the hf layout in safetensors, first in bf16 and then with a cast
to f16. The PyTorch script calls torch.load, renames the tensors and calls save_file. Each command starts with its input
in the page cache and ends when its output is on disk. Commands run in the order A B C A B C ... after one round that is
not counted. Needs GNU time, and disk space for three times the model in DIR.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import torch

SCRIPT = """
import os, sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
renamed = {}
for name, tensor in state.items():
    for old, new in (("blocks.", "model.layers."), (".att.", ".self_attn."), (".ffn.", ".mlp."), ("emb.", "model.embed_tokens."),
                     ("ln_out.", "model.norm."), ("head.", "lm_head."), (".ln1.", ".input_layernorm."),
                     (".ln2.", ".post_attention_layernorm.")):
        name = name.replace(old, new)
    renamed[name] = tensor.to(torch.float16) if sys.argv[3] == "f16" else tensor
save_file(renamed, sys.argv[2], metadata={"format": "pt"})
file = os.open(sys.argv[2], os.O_RDONLY)
os.fsync(file)
"""


def make(path, gigabytes):
    """Saves a model whose tensors are random slices of one pool of random weights, which is faster to generate."""
    width, heads, kv_heads, head, wide = 2048, 16, 8, 128, 6144
    A, K = heads * head, kv_heads * head
    ranks = {"w": (256, A), "a": (64, A), "v": (64, K), "k": (64, K), "g": (256, A)}
    pool = (0.02 * torch.randn(1 << 26)).bfloat16()
    def tensor(*shape):
        size = torch.Size(shape).numel()
        start = int(torch.randint(0, pool.numel() - size, ())) if size < pool.numel() else 0
        return (pool[start:start + size] if size < pool.numel() else pool.repeat(-(-size // pool.numel()))[:size]).view(shape).clone()
    state = {"emb.weight": tensor(65536, width), "head.weight": tensor(65536, width), "ln_out.weight": tensor(width)}
    layer = 0
    while sum(t.numel() for t in state.values()) * 2 < gigabytes * 1e9:
        p = f"blocks.{layer}."
        state |= {p + "ln1.weight": tensor(width), p + "ln2.weight": tensor(width), p + "ffn.gate.weight": tensor(wide, width),
                  p + "ffn.up.weight": tensor(wide, width), p + "ffn.down.weight": tensor(width, wide),
                  p + "att.receptance.weight": tensor(A, width), p + "att.key.weight": tensor(K, width),
                  p + "att.value.weight": tensor(K, width), p + "att.output.weight": tensor(width, A),
                  p + "att.ln_r.weight": tensor(head), p + "att.ln_k.weight": tensor(head), p + "att.r_k": tensor(heads, head)}
        for letter, (rank, out) in ranks.items():
            state[f"{p}att.{letter}1"], state[f"{p}att.{letter}2"] = tensor(width, rank), tensor(rank, out)
            if letter != "g":
                state[f"{p}att.{letter}0"] = tensor(1, 1, out)
        layer += 1
    torch.save(state, path)


def measure(command, target):
    """Runs a command and returns its wall-clock seconds and its peak resident memory in MB."""
    subprocess.run(["rm", "-rf", target, f"{target}.conversion.json"], check=True)
    subprocess.run(["sync"], check=True)
    with tempfile.NamedTemporaryFile("r") as report:
        start = time.perf_counter()
        subprocess.run(["/usr/bin/time", "-o", report.name, "-f", "%M", *command], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start, float(report.read()) * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tool")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    tool = str(pathlib.Path(options.tool).resolve())
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path, target = f"{directory}/model.pth", f"{directory}/out.safetensors"
        make(path, options.gigabytes)
        size = os.path.getsize(path)
        for kind in ("keep", "f16"):
            commands = {
                "convert": [tool, "convert", path, "-o", target, "--layout", "hf", "--dtype", kind],
                "cp": ["sh", "-c", f"cp {path} {target} && sync {target}"],
                "script": [sys.executable, "-c", SCRIPT, path, target, kind],
            }
            rounds = [{name: measure(command, target) for name, command in commands.items()} for _ in range(options.runs + 1)][1:]
            print(f"{'rename' if kind == 'keep' else 'bf16 to f16'}: load {os.getloadavg()[0]:.2f}, {os.cpu_count()} processors; "
                  f"median of {options.runs} rounds, {size / 1e9:.2f} GB")
            for name in commands:
                times = [r[name][0] for r in rounds]
                ratios = [r[name][0] / r["convert"][0] for r in rounds]
                print(f"  {name:8} {statistics.median(times):6.2f} s ({min(times):.2f}-{max(times):.2f})  {size / 1e9 / statistics.median(times):5.2f} GB/s  "
                      f"peak {max(r[name][1] for r in rounds):7.1f} MB   "
                      f"x{statistics.median(ratios):.2f} the time of convert")


main()
