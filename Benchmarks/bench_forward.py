#!/usr/bin/env python3
"""Compares the speed of forward passes: RWKV-7 and RWKV-6 with the `rwkv` package and llama.cpp, Qwen3 with transformers.

    swift build -c release
    python3 -m venv VENV && VENV/bin/pip install torch numpy safetensors transformers rwkv gguf
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" VENV/bin/pip install --no-binary llama-cpp-python llama-cpp-python
    VENV/bin/python Benchmarks/bench_forward.py [--rounds 5] [--only rwkv7|rwkv7-bf16|rwkv6|qwen3] [--threads 1 2] [--kernels default strict]
    VENV/bin/python Benchmarks/bench_forward.py --sparse [--directory DIR]
    VENV/bin/python Benchmarks/bench_forward.py --peer llama.cpp --only rwkv7-bf16 --threads 1 --directory DIR

The weights are random, with the shapes of RWKV-7 0.1B (F32 and BF16), of an RWKV-6 of the same depth and width (F32), and
of Qwen3-0.6B (F32). The script measures a prompt of 512 tokens, with the logits of the last token only, and single tokens
after a prompt of 16. Processes run in the order A B C A B C .... Each process warms up first, and only the calls are
timed. On a shared machine, compare CPU times. Two threads need an otherwise idle machine, because llama.cpp's threads spin
while they wait for one another. Needs 8 GB of memory, and 6 GB of disk space in DIR, where the files are kept.

--sparse runs one token through a model of 20 GB of BF16 zeros, stored as a sparse file that takes no disk space, and
samples how much memory the process uses in addition to the mapped file. --peer runs a single peer, as each round does.
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
MODELS = {  # The file of each model, and the peers to compare with.
    "rwkv7": ("rwkv7-0.1b.pth", ["llama.cpp", "rwkv"]),
    "rwkv7-bf16": ("rwkv7-0.1b-bf16.pth", ["llama.cpp"]),
    "rwkv6": ("rwkv6-0.1b.pth", ["rwkv"]),
    "qwen3": ("qwen3-0.6b", ["transformers"]),
}


# Files. Functions import PyTorch only where they use it, so that the main process stays small.


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


def make_rwkv6(path):
    import torch

    torch.manual_seed(0)
    layers, width, head, wide, vocabulary, shift_rank, decay_rank = 12, 768, 64, 2688, 65536, 32, 64
    normal = lambda *shape: 0.02 * torch.randn(shape)
    norm = lambda name: {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    state = {"emb.weight": normal(vocabulary, width)} | norm("blocks.0.ln0")
    for layer in range(layers):
        block, att, ffn = (f"blocks.{layer}.{part}" for part in ("", "att.", "ffn."))
        state |= norm(block + "ln1") | norm(block + "ln2") | norm(att + "ln_x")
        state |= {f"{att}time_maa_{letter}": torch.rand(1, 1, width) for letter in "xwkvrg"}
        state |= {att + "time_maa_w1": normal(width, 5 * shift_rank), att + "time_maa_w2": normal(5, shift_rank, width),
                  att + "time_decay": torch.linspace(-6, -1, width).view(1, 1, width), att + "time_decay_w1": normal(width, decay_rank),
                  att + "time_decay_w2": normal(decay_rank, width), att + "time_faaaa": normal(width // head, head)}
        state |= {f"{att}{name}.weight": normal(width, width) for name in ("receptance", "key", "value", "gate", "output")}
        state |= {f"{ffn}time_maa_{letter}": torch.rand(1, 1, width) for letter in "kr"}
        state |= {ffn + "key.weight": normal(wide, width), ffn + "receptance.weight": normal(width, width), ffn + "value.weight": normal(width, wide)}
    state |= norm("ln_out") | {"head.weight": normal(vocabulary, width)}
    torch.save(state, path)


def make_bfloat16(path, source):
    import torch

    torch.save({name: tensor.bfloat16() for name, tensor in torch.load(source, mmap=True, weights_only=True).items()}, path)


def make_gguf(path, source):
    """Writes the file that llama.cpp's converter would write, without a vocabulary.

    In BF16 models, w1 and w2 are F32, as all vectors are.
    """
    import gguf
    import torch

    state = torch.load(source, mmap=True, weights_only=True)
    half, rank = state["emb.weight"].dtype == torch.bfloat16, lambda name: state[name].shape[1]
    f32, bf16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.BF16
    writer = gguf.GGUFWriter(path, "rwkv7")
    for add, value in [
        (writer.add_context_length, 1 << 20), (writer.add_block_count, sum(name.endswith("att.r_k") for name in state)),
        (writer.add_embedding_length, rank("emb.weight")), (writer.add_feed_forward_length, len(state["blocks.0.ffn.key.weight"])),
        (writer.add_vocab_size, len(state["emb.weight"])), (writer.add_tokenizer_model, "no_vocab"), (writer.add_head_count, 0),
        (writer.add_wkv_head_size, rank("blocks.0.att.r_k")), (writer.add_layer_norm_eps, 1e-5),
        (writer.add_decay_lora_rank, rank("blocks.0.att.w1")), (writer.add_iclr_lora_rank, rank("blocks.0.att.a1")),
        (writer.add_value_residual_mix_lora_rank, rank("blocks.1.att.v1")), (writer.add_gate_lora_rank, rank("blocks.0.att.g1")),
        (writer.add_file_type, gguf.LlamaFileType.MOSTLY_BF16 if half else gguf.LlamaFileType.ALL_F32),
    ]:
        add(value)

    def put(name, tensor):
        name += "" if name.endswith((".weight", ".bias")) else ".weight"
        kind = bf16 if half and tensor.ndim == 2 and "time_mix_w" not in name else f32
        writer.add_tensor(name, gguf.quants.quantize(tensor.float().contiguous().numpy(), kind), raw_dtype=kind)

    names = {"emb.": "token_embd.", "blocks.0.ln0.": "token_embd_norm.", "ln_out.": "output_norm.", "head.": "output.", "blocks.": "blk.",
             ".ln1.": ".attn_norm.", ".ln2.": ".attn_norm_2.", ".att.ln_x.": ".time_mix_ln.", ".att.": ".time_mix_",
             ".ffn.x_k": ".channel_mix_lerp_k", ".ffn.": ".channel_mix_"}
    for name, tensor in state.items():
        block, _, last = name.rpartition(".")
        if last.startswith("x_") and block.endswith("att"):  # The six x_ vectors become one tensor, written when the loop reaches x_r.
            if last != "x_r":
                continue
            tensor, name = torch.stack([state[f"{block}.x_{letter}"] for letter in "rwkvag"]), f"{block}.lerp_fused"
        elif last in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"):
            tensor = tensor.T
        else:
            tensor = tensor.flatten() if last == "r_k" else tensor.squeeze()
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        put(name, tensor)
        if name.startswith("blk.0.time_mix_a"):  # llama.cpp requires v0, v1 and v2 in layer 0, although it never uses them.
            put(name.replace("mix_a", "mix_v"), tensor)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def make_sparse(path):
    """Writes a Qwen3-8B that has 46 layers, as a safetensors header followed by a hole in place of the data."""
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


MAKERS = {  # The function that makes each file, and the file that it reads, if any.
    "qwen3-0.6b": (make_qwen3,), "sparse": (make_sparse,), "rwkv7-0.1b.pth": (make_rwkv7,), "rwkv6-0.1b.pth": (make_rwkv6,), "rwkv7-0.1b-bf16.pth": (make_bfloat16, "rwkv7-0.1b.pth"),
    "rwkv7-0.1b.gguf": (make_gguf, "rwkv7-0.1b.pth"), "rwkv7-0.1b-bf16.gguf": (make_gguf, "rwkv7-0.1b-bf16.pth")}


def made(directory, name):
    """Returns the path of a file, and makes the file if necessary.

    A child process makes it, so that its memory is freed afterwards. The file gets its name only when it is complete.
    """
    path, part = directory / name, directory / f"part-{os.getpid()}-{name}"
    if not path.exists():
        maker, *sources = MAKERS[name]
        arguments = (part, *(made(directory, source) for source in sources))
        process = multiprocessing.get_context("fork").Process(target=maker, args=arguments)
        process.start()
        process.join()
        if process.exitcode != 0:
            sys.exit(f"cannot make {name} in {directory}")
        part.rename(path)
    return path


def weights_of(path):
    return path / "model.safetensors" if path.is_dir() else path


# Peers.


def clocks():
    return time.process_time(), time.perf_counter()


def timed(call):
    """Returns the result of a call, and the CPU and wall-clock seconds that it took."""
    cpu, wall = clocks()
    result = call()
    end_cpu, end_wall = clocks()
    return result, end_cpu - cpu, end_wall - wall


def field(pid, name):
    """Returns a size from /proc/PID/status in bytes, or None if the process has ended.

    VmHWM gives a process's own peak memory, because child processes do not inherit it.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return None


