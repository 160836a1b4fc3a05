"""A layer in every dtype: seconds of a call, and beside float32."""

import numpy as np

import numbaconv as nc
from benchmarks.common import LAYOUTS, ROUNDS, calls, medians, once, operands, pin, rounded, some
from benchmarks.layers import LAYERS

DTYPES = some(
    ("float32", "float64", "float16", "int8", "complex64"),
    ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "complex64", "complex128"),
)


def dtype_of(name):
    """Return a dtype, or let asv skip what is not there."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    return np.dtype(ml_dtypes.bfloat16)


class Dtypes:
    """One prepared call on all threads, warm."""

    params = (some(("resnet50.2.3x3",), ("resnet50.2.3x3", "resnet50.4.1x1", "mobilenetv2.dw3")), DTYPES)
    param_names = ("layer", "dtype")
    rounds = ROUNDS
    layout = LAYOUTS[0]

    @once
    def setup(self, layer, dtype):
        pin("all")
        self.call = self.prepared(layer, dtype_of(dtype))
        self.call()
        self.number = calls(self.call)

    def prepared(self, layer, dtype):
        x, weight, options = operands(LAYERS[layer], self.layout, dtype)
        op = nc.Conv2d(weight, **options)
        return lambda: op(x)

    def time_prepared(self, layer, dtype):
        self.call()

    def track_times_float32(self, layer, dtype):
        ours, float32 = medians(self.call, self.prepared(layer, np.dtype(np.float32)))
        return rounded(ours / float32)

    track_times_float32.unit = "times float32's time"
