"""numbaconv beside PyTorch, onnxruntime and OpenVINO on the CPU, layer by layer: ``python benchmarks/compare.py --help``.

Each library has a process, and so the threads, of its own. They take turns in short blocks of calls, so that a slow moment of the
machine strikes all; the first call of a block finds cold caches, and is not counted. A time is the median over the blocks of the
median call, a ratio the time of the fastest peer over that of numbaconv: above 1, numbaconv is faster.

Data are float32, and numbaconv reads and writes them in the layout asked for. PyTorch (eager) is measured in both layouts;
onnxruntime and OpenVINO take channels first, pack the weight beforehand, keep their result's memory, and compute in float32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last, so that an installed numbaconv comes first
from benchmarks.layers import LAYERS

OURS = "numbaconv"
PAUSE = 0.05  # seconds that onnxruntime's threads, which spin after a call, are left to come to rest
SHORT = 50e-6  # seconds below which calls are timed several at a time
LIBRARIES = ("numpy", "numba", "numbaconv", "torch", "onnxruntime", "openvino")


class Case(NamedTuple):
    """What a library is asked to prepare."""

    layer: str
    threads: int
    mode: str
    layout: str
    algorithm: str


class Prepared(NamedTuple):
    """A layer as a library computes it: one call, its result (N, C, H, W), a word on how, and what has to live as long."""

    call: Callable[[], Any]
    result: Callable[[], np.ndarray]
    note: str = ""
    kept: tuple = ()


class Failure(NamedTuple):
    """Why a library has no answer."""

    reason: str


def operands(layer: str) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return the input, the weight and the options of a layer, the same in every process."""
    shape, weight_shape, options = LAYERS[layer]
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32), rng.standard_normal(weight_shape, np.float32), options


# ---------------------------------------------------------------- the libraries


def with_numbaconv(case: Case) -> Prepared:
    import numbaconv as nc

    x, weight, options = operands(case.layer)
    options = {**options, "layout": case.layout, "algorithm": case.algorithm}
    last = case.layout == "NHWC"
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x
    op = nc.Conv2d(weight, **options)
    if case.mode == "prepared":
        call, taken = lambda: op(x), op.explain(x)
    else:
        call, taken = lambda: nc.conv2d(x, weight, **options), nc.explain("conv2d", x, weight, **options)
    return Prepared(call, lambda: call().transpose(0, 3, 1, 2) if last else call(), taken.algorithm)


def with_torch(case: Case, layout: str = "contiguous_format") -> Prepared:
    import torch

    torch.set_num_threads(case.threads)
    torch.set_grad_enabled(False)
    x, weight, options = operands(case.layer)
    memory_format = getattr(torch, layout)
    x, weight = (torch.from_numpy(a).contiguous(memory_format=memory_format) for a in (x, weight))

    def call() -> Any:
        return torch.nn.functional.conv2d(x, weight, **options)

    return Prepared(call, lambda: call().contiguous().numpy())


def with_torch_last(case: Case) -> Prepared:
    return with_torch(case, "channels_last")


def with_onnxruntime(case: Case) -> Prepared:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = case.threads, 1
    session = ort.InferenceSession(onnx_model(case.layer), settings, providers=["CPUExecutionProvider"])
    x, weight, options = operands(case.layer)
    y = np.empty(output_shape(x.shape, weight.shape, **options), np.float32)
    data, result = (ort.OrtValue.ortvalue_from_numpy(a) for a in (x, y))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", data)
    binding.bind_ortvalue_output("y", result)

    def call() -> None:
        session.run_with_iobinding(binding)

    def after_call() -> np.ndarray:
        call()
        return result.numpy()

    return Prepared(call, after_call, kept=(x, y, data))


