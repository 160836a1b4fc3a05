"""Forward convolution, functional and prepared, by layer, layout and threads."""

from benchmarks.common import LAYOUTS, ROUNDS, THREADS, calls, forward, once, operands, pin, some
from benchmarks.layers import FORWARD

QUICK = (
    "corr2d.multi_in_out", "resnet50.conv1", "resnet50.2.3x3", "resnet50.4.1x1", "mobilenetv2.dw2.s2", "image.3x3",
    "audio.dilated.3", "volume.1x1x1",
)  # fmt: skip


class Forward:
    """Seconds of one call, warm."""

    params = (some(QUICK, FORWARD), LAYOUTS, THREADS)
    param_names = ("layer", "layout", "threads")
    rounds = ROUNDS

    @once
    def setup(self, layer, layout, threads):
        pin(threads)
        function, operator = forward(FORWARD[layer])
        x, weight, options = operands(FORWARD[layer], layout)
        op = operator(weight, **options)
        self.prepared, self.functional = lambda: op(x), lambda: function(x, weight, **options)
        self.functional()
        self.prepared()
        self.number = calls(self.prepared)

    def time_functional(self, layer, layout, threads):
        self.functional()

    def time_prepared(self, layer, layout, threads):
        self.prepared()
