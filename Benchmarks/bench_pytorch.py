#!/usr/bin/env python3
"""Compares the speed of `rwkv-ckpt inspect` with torch.load(mmap=True) in listing a 3 GB PyTorch checkpoint.

    scripts/install PREFIX && python3 -m venv VENV && VENV/bin/pip install torch numpy
    VENV/bin/python Benchmarks/bench_pytorch.py PREFIX/bin/rwkv-ckpt [--runs 7] [--directory DIR]

Processes run in the order A B A B ... after one run of each that is not counted, and their output is discarded. The
first comparison is with the whole Python process. The second is only with loading and listing, timed inside Python,
without the start of Python and the import of torch. Needs GNU time, and 3 GB of disk space in DIR.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch

LIST = """
import sys, time, torch
start = time.perf_counter()
for name, tensor in torch.load(sys.argv[1], mmap=True, weights_only=True).items():
    print(name, tensor.dtype, list(tensor.shape))
print(time.perf_counter() - start, file=sys.stderr)
"""


def measure(command):
    """Runs a command and returns its wall-clock seconds, its peak resident memory in MB and its standard error."""
    with tempfile.NamedTemporaryFile("r") as report:
        start = time.perf_counter()
        result = subprocess.run(
            ["/usr/bin/time", "-o", report.name, "-f", "%M", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, check=True)
        return time.perf_counter() - start, float(report.read()) * 1024 / 1e6, result.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tool")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    tool = str(pathlib.Path(options.tool).resolve())
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = f"{directory}/model.pth"
        torch.save({f"blocks.{i // 20}.att.w{i % 20}.weight": torch.zeros(2560, 2048, dtype=torch.bfloat16) for i in range(300)}, path)
        ours = [tool, "inspect", "--tensors", path]
        peer = [sys.executable, "-c", LIST, path]
        measure(ours), measure(peer)
        rows = [(measure(ours), measure(peer)) for _ in range(options.runs)]
        median = lambda values: statistics.median(values)
        print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} processors; median of {options.runs} pairs, {os.path.getsize(path) / 1e9:.2f} GB, 300 tensors")
        for title, peers in (
            ("torch.load(mmap=True), whole process", [b[0] for _, b in rows]),
            ("torch.load(mmap=True), without start-up", [float(b[2].split()[-1]) for _, b in rows]),
        ):
            ratios = [b / a[0] for (a, _), b in zip(rows, peers)]
            print(f"{title:40} {median([a[0] for a, _ in rows]) * 1e3:8.1f} ms {median(peers) * 1e3:9.1f} ms   x{median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})")
        print(f"peak {max(a[1] for a, _ in rows):.1f} MB, torch {max(b[1] for _, b in rows):.1f} MB")


main()