# Each peer returns its forward pass, the number of warm-up calls, its vocabulary size, its name and its loading time.


def transformers_peer(path, threads):
    import torch
    from transformers import Qwen3ForCausalLM, __version__

    torch.set_num_threads(threads)
    model, _, load = timed(lambda: Qwen3ForCausalLM.from_pretrained(path, dtype=torch.float32).eval())

    def forward(tokens, cache):
        with torch.inference_mode():
            result = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return result.logits, result.past_key_values

    return forward, 1, model.config.vocab_size, f"transformers {__version__}, torch {torch.__version__}", load


def rwkv_peer(path, threads):
    # The package reads these variables when it is imported. It needs three warm-up calls, because TorchScript profiles
    # the first call and compiles during the second.
    os.environ |= {"RWKV_V7_ON": str(int("rwkv7" in path.name)), "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    import importlib.metadata
    import torch
    from rwkv.model import RWKV

    torch.set_num_threads(threads)
    model, _, load = timed(lambda: RWKV(model=str(path.with_suffix("")), strategy="cpu fp32"))
    vocabulary = model.args.vocab_size if "rwkv7" in path.name else len(model.w["emb.weight"])
    return model.forward, 3, vocabulary, f"rwkv {importlib.metadata.version('rwkv')}, torch {torch.__version__}", load


def llama_peer(path, threads):
    import llama_cpp
    import logging
    import numpy

    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    path = made(path.parent, path.with_suffix(".gguf").name)
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 2 * TOKENS, threads, threads
    parameters.n_batch = parameters.n_ubatch = TOKENS  # Batches of 128 or 64 tokens are not faster.

    def make():
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), llama_cpp.llama_model_default_params())
        return model, llama_cpp.llama_init_from_model(model, parameters)

    (model, context), _, load = timed(make)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def forward(tokens, state):
        """Returns the last token's logits. The context keeps the state, which is cleared first if `state` is None."""
        if state is None:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        # Without a selection of logits, llama.cpp computes those of the last token in the batch.
        tokens = (llama_cpp.llama_token * len(tokens))(*tokens)  # Keep a reference, because the batch points to this memory.
        batch = llama_cpp.llama_batch_get_one(tokens, len(tokens))
        if llama_cpp.llama_decode(context, batch) != 0:
            sys.exit("llama_decode failed")
        return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (vocabulary,)), context

    return forward, 1, vocabulary, f"llama-cpp-python {llama_cpp.__version__}", load


