"""The last launch of split-K: a thread adds the parts of one sum, in their order, and finishes it."""

from numba import cuda

from numbaconv.cuda.binary import factory
from numbaconv.cuda.kernels.common import at, element, epilogue

__all__ = ["reduction"]


@factory
def reduction(compute, activation=None):
    """Return the kernel that adds ``g.splits`` parts, which follow each other along the images of `sums`."""
    store = epilogue(compute, activation)

    def reduction_kernel(sums, weight, bias, residual, output, s, g):
        for index in range(cuda.grid(1), g.batch * g.groups * g.outs * g.out_d * g.out_h * g.out_w, cuda.gridsize(1)):
            n, group, o, d, h, w = element(index, s.output[2] == 1, g)
            first, step = at(s.input, n, group, o, d, h, w), g.batch * s.input[0]
            total = compute(0)
            for part in range(g.splits):
                total = compute(total + sums[first + part * step])
            store(output, bias, residual, s, n, group, o, d, h, w, total, g)

    return reduction_kernel
