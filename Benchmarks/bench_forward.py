#!/usr/bin/env python3
"""Times a model's forward pass beside PyTorch's, in one run: a Qwen3 beside transformers, an RWKV-7 beside its author's package.

    swift build -c release --package-path Benchmarks
    python3 -m venv VENV && VENV/bin/pip install torch numpy safetensors transformers rwkv
    VENV/bin/python Benchmarks/bench_forward.py [--rounds 5] [--only qwen3|rwkv7] [--threads 1 2] [--kernels default fast] [--directory DIR]
    VENV/bin/python Benchmarks/bench_forward.py --sparse [--directory DIR]
    VENV/bin/python Benchmarks/bench_forward.py --peer transformers --threads 1 --directory DIR

Random F32 weights in the shapes of Qwen3-0.6B and of RWKV-7 0.1B. Measured: 512 tokens at once, logits of the last alone, and single
tokens after a prompt of 16. Whole processes, A B A B ..., each warmed up inside, the times taken around the calls; the processes' CPU
time is what to look at where others use the machine. Wants 3.2 GB of disk in DIR, which keeps the files, and 8 GB of memory.

--sparse runs one token through 20 GB of BF16 zeros that take no disk, and samples how much of the process is not the mapped file. --peer
is the peer alone, as the rounds start it.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TOKENS, PROMPT, STEPS = 512, 16, 32
MODELS = {"qwen3": ("qwen3-0.6b", "transformers"), "rwkv7": ("rwkv7-0.1b.pth", "rwkv")}


# Files. PyTorch is imported where it is used, so that the process that starts the others stays small.


def make_qwen3(path):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
        vocab_size=151936, tie_word_embeddings=True, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        max_position_embeddings=40960, initializer_range=0.02, dtype="float32")
    Qwen3ForCausalLM(config).save_pretrained(path)


def make_rwkv7(path):
    import torch

    torch.manual_seed(0)
    layers, width, head, wide, vocabulary = 12, 768, 64, 3072, 65536
    ranks = {"w": 64, "a": 64, "v": 32, "g": 128}
    normal = lambda *shape: 0.02 * torch.randn(shape)
    uniform = lambda low, high, *shape: low + (high - low) * torch.rand(shape)
    norm = lambda name: {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    state = {"emb.weight": normal(vocabulary, width)} | norm("blocks.0.ln0")
    for layer in range(layers):
        block, att, ffn = (f"blocks.{layer}.{part}" for part in ("", "att.", "ffn."))
        state |= norm(block + "ln1") | norm(block + "ln2") | norm(att + "ln_x")
        state |= {f"{att}x_{letter}": uniform(0, 1, 1, 1, width) for letter in "rwkvag"}
        for letter, rank in ranks.items():
            if letter == "v" and layer == 0:
                continue
            state[f"{att}{letter}1"], state[f"{att}{letter}2"] = normal(width, rank), normal(rank, width)
            if letter != "g":
                state[f"{att}{letter}0"] = uniform(*((-3, 1) if letter == "w" else (-0.5, 0.5)), 1, 1, width)
        state |= {att + "k_k": uniform(0.6, 0.8, 1, 1, width), att + "k_a": uniform(0.9, 1.1, 1, 1, width),
                  att + "r_k": normal(width // head, head)}
        state |= {f"{att}{name}.weight": normal(width, width) for name in ("receptance", "key", "value", "output")}
        state |= {ffn + "x_k": uniform(0, 1, 1, 1, width), ffn + "key.weight": normal(wide, width), ffn + "value.weight": normal(width, wide)}
    state |= norm("ln_out") | {"head.weight": normal(vocabulary, width)}
    torch.save(state, path)


def make_sparse(path):
    """Qwen3-8B with 46 layers. The header is written, the data is the hole behind it."""
    layers, width, wide, heads, kv_heads, head, vocabulary = 46, 4096, 12288, 32, 8, 128, 151936
    shapes = {"model.embed_tokens.weight": [vocabulary, width], "model.norm.weight": [width], "lm_head.weight": [vocabulary, width]}
    for layer in range(layers):
        p = f"model.layers.{layer}."
        shapes |= {p + "input_layernorm.weight": [width], p + "post_attention_layernorm.weight": [width],
                   p + "self_attn.q_proj.weight": [heads * head, width], p + "self_attn.k_proj.weight": [kv_heads * head, width],
                   p + "self_attn.v_proj.weight": [kv_heads * head, width], p + "self_attn.o_proj.weight": [width, heads * head],
                   p + "self_attn.q_norm.weight": [head], p + "self_attn.k_norm.weight": [head],
                   p + "mlp.gate_proj.weight": [wide, width], p + "mlp.up_proj.weight": [wide, width], p + "mlp.down_proj.weight": [width, wide]}
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    path.mkdir()
    with open(path / "model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
    (path / "config.json").write_text(json.dumps({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": width, "intermediate_size": wide,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head,
        "vocab_size": vocabulary, "tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "hidden_act": "silu",
        "attention_bias": False, "max_position_embeddings": 40960, "torch_dtype": "bfloat16"}, indent=2))


def made(directory, name):
    """The file of that name, made if it is not there: in a process of its own, whose memory goes with it, and never by half."""
    path, part = directory / name, directory / f"part-{os.getpid()}-{name}"
    if not path.exists():
        maker = {"qwen3-0.6b": make_qwen3, "rwkv7-0.1b.pth": make_rwkv7, "sparse": make_sparse}[name]
        process = multiprocessing.get_context("fork").Process(target=maker, args=(part,))
        process.start()
        process.join()
        if process.exitcode != 0:
            sys.exit(f"{name} could not be made in {directory}")
        part.rename(path)
    return path


def weights_of(path):
    return path / "model.safetensors" if path.is_dir() else path


# Peers.


def clocks():
    return time.process_time(), time.perf_counter()


def timed(call):
    """What the call gives back, CPU seconds, wall seconds."""
    cpu, wall = clocks()
    result = call()
    end_cpu, end_wall = clocks()
    return result, end_cpu - cpu, end_wall - wall


def field(pid, name):
    """MB, of a line of /proc/PID/status; None when the process has gone. VmHWM and not getrusage, whose peak a child inherits."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