PEERS = {"llama.cpp": llama_peer, "rwkv": rwkv_peer, "transformers": transformers_peer}


def peer(kind, path, threads, runs):
    import numpy
    import random

    with contextlib.redirect_stdout(sys.stderr):
        forward, warm_ups, vocabulary, name, load = PEERS[kind](path, threads)
    tokens = random.Random(0).choices(range(vocabulary), k=TOKENS)
    for _ in range(warm_ups):
        logits, _ = forward(tokens, None)
    some = numpy.array(logits).ravel()[::64].tolist()
    prefill = [timed(lambda: forward(tokens, None))[1:] for _ in range(runs)]

    def steps(count):
        _, state = forward(tokens[:PROMPT], None)
        times = []
        for token in tokens[PROMPT:PROMPT + count]:
            (logits, state), *seconds = timed(lambda: forward([token], state))
            times.append(seconds)
        assert numpy.isfinite(numpy.asarray(logits)).all()
        return times

    steps(warm_ups)
    single = [seconds for _ in range(runs) for seconds in steps(STEPS)]
    measurement = lambda name, times: {"name": name, "cpu_seconds": [cpu for cpu, _ in times], "wall_seconds": [wall for _, wall in times]}
    print(json.dumps({"measurements": [measurement("prefill", prefill), measurement("token", single)], "load_seconds": load,
                      "peak_memory_bytes": field("self", "VmHWM"), "name": name, "logits": some}))


