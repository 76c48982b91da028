#!/usr/bin/env python3
"""Compares the speed of `rwkv-ckpt inspect` with the safetensors library, dd and sha256sum.

    scripts/install PREFIX && python3 -m venv VENV && VENV/bin/pip install safetensors numpy
    VENV/bin/python Benchmarks/bench_inspect.py PREFIX/bin/rwkv-ckpt [--runs 7] [--directory DIR]

Processes run in the order A B A B ... after one run of each that is not counted, and their output is discarded. Quote
the median of the ratios of pairs, because absolute times depend mostly on the machine. Needs GNU time, and 2.1 GB of
disk space in DIR; the sparse file of 40 GB takes none.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

LIST = """
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], "np") as file:
    for name in file.keys():
        tensor = file.get_slice(name)
        print(name, tensor.get_dtype(), tensor.get_shape())
"""


def write_checkpoint(path, tensors):
    """Writes a safetensors file with a header for `tensors` and a hole in place of the data.

    Each tensor is a name, a dtype, a shape and a number of bytes. Returns the offset of the data.
    """
    header, offset = {}, 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return 8 + len(text)


def experts(count):
    for i in range(count):
        yield f"model.layers.{i // 384}.mlp.experts.{i % 384 // 3}.{('gate', 'up', 'down')[i % 3]}_proj.weight", "BF16", [64, 64], 8192


def fill_with_weights(path, start):
    """Fills the data of a file with normally distributed bf16 weights whose standard deviation is 0.02."""
    rng = random.Random(1)
    block = b"".join(struct.pack("<f", rng.gauss(0, 0.02))[2:] for _ in range(1 << 20))
    with open(path, "r+b") as file:
        file.seek(start)
        left = os.path.getsize(path) - start
        while left > 0:
            left -= file.write(block[:left])


def measure(command):
    """Runs a command and returns its wall-clock seconds, its CPU seconds and its peak resident memory in MB."""
    with tempfile.NamedTemporaryFile("r") as report:
        start = time.perf_counter()
        subprocess.run(
            ["/usr/bin/time", "-o", report.name, "-f", "%U %S %M", *command], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - start
        user, system, peak = map(float, report.read().split()[-3:])
    return wall, user + system, peak * 1024 / 1e6


def compare(title, ours, peer, runs):
    measure(ours), measure(peer)
    rows = [(measure(ours), measure(peer)) for _ in range(runs)]
    a, b = [row[0] for row in rows], [row[1] for row in rows]
    ratios = [y[0] / x[0] for x, y in rows]
    median = lambda rows, i: statistics.median(row[i] for row in rows)
    print(
        f"{title:34} {median(a, 0) * 1e3:9.1f} ms {median(b, 0) * 1e3:9.1f} ms   x{statistics.median(ratios):6.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f})  peak {max(r[2] for r in a):6.1f} MB {max(r[2] for r in b):6.1f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tool")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    tool = str(pathlib.Path(options.tool).resolve())
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = lambda name: f"{directory}/{name}"
        write_checkpoint(path("thousand"), experts(1000))
        write_checkpoint(path("many"), experts(100_000))
        write_checkpoint(path("sparse"), [(f"layers.{i}.weight", "U8", [40_000_000], 40_000_000) for i in range(1000)])
        write_checkpoint(path("small"), [(f"layers.{i}.weight", "U8", [4], 4) for i in range(1000)])
        fill_with_weights(path("weights"), write_checkpoint(
            path("weights"), [(f"layers.{i}.weight", "BF16", [4096, 4096], 33_554_432) for i in range(64)]))

        print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} processors; median wall time of {options.runs} pairs, ratio peer/ours")
        list_ = lambda name: [sys.executable, "-c", LIST, path(name)]
        inspect = lambda name, *flags: [tool, "inspect", path(name), *flags]
        compare("list 1,000 / safe_open", inspect("thousand", "--tensors"), list_("thousand"), options.runs)
        compare("list 1,000 as JSON / safe_open", inspect("thousand", "--json"), list_("thousand"), options.runs)
        compare("list 100,000 / safe_open", inspect("many", "--tensors"), list_("many"), options.runs)
        compare("list 100,000 as JSON / safe_open", inspect("many", "--json"), list_("many"), options.runs)
        compare("tree of 100,000 / safe_open", inspect("many"), list_("many"), options.runs)
        compare("sparse 40 GB / the same, 4 kB", inspect("sparse"), inspect("small"), options.runs)
        dd = ["dd", f"if={path('weights')}", "of=/dev/null", "bs=8M"]
        pinned = ["taskset", "-c", "0"]
        compare("--stats 2 GB bf16 / dd", inspect("weights", "--stats"), dd, options.runs)
        compare("  one thread / dd", pinned + inspect("weights", "--stats"), pinned + dd, options.runs)
        sha = ["sha256sum", path("weights")]
        compare("--hash 2 GB / sha256sum", inspect("weights", "--hash"), sha, max(3, options.runs // 2))
        compare("  one thread / sha256sum", pinned + inspect("weights", "--hash"), pinned + sha, max(3, options.runs // 2))
        print(f"load {os.getloadavg()[0]:.2f}")


main()