# A peer gives its forward pass, the calls that it wants first, its vocabulary, its name and the seconds that loading took.


def transformers_peer(path):
    import torch
    from transformers import Qwen3ForCausalLM, __version__

    model, _, load = timed(lambda: Qwen3ForCausalLM.from_pretrained(path, dtype=torch.float32).eval())

    def forward(tokens, cache):
        with torch.inference_mode():
            result = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return result.logits, result.past_key_values

    return forward, 1, model.config.vocab_size, f"transformers {__version__}", load


def rwkv_peer(path):
    # The package reads these when it is imported. TorchScript looks on at the first call and compiles at the second: three warm-ups.
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    import importlib.metadata
    from rwkv.model import RWKV

    model, _, load = timed(lambda: RWKV(model=str(path.with_suffix("")), strategy="cpu fp32"))
    return model.forward, 3, model.args.vocab_size, f"rwkv {importlib.metadata.version('rwkv')}", load


def peer(kind, path, threads, runs):
    import random
    import torch

    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(sys.stderr):
        forward, warm_ups, vocabulary, name, load = {"transformers": transformers_peer, "rwkv": rwkv_peer}[kind](path)
    tokens = random.Random(0).choices(range(vocabulary), k=TOKENS)
    for _ in range(warm_ups):
        forward(tokens, None)
    prefill = [timed(lambda: forward(tokens, None))[1:] for _ in range(runs)]

    def steps(count):
        _, state = forward(tokens[:PROMPT], None)
        times = []
        for token in tokens[PROMPT:PROMPT + count]:
            (logits, state), *seconds = timed(lambda: forward([token], state))
            times.append(seconds)
        assert bool(torch.isfinite(logits).all())
        return times

    steps(warm_ups)
    single = [seconds for _ in range(runs) for seconds in steps(STEPS)]
    print(json.dumps({
        "prefill_cpu_s": [cpu for cpu, _ in prefill], "prefill_wall_s": [wall for _, wall in prefill],
        "token_cpu_s": [cpu for cpu, _ in single], "token_wall_s": [wall for _, wall in single],
        "peak_rss_mb": field("self", "VmHWM"), "load_s": load, "name": f"{name}, torch {torch.__version__}"}))


# Rounds.

TIMES = ("prefill_cpu_s", "prefill_wall_s", "token_cpu_s", "token_wall_s")