# Rounds.

TIMES = ("prefill_cpu", "prefill_wall", "token_cpu", "token_wall")


def output(command):
    result = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")
    return json.loads(result.stdout)


def measure(command):
    """Runs a command and returns its JSON report, to which the medians of its times are added, named as in TIMES."""
    report = output(command)
    return report | {f"{entry['name']}_{clock}": statistics.median(entry[f"{clock}_seconds"])
                     for entry in report["measurements"] for clock in ("cpu", "wall")}


def token_bytes(tool, path):
    """Returns the number of bytes of weights that one token reads.

    These are all matrices, without the embedding unless it is also the head.
    """
    report = output([tool, "inspect", "--json", "--tensors", path])
    unread = [] if report["architecture"]["tied_head"] else ["emb.weight", "model.embed_tokens.weight"]
    return sum(tensor["bytes"] for tensor in report["tensors"] if sum(side > 1 for side in tensor["shape"]) > 1 and tensor["name"] not in unread)


def forward_command(options, path, tokens, threads):
    return [options.tool, "bench", "forward", path, "--tokens", tokens, "--threads", threads, "--runs", 1, "--json"]


def compare(options, directory, model, threads):
    file, kinds = MODELS[model]
    path = made(directory, file)
    commands = {}
    for kernels in options.kernels:
        commands["ours" if kernels == "default" else f"ours, {kernels}"] = [
            *forward_command(options, path, TOKENS, threads), *([] if kernels == "default" else ["--kernels", kernels])]
    ours = list(commands)
    for kind in kinds:
        commands[kind] = [sys.executable, __file__, "--peer", kind, "--only", model, "--directory", directory, "--threads", threads]
    if "llama.cpp" in kinds:
        made(directory, path.with_suffix(".gguf").name)
    weights, load = token_bytes(options.tool, path), os.getloadavg()[0]
    rounds = [{name: measure(command) for name, command in commands.items()} for _ in range(options.rounds)]
    bandwidth = statistics.median(r[ours[0]]["peak"]["bytes_read_per_second"] for r in rounds)
    print(f"\n{file}, {threads} thread{'s' * (threads > 1)}: median of {options.rounds} rounds, "
          f"{weights / 1e6:.0f} MB of weights per token, memory bandwidth {bandwidth / 1e9:.1f} GB/s; "
          f"{'; '.join(rounds[0][kind]['name'] for kind in kinds)}; load {load:.2f} at the start, "
          f"{os.getloadavg()[0]:.2f} at the end, {os.cpu_count()} processors")
    print(f"  {'':14} {f'{TOKENS} tokens, CPU':>26} {'wall':>26} {'one token, CPU':>18} {'wall':>12} "
          f"{'bandwidth':>10} {'peak':>10} {'load':>8}")
    clock = "token_cpu" if threads == 1 else "token_wall"
    for name in commands:
        row = {key: statistics.median(r[name][key] for r in rounds) for key in (*TIMES, "load_seconds")}
        whole = [f"{row[key]:7.3f} s {TOKENS / row[key]:7.1f} tokens/s" for key in TIMES[:2]]
        print(f"  {name:14} {whole[0]:>26} {whole[1]:>26} {row['token_cpu'] * 1e3:15.2f} ms {row['token_wall'] * 1e3:9.2f} ms "
              f"{weights / row[clock] / bandwidth:10.0%} {max(r[name]['peak_memory_bytes'] for r in rounds) / 1e6:7.0f} MB "
              f"{row['load_seconds']:6.2f} s")
    for kind in kinds:
        for name in ours:
            text = []
            for key in TIMES:
                ratios = [r[kind][key] / r[name][key] for r in rounds]
                text.append(f"x{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
            print(f"  {kind} / {name}: {TOKENS} tokens CPU {text[0]}, wall {text[1]}; one token CPU {text[2]}, wall {text[3]}", flush=True)
    if len(kinds) > 1:
        first, second = (rounds[0][kind]["logits"] for kind in kinds)
        error = sum((x - y) ** 2 for x, y in zip(first, second)) / sum(y ** 2 for y in second)
        print(f"  {kinds[0]}'s logits after {TOKENS} tokens compared with {kinds[1]}'s: NMSE {error:.1e}", flush=True)


def sparse(options, directory):
    path = made(directory, "sparse")
    size = os.stat(weights_of(path))
    load, start = os.getloadavg()[0], time.perf_counter()
    logits = directory / "sparse-logits.safetensors"
    process = subprocess.Popen([options.tool, "logits", path, "--tokens", "1", "--threads", "2", "-o", logits, "--force"], stdout=subprocess.PIPE)
    peak = mapped = 0
    while process.poll() is None:
        peak, mapped = max(peak, field(process.pid, "RssAnon") or 0), max(mapped, field(process.pid, "RssFile") or 0)
        time.sleep(0.05)
    wall = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"{options.tool}: {process.returncode}")
    logits.unlink()
    print(f"sparse: {size.st_size / 1e9:.2f} GB of BF16 zeros, {size.st_blocks * 512 / 1e6:.2f} MB on disk; "
          f"load {load:.2f} at the start, {os.getloadavg()[0]:.2f} at the end")
    print(f"  peak anonymous memory {peak / 1e6:.0f} MB, peak mapped pages {mapped / 1e6:.0f} MB; "
          f"whole process, for one token, {wall:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=pathlib.Path(__file__).resolve().parents[1] / ".build/release/rwkv-ckpt", type=pathlib.Path)
    parser.add_argument("--directory", default=None, help="where to keep the models (default: a temporary directory)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kernels", nargs="+", default=["default"], help="run ours with each of these kernel tables")
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--peer", choices=PEERS, help="run this peer alone, on the model of --only")
    parser.add_argument("--runs", type=int, default=1, help="measured runs, with --peer")
    options = parser.parse_args()
    options.tool = options.tool.resolve()
    if options.peer:
        if options.peer not in MODELS.get(options.only, ("", []))[1]:
            parser.error("--peer needs --only with a model that this peer is compared on")
    elif not options.tool.exists():
        parser.error(f"there is no {options.tool}")
    with contextlib.nullcontext(options.directory) if options.directory else tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if options.peer:
            peer(options.peer, made(directory, MODELS[options.only][0]), options.threads[0], options.runs)
        elif options.sparse:
            sparse(options, directory)
        else:
            for threads in options.threads:
                for model in [options.only] if options.only else MODELS:
                    compare(options, directory, model, threads)


main()
