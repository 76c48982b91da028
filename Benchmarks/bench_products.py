#!/usr/bin/env python3
"""Compares the speed of our own blocked matrix product with OpenBLAS on one thread.

    Benchmarks/bench_products.py [--rounds 21]

The two alternate, and each row shows medians of CPU time. The columns are the size (rows x columns x inner dimension),
which factors are transposed, the speed of OpenBLAS, our speed, and the ratio of the two. Needs libopenblas0, and the
clang that comes with Swift.
"""

import argparse
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    sources = ROOT / "Sources/CRWKVKernels"
    with tempfile.TemporaryDirectory() as directory:
        program = f"{directory}/products"
        subprocess.run(["clang", "-O2", "-std=gnu17", "-I", sources / "include", ROOT / "Benchmarks/products.c",
                        *sorted(sources.glob("*.c")), "-lm", "-ldl", "-o", program], check=True)
        for instruction_set, core in (("avx512", "SkylakeX"), ("avx2", "Haswell"), ("baseline", "Nehalem")):
            for bits in ("32", "64"):
                if subprocess.run([program, instruction_set, core, bits, str(rounds)]).returncode == 69:
                    print(f"cannot run {instruction_set}: no such instructions, no libopenblas.so.0, or "
                          "--rounds beyond 101")


if __name__ == "__main__":
    main()
