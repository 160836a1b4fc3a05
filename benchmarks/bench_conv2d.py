"""Forward convolution, functional and prepared, by layer and layout."""

import numpy as np

import numbaconv as nc
from benchmarks.layers import LAYERS


class Forward:
    """Seconds of one call, the compilation done before."""

    params = (list(LAYERS), ["NCHW", "NHWC"])
    param_names = ("layer", "layout")

    def setup(self, layer, layout):
        shape, weight_shape, options = LAYERS[layer]
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape, np.float32)
        self.x = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        self.weight = rng.standard_normal(weight_shape, np.float32)
        self.options = {**options, "layout": layout}
        self.prepared = nc.Conv2d(self.weight, **self.options)
        self.prepared(self.x)

    def time_functional(self, layer, layout):
        nc.conv2d(self.x, self.weight, **self.options)

    def time_prepared(self, layer, layout):
        self.prepared(self.x)
