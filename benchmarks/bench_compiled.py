"""Calls from compiled functions, beside the same from Python, NumPy and SciPy in object mode, and loops by hand.

``python -m benchmarks.bench_compiled`` prints all of it as a table, measured in turns.
"""

import numpy as np
from numba import njit, objmode

import numbaconv as nc
from benchmarks.common import SAMPLE, once, operands, pin, rounded, seconds, some
from benchmarks.layers import LAYERS, SMALL

PROBLEMS = {"corr2d.multi_in_out": LAYERS["corr2d.multi_in_out"], **SMALL, "resnet50.2.3x3": LAYERS["resnet50.2.3x3"]}
ROUNDS = 9


def functional(repeats, x, weight, op, padding):
    for _ in range(repeats):
        y = nc.conv2d(x, weight, padding=padding)
    return y


def prepared(repeats, x, weight, op, padding):
    for _ in range(repeats):
        y = op(x)
    return y


@njit
def by_numpy(repeats, x, weight, op, padding):
    for _ in range(repeats):
        with objmode(y="float32[:, :, :, ::1]"):
            y = windows_and_matrix(x, weight, padding)
    return y


@njit
def by_scipy(repeats, x, weight, op, padding):
    for _ in range(repeats):
        with objmode(y="float32[:, :, :, ::1]"):
            y = correlated(x, weight, padding)
    return y


@njit
def by_hand(repeats, x, weight, op, padding):
    for _ in range(repeats):
        y = loops(x, weight, padding)
    return y


def padded(x, padding):
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))) if padding else x


def windows_and_matrix(x, weight, padding):
    """A view of all windows, and a matrix product that copies them."""
    windows = np.lib.stride_tricks.sliding_window_view(padded(x, padding), weight.shape[2:], (2, 3))
    return np.ascontiguousarray(np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2))


def correlated(x, weight, padding):
    """One call for each picture and output channel, by the method (direct or FFT) that SciPy takes for faster."""
    from scipy.signal import correlate

    return np.stack([[correlate(picture, taps, "valid")[0] for taps in weight] for picture in padded(x, padding)])


@njit
def loops(x, weight, padding):
    """Loops as one writes them with some care: a tap times a row innermost, which LLVM vectorises, and no padded copy."""
    batch, ins, height, width = x.shape
    outs, _, kh, kw = weight.shape
    y = np.zeros((batch, outs, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1), x.dtype)
    for n, o, c, i, j in np.ndindex(batch, outs, ins, kh, kw):
        tap, left, right = weight[o, c, i, j], max(0, padding - j), min(y.shape[3], width + padding - j)
        for row in range(max(0, padding - i), min(y.shape[2], height + padding - i)):
            target, source = y[n, o, row, left:right], x[n, c, row + i - padding, left + j - padding :]
            for column in range(right - left):
                target[column] += tap * source[column]
    return y


WAYS = {
    "compiled, prepared": njit(prepared),
    "compiled, functional": njit(functional),
    "Python, prepared": prepared,
    "Python, functional": functional,
    "loops by hand": by_hand,
    "NumPy in object mode": by_numpy,
    "SciPy in object mode": by_scipy,
}


def arguments(layer):
    """Return what each way takes besides the number of calls."""
    x, weight, options = operands(PROBLEMS[layer])
    return x, weight, nc.Conv2d(weight, **options), options.get("padding", 0)


def sampler(layer, way):
    """Return what measures the seconds of one call, of a sample of them within one function, which was called before."""
    run, given = WAYS[way], arguments(layer)
    run(1, *given)
    repeats = 1
    while sample(run, repeats, given) * repeats < SAMPLE:
        repeats *= 4
    return lambda: sample(run, repeats, given)


def sample(run, repeats, given):
    """Return the seconds of one of so many calls."""
    return seconds(lambda: run(repeats, *given), 1) / repeats


class Compiled:
    """Seconds of one of many calls that a function makes, warm, by what the function is."""

    params = (some(("corr2d.multi_in_out", "small.3x3"), PROBLEMS), some(tuple(WAYS)[:5], WAYS))
    param_names = ("layer", "calls")

    @once
    def setup(self, layer, way):
        pin("all")
        try:
            self.measure = sampler(layer, way)
        except ImportError as error:
            raise NotImplementedError(str(error)) from None

    def track_call(self, layer, way):
        return rounded(np.median([self.measure() for _ in range(ROUNDS)]))

    track_call.unit = "seconds"


def main():
    """Print a table of medians, in microseconds."""
    pin("all")
    print(f"{'microseconds of a call':24}" + "".join(f"{layer:>24}" for layer in PROBLEMS))
    samplers = [[sampler(layer, way) for layer in PROBLEMS] for way in WAYS]
    times = [[[measure() for measure in row] for row in samplers] for _ in range(ROUNDS)]
    for way, row in zip(WAYS, 1e6 * np.median(times, axis=0), strict=True):
        print(f"{way:24}" + "".join(f"{time:24.2f}" for time in row))


if __name__ == "__main__":
    main()
