#!/usr/bin/env python3
"""Compares the speed of `rwkv-ckpt distill` with the same training steps in PyTorch (fixtures/distill_twin.py).

    swift build -c release
    python3 -m venv VENV && VENV/bin/pip install torch transformers safetensors numpy
    VENV/bin/python Benchmarks/bench_distill.py [--tool TOOL] [--rounds 5] [--threads 1] [--mkl-avx512 LIBRARY] [--directory DIR]

The teacher is a random Qwen3 with four layers, 256 wide; its student has time mixing in all layers. Both stages are
timed, with steps of 4 sequences of 256 tokens. Each measurement runs a process for many steps and one for few, and
divides the difference of their times by the difference in steps, which excludes start-up. Processes run in the order A B
C A B C .... Times are CPU time with one thread, and wall-clock time with several, which needs an otherwise idle machine.

The twin computes the recurrence in four ways: in chunks; in chunks with compiled layers, which needs a C++ compiler;
with a plain loop over tokens; and with a loop that is as fast as we could make it. All must give the same losses.
--mkl-avx512 also measures the twin with LIBRARY preloaded, which the docstring of distill_twin.py describes.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TWIN = pathlib.Path(__file__).resolve().parents[1] / "fixtures/distill_twin.py"
BATCH, CONTEXT, FEW, MANY = 4, 256, 5, 85
RATES = {1: 2e-3, 2: 3e-4}
FORMS = {"chunks": ["--chunk", 32],  # The fastest chunk length of 16, 32 and 64.
         "chunks, compiled": ["--chunk", 32, "--compile"], "loop": ["--wkv", "loop"], "best loop": ["--wkv", "best-loop"]}


# Files. A child process imports PyTorch: a forked process inherits its parent's peak memory, so the parent stays small.


def make_teacher(directory):
    import numpy
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
        vocab_size=1024, tie_word_embeddings=True, dtype="float32")
    Qwen3ForCausalLM(config).save_pretrained(directory / "teacher")
    numpy.save(directory / "tokens.npy", numpy.random.default_rng(0).integers(0, 1024, (64, CONTEXT)).astype(numpy.uint16))


def made(directory, tool):
    """Returns the directory with the models and tokens, and makes it if necessary.

    The directory gets its final name only when it is complete.
    """
    path, part = directory / "distillation", directory / f"part-{os.getpid()}"
    if not path.exists():
        part.mkdir(parents=True)
        process = multiprocessing.get_context("fork").Process(target=make_teacher, args=(part,))
        process.start()
        process.join()
        if process.exitcode != 0:
            sys.exit(f"cannot make the models in {directory}")
        run([tool, "plan", part / "teacher", "--target", "hxa079", "--keep-gqa", "none", "--seed", 1, "-o", part / "plan.json"])
        run([tool, "convert", part / "teacher", "--plan", part / "plan.json", "-o", part / "student"])
        part.rename(path)
    return path


# Measurements.


def run(command, **environment):
    """Runs a command and returns its output, its CPU and wall-clock seconds, and its peak memory in bytes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        environment = os.environ | {name: str(value) for name, value in environment.items()}
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), errors.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: {process.returncode}\n{errors.read()}")
        return out.read(), {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "peak": usage.ru_maxrss * 1024}


def ours(options, models, stage, steps):
    output = models.with_name("distilled")
    _, taken = run([options.tool, "distill", models / "teacher", models / "student", "--stage", stage, "--tokens-file", models / "tokens.npy",
                    "--batch", BATCH, "--context", CONTEXT, "--seed", 1, "--steps", steps, "--learning-rate", RATES[stage],
                    "--threads", options.threads, "-o", output, "--force"])
    return (output / "log.jsonl").read_text(), taken


def twin(options, models, stage, form, library, steps):
    environment = {"OMP_NUM_THREADS": options.threads, "TORCHINDUCTOR_CACHE_DIR": models.with_name("compiled"), "TORCHINDUCTOR_COMPILE_THREADS": 1}
    environment |= {"LD_PRELOAD": library} if library else {}
    return run([sys.executable, TWIN, models / "teacher", models / "student", "--stage", stage, "--tokens", models / "tokens.npy",
                "--batch", BATCH, "--context", CONTEXT, "--seed", 1, "--steps", steps, "--rate", RATES[stage], *form], **environment)


def measure(call):
    """Returns the CPU and wall-clock seconds per step, the peak memory in bytes, and the losses of the first FEW steps."""
    (log, few), (_, many) = call(FEW), call(MANY)
    step = {clock: (many[clock] - few[clock]) / (MANY - FEW) for clock in ("cpu", "wall")}
    return step | {"peak": many["peak"], "losses": [json.loads(line)["loss"] for line in log.splitlines()]}


def compare(options, models, stage):
    calls = {"ours": functools.partial(ours, options, models, stage)}
    for library in dict.fromkeys([None, options.mkl_avx512]):
        for name, form in FORMS.items():
            calls[name + (", AVX-512" if library else "")] = functools.partial(twin, options, models, stage, form, library)
    for name, call in calls.items():
        if "compiled" in name:  # Fills the cache of compiled code before the first round.
            call(FEW)
    load, clock = os.getloadavg()[0], "cpu" if options.threads == 1 else "wall"
    rounds = [{name: measure(call) for name, call in calls.items()} for _ in range(options.rounds)]
    first = rounds[0]["ours"]["losses"]
    error = max(abs(x / y - 1) for name in calls for x, y in zip(rounds[0][name]["losses"], first))
    print(f"\nstage {stage}, {BATCH} x {CONTEXT} tokens, {options.threads} thread{'s' * (options.threads > 1)}: median of {options.rounds} rounds "
          f"of {MANY - FEW} steps, {clock} time; torch {importlib.metadata.version('torch')}; load {load:.2f} at the start, "
          f"{os.getloadavg()[0]:.2f} at the end, {os.cpu_count()} processors; "
          f"losses of {FEW} steps agree to {error:.0e}")
    print(f"  {'':25} {'per step':>10} {'tokens/s':>9} {'peak':>8}   twin / ours")
    for name in calls:
        seconds, peak = statistics.median(r[name][clock] for r in rounds), max(r[name]["peak"] for r in rounds)
        ratios = [r[name][clock] / r["ours"][clock] for r in rounds]
        print(f"  {name:25} {seconds * 1e3:7.1f} ms {BATCH * CONTEXT / seconds:9.0f} {peak / 1e6:5.0f} MB   "
              f"x{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})", flush=True)
    if error > 1e-3:
        sys.exit("the losses differ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=pathlib.Path(__file__).resolve().parents[1] / ".build/release/rwkv-ckpt", type=pathlib.Path)
    parser.add_argument("--directory", default=None, help="where to keep the models (default: a temporary directory)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mkl-avx512", metavar="LIBRARY", type=pathlib.Path)
    options = parser.parse_args()
    options.tool = options.tool.resolve()
    if options.mkl_avx512:
        options.mkl_avx512 = options.mkl_avx512.resolve(strict=True)  # Fails if it is missing; the loader would only warn.
    with contextlib.nullcontext(options.directory) if options.directory else tempfile.TemporaryDirectory() as directory:
        models = made(pathlib.Path(directory).resolve(), options.tool)
        for stage in RATES:
            compare(options, models, stage)


main()
