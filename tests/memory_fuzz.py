"""Random calls whose arrays lie beside pages that nobody may touch: a kernel that does takes this program down.

``python memory_fuzz.py ALGORITHM COUNT [SEED] [DTYPES]`` names every call on stderr before it makes it. Arrays are in either
memory order, with steps, negative ones too, and gaps, all of which must be what they were afterwards. Packed weights lie beside
such pages as well.
"""

import math
import sys
import zlib

import ml_dtypes
import numpy as np
from guard import Guarded

import numbaconv as nc
from numbaconv.backend import BACKENDS

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.float32, np.float64, np.float16, BFLOAT16]
DTYPES = [*FLOATS, np.complex64, np.complex128, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), np.bool_]
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
PRODUCTS = 3_000_000  # of a call, at most: NumPy computes it as well
# Kernel, stride, padding, dilation: few, as for each set of them code is compiled; sizes are free.
SQUARES = [
    ((3, 3), 1, 1, 1), ((3, 3), 1, 0, 1), ((3, 3), 2, 1, 1), ((1, 1), 1, 0, 1), ((1, 1), 2, 0, 1), ((5, 5), 2, 2, 1),
    ((2, 7), 1, (0, 3), 1), ((3, 2), (1, 3), 0, 2), ((3, 3), 1, (2, 5), 3), ((3, 3), 1, ((-1, 2), (3, -2)), 1),
    ((3,), 1, 1, 1), ((7,), 2, 3, 1), ((2, 3, 3), 1, 1, 1), ((3, 1, 2), (1, 2, 1), (0, 1, 0), (2, 1, 1)),
]  # fmt: skip
TILED = [
    ((3, 3), 1, 1, 1), ((3, 3), 1, 0, 1), ((1, 3), 1, (0, 1), 1), ((3, 1), 1, (2, 0), 1), ((3,), 1, 1, 1), ((5, 5), 1, 2, 1),
    ((3, 3), 2, 1, 1), ((2, 3, 3), 1, 1, 1), ((4, 4), 2, 1, 1),
]  # fmt: skip
FILTERS = [
    ((3, 3), 1, 1, 1), ((5, 5), 1, 2, 1), ((5, 5), 2, 2, 1), ((7, 7), 1, 3, 1), ((3, 3), 2, 0, 1), ((3,), 1, 1, 1),
    ((3, 3), 2, ((0, 1), (0, 1)), 1), ((1, 5), 1, (0, 4), 1), ((3, 3), 1, 2, 2), ((3, 4), (2, 1), ((2, 1), (3, 0)), 1),
    ((2, 2), 2, 1, 1), ((3, 3), 3, 1, 1), ((1, 1), 1, 0, 1), ((3, 3), 1, (0, 20), 1), ((2, 3, 3), 1, 1, 1),
]  # fmt: skip
POINTS = [((1, 1), 1, 0, 1), ((1,), 1, 0, 1), ((1, 1, 1), 1, 0, 1)]
# Groups, and a group's input and output channels.
DENSE = [(1, 3, 5), (1, 16, 32), (1, 37, 53), (2, 5, 19), (1, 64, 16), (3, 8, 1), (1, 1, 1)]
DEPTHWISE = [(7, 1, 1), (37, 1, 1), (16, 1, 1), (3, 1, 1), (6, 1, 1), (3, 1, 2), (9, 2, 2), (5, 4, 4), (1, 1, 1), (1, 1, 6)]
KINDS = {
    "depthwise": (FILTERS, DEPTHWISE),
    "depthwise_blocked": (FILTERS, DEPTHWISE),
    "pointwise": (POINTS, DENSE),
    "winograd2": (TILED, DENSE),
    "winograd4": (TILED, DENSE),
}
MODES = ["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]


class Fuzz:
    """Random calls of one algorithm."""

    def __init__(self, algorithm, dtypes, seed):
        self.algorithm, self.dtypes = algorithm, dtypes
        self.row = next(a for a in BACKENDS["cpu"].algorithms if a.name == algorithm)
        self.rng = np.random.default_rng([seed, zlib.crc32(algorithm.encode())])
        self.geometries, self.channels = KINDS.get(algorithm, (SQUARES, DENSE))
        self.memory = []  # of the call that is being made
        if algorithm != "direct_unpacked":  # whose packed weights are the weights themselves
            usual = self.row.pack
            object.__setattr__(self.row, "pack", lambda *args: self.packed(usual(*args)))

    def pick(self, *values):
        return values[self.rng.integers(len(values))]

    def numbers(self, shape, dtype):
        """Small integers, of which every direct sum is exact."""
        dtype = np.dtype(dtype)
        low, high = (0, 2) if dtype.kind == "b" else (0, 5) if dtype.kind == "u" else (-4, 5)
        found = self.rng.integers(low, high, shape)
        return (found + 1j * self.rng.integers(low, high, shape) if dtype.kind == "c" else found).astype(dtype)

    def packed(self, weight):
        """Guard what an algorithm made of a weight, one array or several."""
        return tuple(map(self.guarded, weight)) if isinstance(weight, tuple) else self.guarded(weight)

    def guarded(self, array, see=lambda memory: memory, shape=None):
        """A copy beside such a page: what `see` shows of an array of some shape, or of all its own."""
        memory = Guarded(array.shape if shape is None else shape, array.dtype, self.pick(True, True, False))
        memory.array.view(np.uint8)[...] = 0xFF  # not a number, where it is a float
        see(memory.array)[...] = array
        self.memory.append((memory, memory.array.copy(), see))
        return see(memory.array)

    def placed(self, array, plain):
        """A copy beside such a page, in some memory order, with steps and gaps if it is not to be plain."""
        ndim = array.ndim
        if plain:
            return self.guarded(array)
        orders = [*range(ndim)], [*range(ndim)], [0, *range(2, ndim), 1], [*reversed(range(ndim))]
        order = self.pick(*orders)
        steps, gaps = [self.pick(1, 1, 1, 1, 2, -1, -3) for _ in order], [self.pick(0, 0, 0, 1, 5) for _ in order]
        spans = [(n - 1) * abs(step) + 1 for n, step in zip(array.shape, steps, strict=True)]

        def see(memory):
            inside = memory.transpose(np.argsort(order))[tuple(map(slice, spans))]
            return inside[tuple(slice(None, None, step) for step in steps)]

        return self.guarded(array, see, [spans[axis] + gaps[axis] for axis in order])

    def check(self, out):
        """What is no result, is as it was."""
        for memory, before, see in self.memory:
            assert memory.is_whole(), "written beside an array"
            now = memory.array.copy()
            if out is not None and np.may_share_memory(see(memory.array), out):
                see(now)[...] = see(before)[...] = 0
            assert now.tobytes() == before.tobytes(), "written between the elements of an array"

    def problem(self):
        """A call of a forward or transposed operator, or of a gradient, with arrays that are not guarded yet; or None."""
        kernel, stride, padding, dilation = self.pick(*self.geometries)
        groups, ins, outs = self.pick(*self.channels)
        ndim, dtype = len(kernel), self.pick(*self.dtypes)
        name = self.pick("conv", "conv", "conv", "conv", "conv_transpose", "input", "weight")
        most = {1: [900], 2: [70, 110], 3: [9, 13, 40]}[ndim]
        size = [int(self.rng.integers(1, m)) for m in most]
        batch = self.pick(1, 1, 2, 3)
        positions, taps = batch * math.prod(size), groups * ins * outs * math.prod(kernel)
        if positions * taps > PRODUCTS:
            return None
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        if name in ("input", "weight"):
            return self.gradient(name, ndim, dtype, (batch, groups * ins, *size), (groups * outs, ins, *kernel), options)
        layout = self.pick(*LAYOUTS[ndim])
        shape = (batch, *size, groups * ins) if layout.endswith("C") else (batch, groups * ins, *size)
        options |= {"layout": layout, "activation": self.pick(None, None, "relu")}
        if name == "conv":
            options["padding_mode"] = self.pick(*MODES)
            weight = (groups * outs, ins, *kernel)
        else:
            weight = (groups * ins, outs, *kernel)
        arrays = {"input": self.numbers(shape, dtype), "weight": self.numbers(weight, dtype)}
        if self.pick(False, True):
            arrays["bias"] = self.numbers(groups * outs, dtype)
        if np.dtype(dtype).kind == "c":
            options["activation"] = None
        return f"{name}{ndim}d", arrays, options

    def gradient(self, name, ndim, dtype, data, weight, options):
        x, w = self.numbers(data, dtype), self.numbers(weight, dtype)
        forward = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}[ndim]
        result = forward(x, w, **options, backend="reference")
        g = self.numbers(result.shape, dtype)
        if name == "input":
            return f"conv{ndim}d_input", {"weight": w, "grad_output": g}, {"input_size": data, **options}
        return f"conv{ndim}d_weight", {"input": x, "grad_output": g}, {"weight_size": weight, **options}

    def run(self):
        """Make a call. Return whether the algorithm takes it."""
        self.memory = []
        try:
            found = self.problem()
            if found is None:
                return False
            name, arrays, options = found
            differentiates = name.endswith(("_input", "_weight"))
            function = getattr(nc.grad if differentiates else nc, name)
            with nc.use_backend("reference"):
                expected = function(**arrays, **options)
        except ValueError:  # there is less data than the kernel covers
            return False
        if not differentiates and self.pick(False, False, True):
            arrays["residual"] = self.numbers(expected.shape, arrays["input"].dtype)
            with nc.use_backend("reference"):
                expected = function(**arrays, **options)
        dtype = arrays["weight"].dtype if "weight" in arrays else arrays["input"].dtype
        print(name, {n: a.shape for n, a in arrays.items()}, dtype, options, file=sys.stderr, flush=True)
        plain = self.pick(True, False)
        operands = {n: self.placed(a, plain or n == "bias") for n, a in arrays.items()}
        try:
            result, out = self.call(function, name, operands, options, expected, plain)
        except ValueError as error:
            if not str(error).startswith("algorithm: expected one that can take this problem"):
                raise
            return False
        self.check(out)
        size = abs(expected.astype(np.complex128)).max() if expected.size else 0
        exact = self.row.sums_directly
        low = ml_dtypes.finfo(expected.dtype).eps if expected.dtype.kind in "fV" else 0
        tolerance = 0 if exact else 2e-3 + 4 * float(low) * size
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64 if expected.dtype.kind in "fV" else expected.dtype
        np.testing.assert_allclose(result.astype(wide), expected.astype(wide), rtol=0, atol=tolerance)
        return True

    def call(self, function, name, operands, options, expected, plain):
        """Call the function, or a prepared operator, twice, as the second call is bound.

        Return the result, and where that is to be if that was said.
        """
        options = {**options, "algorithm": self.algorithm}
        if name.endswith(("_input", "_weight")):
            with nc.use_backend("cpu"):
                return [function(**operands, **options) for _ in range(2)][-1], None
        out = self.placed(np.zeros_like(expected), plain) if self.pick(True, True, False) else None
        options |= {"backend": "cpu"}
        if self.pick(False, True):
            return [function(**operands, **options, out=out) for _ in range(2)][-1], out
        weight, bias = operands.pop("weight"), operands.pop("bias", None)
        operator = getattr(nc, "ConvTranspose" + name[-2:] if "transpose" in name else "Conv" + name[-2:])
        op = operator(weight, bias, **options)
        return [op(**operands, out=out) for _ in range(2)][-1], out


def main(algorithm, count, seed=0, dtypes=None):
    """Run so many calls that the algorithm takes."""
    fuzz = Fuzz(algorithm, DTYPES if dtypes is None else dtypes.split(","), int(seed))
    done = tried = 0
    while done < int(count):
        tried += 1
        assert tried < 60 * int(count) + 1000, f"{done} of {tried} problems"
        done += fuzz.run()
    print(done, "of", tried, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
