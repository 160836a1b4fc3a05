"""What a call takes beside its kernels: seconds of calls that compute next to nothing."""

from itertools import count

import numpy as np

import numbaconv as nc
from benchmarks.common import ROUNDS, calls, numbers, once, operands
from benchmarks.layers import LAYERS


class Overhead:
    """Seconds of one call on three by three pixels, by what is passed."""

    params = ("plain", "channels last", "bias", "out", "strided")
    param_names = ("operands",)
    rounds = ROUNDS

    @once
    def setup(self, passed):
        layout = "channels last" if passed == "channels last" else "channels first"
        x, weight, options = operands(LAYERS["corr2d.multi_in_out"], layout)
        out = {"out": nc.conv2d(x, weight, **options)} if passed == "out" else {}
        if passed == "bias":
            options = {**options, "bias": numbers(weight.shape[:1])}
        if passed == "strided":
            x = np.repeat(x, 2, axis=-1)[..., ::2]
        op = nc.Conv2d(weight, **options)
        self.prepared, self.functional = lambda: op(x, **out), lambda: nc.conv2d(x, weight, **options, **out)
        self.functional()
        self.prepared()
        self.number = calls(self.prepared)

    def time_functional(self, passed):
        self.functional()

    def time_prepared(self, passed):
        self.prepared()


class NewShapes:
    """Seconds of a call on an image of a size that was not seen before, which is planned; 16 channels."""

    params = ("conv2d", "conv_transpose2d")
    param_names = ("function",)
    rounds = ROUNDS
    number = 10
    sizes = count()

    def setup(self, function):
        weight, options = numbers((16, 16, 3, 3)), {"conv2d": {"padding": 1}, "conv_transpose2d": {"stride": 2}}[function]
        self.call = lambda image: getattr(nc, function)(image, weight, **options)
        self.time_new_shape(function)

    def time_new_shape(self, function):
        more, high = divmod(next(self.sizes), 64)
        self.call(np.zeros((1, 16, 32 + high, 32 + more), np.float32))
