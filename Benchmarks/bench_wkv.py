#!/usr/bin/env python3
"""Compares the speed of the recurrences in F32: RWKV-7's with ggml's operator and three PyTorch implementations, and
RWKV-6's with ggml's operator.

    swift build -c release
    python3 -m venv VENV && VENV/bin/pip install torch numpy
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" VENV/bin/pip install --no-binary llama-cpp-python llama-cpp-python
    VENV/bin/python Benchmarks/bench_wkv.py [--tool TOOL] [--rounds 5] [--runs 20] [--threads 1]
    VENV/bin/python Benchmarks/bench_wkv.py --gradients                     # also needs transformers and safetensors
    VENV/bin/python Benchmarks/bench_wkv.py --rwkv6
    VENV/bin/python Benchmarks/bench_wkv.py --peer ggml --heads 12 --head-size 64

With --gradients, the script times the recurrence together with its gradients, and compares it with PyTorch's autograd
applied to the implementations in fixtures/distill_twin.py.

The input is a sequence of 1024 tokens (512 with gradients), with 12 heads of 64 and with 6 heads of 128. Processes run in
the order A B C D A B C D .... Each process warms up first, and only the calls are timed, in CPU time. With two threads,
the times are wall-clock times, and the only peer is ggml, because the PyTorch implementations use one thread. Two threads
need an otherwise idle machine, because they spin while they wait for one another. All peers have the same inputs, and
check their results against float64 before they are timed; the tool generates its own inputs with the same distributions.
--peer runs a single peer, as each round does.
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

# NumPy's threads spin for a while after a matrix product, which would add to the CPU time of the code that follows.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np

GRADIENTS, RWKV6 = "--gradients" in sys.argv, "--rwkv6" in sys.argv
TOKENS, SHAPES = 512 if GRADIENTS else 1024, [(12, 64), (6, 128)]
# Operations per token and element of the state: 2 for u = S a, 5 for S w + u b + v k and 2 for S r. With gradients, 7
# more recompute the states, and 19 compute the gradients. RWKV-6 has neither u nor gradients here.
FLOP = 35 if GRADIENTS else 5 if RWKV6 else 9
WANTED = {"name": "wkv7_gradients" if GRADIENTS else "wkv6" if RWKV6 else "wkv7", "dtype": "F32"}


def inputs(heads, size):
    """Returns r, w, k, v, a and b, each [tokens, heads, size], for the recurrence S = S diag(w) + (S a) b^T + v k^T.

    a is the negative removal key, and b is the removal key times the in-context learning rate. For RWKV-6, returns r, w,
    k, v and the bonus, [heads, size].
    """
    random = np.random.default_rng(0)
    normal = lambda: random.standard_normal((TOKENS, heads, size))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    removal = normal()
    removal /= np.linalg.norm(removal, axis=-1, keepdims=True)
    decay = np.exp(-math.exp(-0.5) * sigmoid(normal()))
    values = normal() / math.sqrt(size), decay, normal() / math.sqrt(size), normal(), -removal, removal * sigmoid(normal())
    if RWKV6:
        values = *values[:4], random.standard_normal((heads, size))
    return [value.astype(np.float32) for value in values]


def reference6(inputs):
    r, w, k, v, bonus = (x.astype(np.float64) for x in inputs)
    state, out = np.zeros((*r.shape[1:], r.shape[2])), np.empty_like(r)
    for t in range(TOKENS):
        added = k[t][..., None] * v[t][:, None]
        out[t] = (r[t][:, None] @ (state + bonus[..., None] * added))[:, 0]
        state = state * w[t][..., None] + added
    return out, state


def reference(inputs):
    if RWKV6:
        return reference6(inputs)
    r, w, k, v, a, b = (x.astype(np.float64) for x in inputs)
    state, out = np.zeros((*r.shape[1:], r.shape[2])), np.empty_like(r)
    for t in range(TOKENS):
        u = state @ a[t][..., None]
        state = state * w[t][:, None] + u * b[t][:, None] + v[t][..., None] * k[t][:, None]
        out[t] = (state @ r[t][..., None])[..., 0]
    return out, state


# Peers. Each returns a function that runs the recurrence and returns the outputs and the last state, and a name.


class Parameters(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def ggml_library():
    directory, pointer = importlib.util.find_spec("llama_cpp").submodule_search_locations[0], ctypes.c_void_p
    library = ctypes.CDLL(f"{directory}/lib/libggml-cpu.so")  # This also loads libggml-base.
    for name, result, *arguments in [
        ("init", pointer, Parameters), ("new_tensor_3d", pointer, pointer, ctypes.c_int, *[ctypes.c_int64] * 3), ("get_data", pointer, pointer),
        ("rwkv_wkv7", pointer, *[pointer] * 8), ("rwkv_wkv6", pointer, *[pointer] * 7), ("new_graph", pointer, pointer), ("build_forward_expand", None, pointer, pointer),
        ("backend_cpu_init", pointer), ("backend_cpu_set_n_threads", None, pointer, ctypes.c_int), ("version", ctypes.c_char_p),
        ("backend_alloc_ctx_tensors", pointer, pointer, pointer), ("backend_graph_compute", ctypes.c_int, pointer, pointer),
    ]:
        function = getattr(library, f"ggml_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def ggml(inputs, threads):
    library = ggml_library()
    context, backend = library.ggml_init(Parameters(1 << 20, None, True)), library.ggml_backend_cpu_init()
    library.ggml_backend_cpu_set_n_threads(backend, threads)
    heads, size = inputs[0].shape[1:]
    state = np.zeros((heads, size, size), np.float32)
    if RWKV6:  # The operator takes k, v, r, the bonus and w.
        inputs = [inputs[i] for i in (2, 3, 0, 4, 1)]
    tensors = [library.ggml_new_tensor_3d(context, 0, size, heads, x.size // (heads * size)) for x in inputs]
    tensors.append(library.ggml_new_tensor_3d(context, 0, state.size, 1, 1))
    operator = library.ggml_rwkv_wkv6 if RWKV6 else library.ggml_rwkv_wkv7
    result, graph = operator(context, *tensors), library.ggml_new_graph(context)
    library.ggml_build_forward_expand(graph, result)
    library.ggml_backend_alloc_ctx_tensors(context, backend)
    for tensor, values in zip(tensors, [*inputs, state]):
        ctypes.memmove(library.ggml_get_data(tensor), values.ctypes.data, values.nbytes)
    memory = (ctypes.c_float * (inputs[0].size + state.size)).from_address(library.ggml_get_data(result))
    memory = np.frombuffer(memory, np.float32)  # The last state is after the outputs.
    out, state = memory[:inputs[0].size].reshape(inputs[0].shape), memory[inputs[0].size:].reshape(state.shape)

    def call():
        if library.ggml_backend_graph_compute(backend, graph) != 0:
            sys.exit("ggml could not compute the graph")
        return out, state

    return call, f"ggml {library.ggml_version().decode()} of llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"


def torch_inputs(inputs):
    import torch

    torch.set_num_threads(1)
    return torch, [torch.from_numpy(x).clone() for x in inputs]  # Copies the inputs, because NumPy's memory is not aligned.


def loop(inputs, _):
    """Runs the recurrence token by token, exactly as its equations are written."""
    torch, inputs = torch_inputs(inputs)

    def call():
        r, w, k, v, a, b = inputs
        state, out = torch.zeros(*r.shape[1:], r.shape[2]), torch.empty_like(r)
        for t in range(TOKENS):
            removed = state @ a[t].unsqueeze(-1)
            state = state * w[t].unsqueeze(-2) + removed @ b[t].unsqueeze(-2) + v[t].unsqueeze(-1) @ k[t].unsqueeze(-2)
            out[t] = (state @ r[t].unsqueeze(-1)).squeeze(-1)
        return out, state

    return call, f"torch {torch.__version__}"


def best_loop(inputs, _):
    """Runs the recurrence token by token, as fast as we could make it.

    The state is transposed, because bmm multiplies a row by a matrix three times as fast as a matrix by a column.
    """
    torch, inputs = torch_inputs(inputs)

    def call():
        r, w, k, v, a, b = inputs
        state, out = torch.zeros(*r.shape[1:], r.shape[2]), torch.empty_like(r)
        columns, rows = lambda x: x.unsqueeze(-1).unbind(), lambda x: x.unsqueeze(-2).unbind()
        # u and v are the rows of one matrix, so that one pass over the state adds both outer products.
        uv = torch.stack([torch.empty_like(v), v], -2)
        for r_t, w_t, a_t, bk_t, uv_t, out_t in zip(rows(r), columns(w), rows(a), torch.stack([b, k], -1).unbind(), uv.unbind(), rows(out)):
            uv_t[:, :1] = torch.bmm(a_t, state)
            state.mul_(w_t).baddbmm_(bk_t, uv_t)
            torch.bmm(r_t, state, out=out_t)
        return out, state.mT

    return call, f"torch {torch.__version__}"


def chunks(inputs, _, chunk=16, group=4):
    """Runs the recurrence in chunks of 16 tokens, which is faster than chunks of 32 or 64.

    Four chunks are computed at a time, so that intermediate results stay in the L2 cache. If W is the product of the
    decays in a chunk up to a token, the state divided by W only accumulates terms u (b / W)^T and v (k / W)^T. The
    products of a W and r W with b / W and k / W, masked to earlier tokens, are therefore the effects of the chunk's
    tokens on one another, and u is the solution of a triangular system.
    """
    torch, inputs = torch_inputs(inputs)
    below = torch.cat([torch.ones(chunk, chunk).tril(-1).repeat(1, 2), torch.ones(chunk, chunk).tril().repeat(1, 2)])
    one = torch.eye(chunk)

    def call():
        heads, size = inputs[0].shape[1:]
        state, out = torch.zeros(heads, size, size), torch.empty_like(inputs[0])
        split = lambda x: x.view(-1, chunk, heads, size).transpose(1, 2).split(group)
        for r, w, k, v, a, b, y in zip(*map(split, (*inputs, out))):
            decay = w.cumprod(2)
            last = decay[:, :, -1, :, None]
            ar, bk = torch.cat([a * (decay / w), r * decay], 2), torch.cat([b / decay, k / decay], 2).mT
            products = (ar @ bk).mul_(below)
            inside, across = products[:, :, :chunk], products[:, :, chunk:]
            unit = one.expand(len(r), heads, chunk, chunk)
            inverse = torch.linalg.solve_triangular(unit - inside[..., :chunk], unit, upper=False, unitriangular=True)
            a, r = inverse @ ar[:, :, :chunk], ar[:, :, chunk:]
            uv = torch.cat([(inverse @ inside[..., chunk:]) @ v, v], 2)
            for a_c, r_c, across_c, uv_c, last_c, bk_c, y_c in zip(a, r, across, uv, last, bk * last, y):
                uv_c[:, :chunk] += torch.bmm(a_c, state)
                y_c.copy_(torch.bmm(r_c, state).baddbmm_(across_c, uv_c))
                state.mul_(last_c).baddbmm_(bk_c, uv_c)
        return out, state.mT

    return call, f"torch {torch.__version__}"


def autograd(inputs, form, dtype=None):
    """Returns a function that computes the outputs and the gradients of all inputs, and a name.

    `form` is a function in distill_twin.py, which takes the logarithm of the decay. The gradient of the outputs is v.
    """
    torch, inputs = torch_inputs(inputs)
    inputs[1] = inputs[1].log()
    inputs = [x[None].to(dtype or torch.float32).requires_grad_() for x in inputs]

    def call():
        r, w, k, v, a, b = inputs
        y = form(r, w, k, v, a, b)
        return [y.detach(), *torch.autograd.grad(y, inputs, v.detach())]

    return call, f"torch {torch.__version__}"


def twin():
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fixtures"))
    import distill_twin

    return distill_twin


def with_gradients(form, **options):
    return lambda inputs, _: autograd(inputs, lambda *x: getattr(twin(), form)(*x, **options))


def reference_gradients(inputs):
    torch, _ = torch_inputs(inputs)
    return autograd(inputs, twin().wkv_loop, torch.float64)[0]()


if GRADIENTS:
    PEERS = {f"chunks of {length}": with_gradients("wkv_chunk", length=length) for length in (16, 32)} | {
        "loop": with_gradients("wkv_loop"), "best loop": with_gradients("wkv_best_loop")}
elif RWKV6:
    PEERS = {"ggml": ggml}
else:
    PEERS = {"ggml": ggml, "loop": loop, "best loop": best_loop, "chunks": chunks}


def peer(options):
    values = inputs(options.heads, options.head_size)
    call, name = PEERS[options.peer](values, options.threads)
    if options.peer != "ggml" and not GRADIENTS:
        import torch

        call = torch.inference_mode()(call)
    expected = reference_gradients(values) if GRADIENTS else reference(values)
    error = max(np.linalg.norm(np.asarray(x) - np.asarray(y)) / np.linalg.norm(y) for x, y in zip(call(), expected))
    if not error < 1e-5:
        sys.exit(f"{options.peer} is wrong: relative error {error}")
    times = []
    for _ in range(2 + options.runs):
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = zip(*times[2:])
    print(json.dumps({"measurements": [WANTED | {"cpu_seconds": cpu, "wall_seconds": wall}], "name": name, "error": error}))


# Rounds.


def measure(command, clock):
    """Runs a command and returns its JSON report, to which the median of its times is added as `seconds`."""
    result = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")
    report = json.loads(result.stdout)
    entry = next(entry for entry in report["measurements"] if WANTED.items() <= entry.items())
    return report | {"seconds": statistics.median(entry[f"{clock}_seconds"])}


def compare(options, heads, size):
    shape = ["--heads", heads, "--head-size", size, "--threads", options.threads, "--runs", options.runs]
    clock, peers = ("cpu", PEERS) if options.threads == 1 else ("wall", ["ggml"])
    commands = {"ours": [options.tool, "bench", "wkv", *shape, "--tokens", TOKENS, "--json"]}
    commands |= {name: [sys.executable, __file__, "--peer", name, *shape, *["--gradients"] * GRADIENTS, *["--rwkv6"] * RWKV6] for name in peers}
    load = os.getloadavg()[0]
    rounds = [{name: measure(command, clock) for name, command in commands.items()} for _ in range(options.rounds)]
    versions = ", ".join(dict.fromkeys(rounds[0][name]["name"] for name in peers))
    print(f"\n{heads} heads of {size}, {TOKENS} tokens, {options.threads} thread{'s' * (options.threads > 1)}: median of {options.rounds} rounds of "
          f"{options.runs} calls, {clock} time; {versions}; load {load:.2f} at the start, {os.getloadavg()[0]:.2f} at the end, "
          f"{os.cpu_count()} processors")
    print(f"  {'':12} {'per call':>11} {'GFLOP/s':>9} {'tokens/s':>10}   peer / ours")
    for name in commands:
        seconds, ratios = statistics.median(r[name]["seconds"] for r in rounds), [r[name]["seconds"] / r["ours"]["seconds"] for r in rounds]
        print(f"  {name:12} {seconds * 1e3:8.3f} ms {FLOP * size**2 * heads * TOKENS / seconds / 1e9:9.1f} {TOKENS / seconds:10.0f}   "
              f"x{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=pathlib.Path(__file__).resolve().parents[1] / ".build/release/rwkv-ckpt", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20, help="timed calls per process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gradients", action="store_true")
    parser.add_argument("--rwkv6", action="store_true")
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--heads", type=int, default=12, help="heads, with --peer")
    parser.add_argument("--head-size", type=int, default=64, help="head size, with --peer")
    options = parser.parse_args()
    options.tool = options.tool.resolve()
    if GRADIENTS and options.threads != 1:
        parser.error("--gradients needs --threads 1")
    if options.peer:
        peer(options)
    else:
        for heads, size in SHAPES:
            compare(options, heads, size)


main()
