"""Transposed convolutions, and the gradients with respect to input and weight."""

import numbaconv as nc
from benchmarks.common import LAYOUTS, ROUNDS, THREADS, calls, forward, numbers, once, operands, output_shape, pin, some
from benchmarks.layers import LAYERS, TRANSPOSED


class Transposed:
    """Seconds of one call, warm."""

    params = (some(("up.2x2.s2", "up.4x4.s2"), TRANSPOSED), LAYOUTS, THREADS)
    param_names = ("layer", "layout", "threads")
    rounds = ROUNDS

    @once
    def setup(self, layer, layout, threads):
        pin(threads)
        x, weight, options = operands(TRANSPOSED[layer], layout)
        op = nc.ConvTranspose2d(weight, **options)
        self.prepared, self.functional = lambda: op(x), lambda: nc.conv_transpose2d(x, weight, **options)
        self.functional()
        self.prepared()
        self.number = calls(self.prepared)

    def time_functional(self, layer, layout, threads):
        self.functional()

    def time_prepared(self, layer, layout, threads):
        self.prepared()


class Gradients:
    """Seconds of one call, warm, beside the forward one."""

    params = (some(("resnet50.2.3x3", "resnet50.3.3x3.s2"), LAYERS), THREADS)
    param_names = ("layer", "threads")
    rounds = ROUNDS

    @once
    def setup(self, layer, threads):
        pin(threads)
        problem = LAYERS[layer]
        function, _ = forward(problem)
        x, weight, options = operands(problem)
        slope = numbers(output_shape(problem))
        self.calls = {
            "forward": lambda: function(x, weight, **options),
            "input": lambda: nc.grad.conv2d_input(x.shape, weight, slope, **options),
            "weight": lambda: nc.grad.conv2d_weight(x, weight.shape, slope, **options),
        }
        for call in self.calls.values():
            call()
        self.number = calls(self.calls["input"])

    def time_forward(self, layer, threads):
        self.calls["forward"]()

    def time_input(self, layer, threads):
        self.calls["input"]()

    def time_weight(self, layer, threads):
        self.calls["weight"]()
