"""What the benchmarks share: the quick set or all, data of a problem, pinned threads, calls enough for a sample, medians."""

import functools
import math
import os
import time

import numpy as np

import numbaconv as nc

FULL = os.environ.get("NUMBACONV_BENCH") == "full"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
LAYOUTS = ("channels first", "channels last")
ROUNDS = 2 if FULL else 1  # processes that measure the same, one after all others
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
SAMPLE = 0.01  # seconds of calls that make one sample
PAUSE = 0.05  # seconds for another library's threads, which spin after a call, to come to rest


def some(quick, everything):
    """Return the parameters of the quick set, or everything with ``NUMBACONV_BENCH=full``."""
    return tuple(everything if FULL else quick)


THREADS = some(("all",), ("one", "all"))


def once(setup):
    """Decorate a setup that is to run once for its parameters: asv runs it before every call, which would find cold caches."""

    @functools.wraps(setup)
    def repeated(self, *params):
        if getattr(self, "_ready", None) != params:
            setup(self, *params)
            self._ready = params

    return repeated


def pin(threads):
    """Let Numba use one thread or all cores that this process may, and return how many.

    Kernels are planned for all threads that Numba has, so that it is told before it starts them, if it did not yet.
    """
    import numba
    from numba.np.ufunc import parallel

    count = 1 if threads == "one" else CORES
    if not getattr(parallel, "_is_initialized", True):
        os.environ["NUMBA_NUM_THREADS"] = str(count)
        numba.config.reload_config()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    return count


def numbers(shape, dtype=np.float32):
    """Return normal ones, or small whole ones of a signed integer dtype; the same each time."""
    rng = np.random.default_rng(0)
    whole = np.dtype(dtype).kind == "i"
    return (rng.integers(-9, 9, shape) if whole else rng.standard_normal(shape)).astype(dtype)


def operands(problem, layout="channels first", dtype=np.float32):
    """Return input, weight and options of a problem; its shapes are channels first, whatever the layout."""
    shape, weight_shape, options = problem
    x, weight = numbers(shape, dtype), numbers(weight_shape, dtype)
    if layout == "channels first":
        return x, weight, options
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)), weight, {**options, "layout": LAST[x.ndim - 2]}


def forward(problem):
    """Return the function and the prepared operator for a problem."""
    ndim = len(problem[0]) - 2
    return getattr(nc, f"conv{ndim}d"), getattr(nc, f"Conv{ndim}d")


def output_shape(problem):
    """The shape of a convolution's result, channels first."""
    (batch, _, *size), (channels, _, *kernel), options = problem

    def each(name, default):
        value = options.get(name, default)
        return [value] * len(size) if isinstance(value, int) else value

    axes = zip(size, kernel, each("stride", 1), each("padding", 0), each("dilation", 1), strict=True)
    return batch, channels, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


def flops(problem):
    """How many additions and multiplications the definition has."""
    return 2 * math.prod(output_shape(problem)) * math.prod(problem[1][1:])


def calls(function):
    """Return how many calls of a function, which was called before, make a sample."""
    return 1 + int(SAMPLE / max(1e-7, seconds(function, 1)))


def seconds(function, repeats):
    """Return the seconds of one of several calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def medians(*functions, rounds=9, pause=0.0):
    """Return the median seconds of functions, which take turns in short blocks; the first call of a block is not counted."""
    repeats, times = [calls(function) for function in functions], []
    for _ in range(rounds):
        times.append([])
        for function, count in zip(functions, repeats, strict=True):
            time.sleep(pause)
            function()
            times[-1].append(seconds(function, count))
    return np.median(times, axis=0).tolist()


def rounded(value):
    """To four digits: the others are noise."""
    return float(f"{value:.4g}")


def rms_error(result, exact):
    """The root of the mean squared error, relative to that of the exact numbers."""
    return float(np.sqrt(np.mean((result - exact) ** 2) / np.mean(exact**2)))


def in_float64(problem, x, weight):
    """Return the convolution of two axes by its definition, in NumPy alone and in float64."""
    _, _, options = problem
    stride, padding, groups = (options.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("groups", 1)))
    (sh, sw), (ph, pw) = ((v, v) if isinstance(v, int) else v for v in (stride, padding))
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, ::sh, ::sw]
    parts = zip(np.split(windows, groups, axis=1), np.split(weight.astype(np.float64), groups), strict=True)
    return np.concatenate([np.moveaxis(np.tensordot(w, k, ((1, 4, 5), (1, 2, 3))), -1, 1) for w, k in parts], axis=1)
