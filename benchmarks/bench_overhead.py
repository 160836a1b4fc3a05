"""What a call takes beside its kernels: seconds of calls that compute next to nothing."""

import numpy as np

import numbaconv as nc
from benchmarks.layers import LAYERS


class Overhead:
    """Seconds of one call on three by three pixels, by what is passed."""

    params = ("plain", "NHWC", "bias", "out", "strided")
    param_names = ("operands",)

    def setup(self, operands):
        shape, weight_shape, options = LAYERS["corr2d.multi_in_out"]
        rng = np.random.default_rng(0)
        self.x, self.weight = rng.standard_normal(shape, np.float32), rng.standard_normal(weight_shape, np.float32)
        bias = np.ones(weight_shape[0], np.float32) if operands == "bias" else None
        self.options, self.late = {**options, "bias": bias}, {}
        if operands == "NHWC":
            self.options["layout"], self.x = "NHWC", np.ascontiguousarray(self.x.transpose(0, 2, 3, 1))
        if operands == "out":
            self.late["out"] = nc.conv2d(self.x, self.weight, **options)
        if operands == "strided":
            self.x = np.repeat(self.x, 2, axis=-1)[..., ::2]
        self.prepared = nc.Conv2d(self.weight, **self.options)
        self.time_prepared(operands)
        self.time_functional(operands)

    def time_prepared(self, operands):
        self.prepared(self.x, **self.late)

    def time_functional(self, operands):
        nc.conv2d(self.x, self.weight, **self.options, **self.late)
