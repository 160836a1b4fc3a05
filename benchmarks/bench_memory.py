"""The most memory that a process had, Python, Numba and the arrays among it: beside that of one that computed nothing."""

import multiprocessing

from benchmarks.common import LAYOUTS, forward, operands, pin, some
from benchmarks.layers import LAYERS

QUICK = ("resnet50.2.3x3", "vgg16.1.3x3")


class Memory:
    """Bytes of a process that computed one layer, on all threads."""

    params = (some(QUICK, LAYERS), some(LAYOUTS[:1], LAYOUTS))
    param_names = ("layer", "layout")

    def setup(self, layer, layout):
        """A child compiles the kernels, so that what the compiler takes is in no figure."""
        self.function, self.operator = forward(LAYERS[layer])
        self.x, self.weight, self.options = operands(LAYERS[layer], layout)
        child = multiprocessing.get_context("fork").Process(target=self.call_both)
        child.start()
        child.join()
        pin("all")

    def call_both(self):
        pin("all")
        self.peakmem_functional()
        self.peakmem_prepared()

    def peakmem_operands(self, *params):
        pass

    def peakmem_functional(self, *params):
        self.function(self.x, self.weight, **self.options)

    def peakmem_prepared(self, *params):
        self.operator(self.weight, **self.options)(self.x)
