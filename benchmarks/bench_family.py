"""The rest of the family beside the plain float32 convolution: dtypes, transposed, gradients."""

import numpy as np

import numbaconv as nc

SHAPE, WEIGHT = (1, 64, 56, 56), (64, 64, 3, 3)


class Dtypes:
    """Seconds of one prepared call on ResNet-50's 64-channel 3x3 layer."""

    params = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "complex64")
    param_names = ("dtype",)

    def setup(self, dtype):
        rng = np.random.default_rng(0)
        self.x = rng.integers(-9, 9, SHAPE).astype(dtype)
        self.op = nc.Conv2d(rng.integers(-9, 9, WEIGHT).astype(dtype), padding=1)
        self.op(self.x)

    def time_conv2d(self, dtype):
        self.op(self.x)

    def track_ratio_to_float32(self, dtype):
        reference = Dtypes()
        reference.setup("float32")
        return _median(lambda: self.op(self.x)) / _median(lambda: reference.op(reference.x))

    track_ratio_to_float32.unit = "x"


class Adjoint:
    """Seconds of one call, by stride."""

    params = (1, 2)
    param_names = ("stride",)

    def setup(self, stride):
        rng = np.random.default_rng(0)
        self.options = {"stride": stride, "padding": 1}
        self.x = rng.standard_normal(SHAPE, np.float32)
        self.weight = rng.standard_normal(WEIGHT, np.float32)
        self.y = nc.conv2d(self.x, self.weight, **self.options)
        for time in (self.time_conv_transpose2d, self.time_input_gradient, self.time_weight_gradient):
            time(stride)

    def time_conv2d(self, stride):
        nc.conv2d(self.x, self.weight, **self.options)

    def time_conv_transpose2d(self, stride):
        nc.conv_transpose2d(self.y, self.weight, **self.options)

    def time_input_gradient(self, stride):
        nc.grad.conv2d_input(self.x.shape, self.weight, self.y, **self.options)

    def time_weight_gradient(self, stride):
        nc.grad.conv2d_weight(self.x, self.weight.shape, self.y, **self.options)


def _median(function, rounds=15):
    from time import perf_counter

    times = []
    for _ in range(rounds):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return float(np.median(times))