def measure(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")
    report = json.loads(result.stdout)
    return report | {key: statistics.median(report[key]) for key in TIMES}


def compare(options, directory, model, threads):
    file, kind = MODELS[model]
    path = made(directory, file)
    common = ["--threads", str(threads), "--runs", "1"]
    commands = {}
    for kernels in options.kernels:
        commands["ours" if kernels == "default" else f"ours, {kernels}"] = [
            options.tool, path, "--tokens", str(TOKENS), *common, *([] if kernels == "default" else ["--kernels", kernels])]
    ours = list(commands)
    commands[kind] = [sys.executable, __file__, "--peer", kind, "--directory", directory, *common]
    load = os.getloadavg()[0]
    rounds = [{name: measure(command) for name, command in commands.items()} for _ in range(options.rounds)]
    print(f"\n{file}, {threads} thread{'s' * (threads > 1)}: median of {options.rounds} rounds, {os.path.getsize(weights_of(path)) / 1e6:.0f} MB of "
          f"weights, {rounds[0][kind]['name']}; load {load:.2f} at the start, {os.getloadavg()[0]:.2f} at the end, {os.cpu_count()} processors")
    print(f"  {'':14} {f'{TOKENS} tokens, CPU':>26} {'wall':>26} {'one token, CPU':>18} {'wall':>12} {'peak':>10} {'load':>8}")
    for name in commands:
        row = {key: statistics.median([r[name][key] for r in rounds]) for key in (*TIMES, "load_s")}
        whole = [f"{row[key]:7.3f} s {TOKENS / row[key]:7.1f} tokens/s" for key in TIMES[:2]]
        print(f"  {name:14} {whole[0]:>26} {whole[1]:>26} {row['token_cpu_s'] * 1e3:15.2f} ms {row['token_wall_s'] * 1e3:9.2f} ms "
              f"{max(r[name]['peak_rss_mb'] for r in rounds):7.0f} MB {row['load_s']:6.2f} s")
    for name in ours:
        text = []
        for key in TIMES:
            ratios = [r[kind][key] / r[name][key] for r in rounds]
            text.append(f"x{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
        print(f"  {kind} / {name}: {TOKENS} tokens CPU {text[0]}, wall {text[1]}; one token CPU {text[2]}, wall {text[3]}", flush=True)


def sparse(options, directory):
    path = made(directory, "sparse")
    size = os.stat(weights_of(path))
    load, start = os.getloadavg()[0], time.perf_counter()
    process = subprocess.Popen([options.tool, path, "--tokens", "1", "--threads", "2", "--runs", "1", "--prefill-only"],
                               stdout=subprocess.PIPE, text=True)
    peak = mapped = 0
    while process.poll() is None:
        peak, mapped = max(peak, field(process.pid, "RssAnon") or 0), max(mapped, field(process.pid, "RssFile") or 0)
        time.sleep(0.05)
    wall = time.perf_counter() - start
    output = process.stdout.read()
    if process.returncode != 0:
        sys.exit(f"{options.tool}: {process.returncode}\n{output}")
    report = json.loads(output)
    print(f"sparse: {size.st_size / 1e9:.2f} GB of BF16 zeros, {size.st_blocks * 512 / 1e6:.2f} MB on the disk; load {load:.2f} at the start, "
          f"{os.getloadavg()[0]:.2f} at the end")
    print(f"  peak of anonymous memory {peak:.0f} MB, of mapped pages {mapped:.0f} MB; one token {report['prefill_wall_s'][0]:.2f} s "
          f"({report['prefill_cpu_s'][0]:.2f} s CPU), whole process {wall:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=pathlib.Path(__file__).resolve().parent / ".build/release/bench-forward", type=pathlib.Path)
    parser.add_argument("--directory", default=None, help="where the models are kept; by default a temporary one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kernels", nargs="+", default=["default"], help="ours with each of these kernels")
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--peer", choices=[kind for _, kind in MODELS.values()])
    parser.add_argument("--runs", type=int, default=1, help="of a peer")
    options = parser.parse_args()
    options.tool = options.tool.resolve()
    if not options.peer and not options.tool.exists():
        parser.error(f"no {options.tool}")
    with contextlib.nullcontext(options.directory) if options.directory else tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if options.peer:
            file = next(file for file, kind in MODELS.values() if kind == options.peer)
            peer(options.peer, made(directory, file), options.threads[0], options.runs)
        elif options.sparse:
            sparse(options, directory)
        else:
            for threads in options.threads:
                for model in [options.only] if options.only else MODELS:
                    compare(options, directory, model, threads)


main()
