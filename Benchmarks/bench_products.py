#!/usr/bin/env python3
"""Times our own blocked matrix product beside OpenBLAS, one thread, in one run: the processor's seconds, medians of both in turn.

    Benchmarks/bench_products.py [--rounds 21]

Columns: rows x columns x inner elements, which factors are transposed, OpenBLAS, ours, ours as a multiple of OpenBLAS.
Wants libopenblas0, and clang as Swift brings it.
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
                    print(f"this processor has no {instruction_set}")


if __name__ == "__main__":
    main()
