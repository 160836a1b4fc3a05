"""What a call takes beside its kernels: seconds of calls that compute next to nothing."""

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