def onnx_model(layer: str) -> bytes:
    """Return a model of one layer, the weight a constant of it."""
    from onnx import TensorProto, helper, numpy_helper

    x, weight, options = operands(layer)
    stride, padding = options.get("stride", 1), options.get("padding", 0)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride] * 2, pads=[padding] * 4, group=options.get("groups", 1))
    shapes = {"x": x.shape, "y": output_shape(x.shape, weight.shape, **options)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([node], "layer", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def with_openvino(case: Case) -> Prepared:
    import openvino as ov
    from openvino import opset13 as ops

    x, weight, options = operands(case.layer)
    groups, stride = options.get("groups", 1), [options.get("stride", 1)] * 2
    pads = [options.get("padding", 0)] * 2
    data = ops.parameter(x.shape, np.float32, name="x")
    if groups == 1:
        node = ops.convolution(data, ops.constant(weight), stride, pads, pads, [1, 1])
    else:
        grouped = weight.reshape(groups, -1, *weight.shape[1:])
        node = ops.group_convolution(data, ops.constant(grouped), stride, pads, pads, [1, 1])
    settings = {
        "INFERENCE_NUM_THREADS": case.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # as the others: where the process may run, not where the library would
    }
    request = ov.Core().compile_model(ov.Model([node], [data], "layer"), "CPU", settings).create_infer_request()
    tensor = ov.Tensor(x, shared_memory=True)
    request.set_input_tensor(tensor)

    def call() -> None:
        request.infer(share_outputs=True)

    def after_call() -> np.ndarray:
        call()
        return request.get_output_tensor().data.copy()

    return Prepared(call, after_call, kept=(x, tensor))


# In the order of their turns: numbaconv last, and not right after onnxruntime.
PREPARE = {
    "torch": with_torch,
    "torch.channels_last": with_torch_last,
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
    OURS: with_numbaconv,
}
NEEDS = {"torch.channels_last": ("torch",), "onnxruntime": ("onnxruntime", "onnx")}  # modules, where not the name alone


# ---------------------------------------------------------------- processes


def serve(connection: Any, name: str) -> None:
    """Answer requests until there are none: a case is prepared, a number of seconds is a block of calls."""
    prepared = repeats = None
    while (request := connection.recv()) is not None:
        try:
            if isinstance(request, Case):
                prepared = PREPARE[name](request)
                answer = prepared.result(), prepared.note
                repeats = max(1, int(SHORT / median_of_calls(prepared.call, 5e-3, 1)))
            else:
                answer = median_of_calls(prepared.call, request, repeats)
        except Exception as error:
            answer = Failure(f"{type(error).__name__}: {error}")
        connection.send(answer)


def median_of_calls(call: Callable[[], Any], seconds: float, repeats: int) -> float:
    """Return the median seconds of a call over a block, the first call aside."""
    call()
    times = []
    begin = stop = time.perf_counter()
    while not times or stop - begin < seconds:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        stop = time.perf_counter()
        times.append((stop - start) / repeats)
    return statistics.median(times)


class Library:
    """A library in a process of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, name), daemon=True)
        self._process.start()
        other.close()  # so that the end of the process is the end of the pipe

    def ask(self, request: Any) -> Any:
        """Return the answer to a request, or the failure."""
        try:
            self._connection.send(request)
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join(1)
            return Failure(f"its process ended (exit code {self._process.exitcode})")

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


# ---------------------------------------------------------------- measuring


@dataclass
class Row:
    """What was measured on a layer, by library: seconds of each block, and the rms error relative to float64."""

    layer: str
    flops: int
    times: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    algorithm: str = ""

    def seconds(self, name: str) -> float | None:
        """The median time of a library."""
        return statistics.median(self.times[name]) if self.times.get(name) else None

    @property
    def best_peer(self) -> str | None:
        """The fastest library beside numbaconv."""
        return min((name for name in self.times if name != OURS and self.times[name]), key=self.seconds, default=None)

    @property
    def ratio(self) -> float | None:
        """The time of the fastest peer over that of numbaconv."""
        ours, best = self.seconds(OURS), self.best_peer
        return self.seconds(best) / ours if ours and best else None


def output_shape(shape: Sequence[int], weight: Sequence[int], stride: int = 1, padding: int = 0, groups: int = 1) -> tuple:
    """Return the shape of a result, channels first."""
    return shape[0], weight[0], *((n + 2 * padding - k) // stride + 1 for n, k in zip(shape[2:], weight[2:], strict=True))


def flops_of(layer: str) -> int:
    """Return the floating-point operations of a layer as it is defined, those with padding among them."""
    shape, weight, options = LAYERS[layer]
    return 2 * math.prod(output_shape(shape, weight, **options)) * math.prod(weight[1:])


def reference(layer: str) -> np.ndarray:
    """Return a layer's result in float64, summed tap by tap."""
    x, weight, options = operands(layer)
    groups, stride, padding = (options.get(name, default) for name, default in (("groups", 1), ("stride", 1), ("padding", 0)))
    batch, outs, high, wide = output_shape(x.shape, weight.shape, **options)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    grouped = weight.astype(np.float64).reshape(groups, outs // groups, *weight.shape[1:])
    total = np.zeros((batch, groups, outs // groups, high * wide))
    for i, j in np.ndindex(weight.shape[2:]):
        rows, columns = slice(i, i + (high - 1) * stride + 1, stride), slice(j, j + (wide - 1) * stride + 1, stride)
        total += grouped[..., i, j] @ padded[:, :, rows, columns].reshape(batch, groups, -1, high * wide)
    return total.reshape(batch, outs, high, wide)


def relative_error(result: np.ndarray, exact: np.ndarray) -> float:
    """Return the root mean square of the error over that of the result."""
    return float(np.sqrt(np.mean((result - exact) ** 2) / np.mean(exact**2)))


def measure(row: Row, libraries: Sequence[Library], args: argparse.Namespace) -> None:
    """Fill in a row, round by round."""
    exact, ready = reference(row.layer), []
    for library in libraries:
        answer = library.ask(Case(row.layer, args.threads, args.mode, args.layout, args.algorithm))
        if isinstance(answer, Failure):
            row.failures[library.name] = answer.reason
            continue
        result, note = answer
        row.errors[library.name] = relative_error(result, exact)
        row.algorithm = note or row.algorithm
        ready.append(library)
    for _ in range(args.rounds):
        for library in ready:
            answer = library.ask(args.block)
            if isinstance(answer, Failure):
                row.failures[library.name] = answer.reason
                continue
            row.times.setdefault(library.name, []).append(answer)
            if library.name == "onnxruntime":
                time.sleep(PAUSE)


# ---------------------------------------------------------------- reports


def machine() -> dict[str, Any]:
    """Return what the times depend on beside the libraries."""
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    wanted = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")
    return {
        "cpu": cpu_model(),
        "code name": llvmlite.binding.get_host_cpu_name(),
        "features": " ".join(name for name in wanted if features.get(name)),
        "cores": os.cpu_count(),
        "cores allowed": allowed_cores(),
        "caches": caches(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """Return the CPU's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, platform.processor())


def allowed_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def caches() -> dict[str, int]:
    """Return the bytes of the caches that hold data, as the first allowed core sees them, where Linux tells."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    found = {}
    for path in sorted(Path(f"/sys/devices/system/cpu/cpu{core}/cache").glob("index*")):
        level, kind, size = ((path / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = int(size.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(size[-1], 1)
    return found


def versions(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of libraries."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def in_words(items: dict[str, Any]) -> str:
    """Return a dict on one line."""
    return ", ".join(f"{name} {value}" for name, value in items.items())


def table(rows: Sequence[Row], names: Sequence[str]) -> list[list[str]]:
    """Return the cells of the table, its heading first."""
    heading = ["layer", "algorithm", *(f"{name}, us" for name in names), "GFLOP/s", "ratio", "rms error", "of the best peer"]
    cells = [heading]
    for row in rows:
        ours = row.seconds(OURS)
        cells.append([
            row.layer,
            row.algorithm or "-",
            *(number(row.seconds(name), 1e6, "failed" if name in row.failures else "-") for name in names),
            number(row.flops / ours if ours else None, 1e-9),
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            *("-" if error is None else f"{error:.1e}" for error in map(row.errors.get, (OURS, row.best_peer))),
        ])  # fmt: skip
    return cells


def number(value: float | None, scale: float, missing: str = "-") -> str:
    """Return a number with three digits or more."""
    if value is None:
        return missing
    scaled = value * scale
    return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}"


def summary(rows: Sequence[Row]) -> str:
    """Return a sentence on all ratios."""
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if not ratios:
        return "No layer was measured with a peer."
    faster = sum(ratio >= 1 for ratio in ratios)
    mean = statistics.geometric_mean(ratios)
    return f"{faster} of {len(ratios)} ratios are 1 or above, their geometric mean is {mean:.2f}, the least {min(ratios):.2f}."


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, its columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]


def progress(row: Row) -> str:
    """Return what is known of a layer, in few words."""
    ours, best = row.seconds(OURS), row.best_peer
    parts = [f"{row.layer}:", f"{OURS} {number(ours, 1e6)} us ({row.algorithm or 'failed'})"]
    if best:
        parts.append(f"{best} {number(row.seconds(best), 1e6)} us, ratio {'-' if row.ratio is None else f'{row.ratio:.2f}'}")
    return "  ".join([*parts, *(f"\n  {name}: {reason}" for name, reason in row.failures.items())])


def markdown(document: dict[str, Any], rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the results as a page."""
    heading, *cells = table(rows, names)
    lines = [heading, ["---"] * 2 + ["---:"] * (len(heading) - 2), *cells]
    sizes = {name: f"{size // 1024} KiB" for name, size in document["machine"]["caches"].items()}
    about = {**document["machine"], "caches": in_words(sizes)}
    return "\n".join([
        f"# {OURS} beside its peers: {document['mode']}, {document['layout']}, threads: {document['threads']}",
        "",
        f"`{document['command']}`",
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
        f"- versions: {in_words(document['versions'])}",
        "",
        "Times are medians; ratio is the fastest peer's time over numbaconv's; rms errors are relative to float64.",
        "",
        *("| " + " | ".join(line) + " |" for line in lines),
        "",
        summary(rows),
        "",
    ])  # fmt: skip


def as_json(row: Row) -> dict[str, Any]:
    """Return a row with what follows from its times."""
    medians = {name: row.seconds(name) for name in row.times}
    speeds = {name: float(f"{row.flops / seconds * 1e-9:.4g}") for name, seconds in medians.items()}
    derived = {"medians": medians, "gflops": speeds, "best_peer": row.best_peer, "ratio": row.ratio}
    shape, weight, options = LAYERS[row.layer]
    return {"input": shape, "weight": weight, "options": options, **asdict(row), **derived}


# ---------------------------------------------------------------- the command


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0].partition(":")[0])
    peers = [name for name in PREPARE if name != OURS]
    parser.add_argument("--threads", type=int, default=allowed_cores(), help="of every library; all allowed cores unless told")
    mode = "numbaconv's weight packed before, or in each call: then beside PyTorch alone, as the others pack before"
    parser.add_argument("--mode", choices=("prepared", "functional"), default="prepared", help=mode)
    parser.add_argument("--layout", choices=("NCHW", "NHWC"), default="NCHW", help="of numbaconv's data")
    parser.add_argument("--layers", default="", metavar="SUBSTRING", help="only layers whose name contains it")
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each library and layer")
    parser.add_argument("--block", type=float, default=0.03, metavar="SECONDS", help="of calls in a turn")
    parser.add_argument("--algorithm", default="auto", help="numbaconv's")
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds have to be 1 or more")
    return args


def chosen(args: argparse.Namespace) -> Iterator[str]:
    """Yield the libraries to measure in the order of their turns, and say which are left out."""
    for name in PREPARE:
        if name != OURS and (name not in args.peers or (args.mode == "functional" and not name.startswith("torch"))):
            continue
        missing = [module for module in NEEDS.get(name, (name,)) if importlib.util.find_spec(module) is None]
        if missing:
            print(f"{name} is skipped: {' and '.join(missing)} not installed")
        else:
            yield name


def run(args: argparse.Namespace, names: Sequence[str]) -> list[Row]:
    """Measure layer by layer, until all are or the user has seen enough."""
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(args.threads)
    rows: list[Row] = []
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the processes inherit
    libraries = [Library(name) for name in names]
    signal.signal(signal.SIGINT, interrupt)
    try:
        for layer in (name for name in LAYERS if args.layers in name):
            rows.append(Row(layer, flops_of(layer)))
            measure(rows[-1], libraries, args)
            print(progress(rows[-1]), flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what follows is short, and worth having
        for library in libraries:
            library.close()
    return [row for row in rows if row.times]


def main() -> None:
    args = arguments()
    names = list(chosen(args))
    document = {
        "command": shlex.join(["python", "benchmarks/compare.py", *sys.argv[1:]]),
        **{name: getattr(args, name) for name in ("mode", "layout", "threads", "algorithm", "rounds", "block")},
        "machine": machine(),
        "versions": versions(),
    }
    rows = run(args, names)
    print("", *aligned(table(rows, names)), "", summary(rows), sep="\n")
    if args.markdown:
        args.markdown.write_text(markdown(document, rows, names))
    if args.json:
        lines = ",\n".join(json.dumps(as_json(row)) for row in rows)
        head = json.dumps(document, indent=1).removesuffix("\n}")
        args.json.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
