"""The kernel to read first: a thread sums one output element, by the definition."""

from numba import cuda

from numbaconv.cuda.binary import factory
from numbaconv.cuda.kernels.common import at, element, epilogue, source

__all__ = ["direct"]


@factory
def direct(compute, activation=None):
    """Return the kernel that sums in type `compute` and applies a scalar function to the results."""
    store = epilogue(compute, activation)

    def direct_kernel(input, weight, bias, residual, output, s, g):
        for index in range(cuda.grid(1), g.batch * g.groups * g.outs * g.out_d * g.out_h * g.out_w, cuda.gridsize(1)):
            n, group, o, d, h, w = element(index, s.output[2] == 1, g)
            total = compute(0)
            for c in range(g.channels):
                for kd in range(g.kernel_d):
                    z = source(d * g.stride_d + kd * g.dilation_d - g.low_d, g.size_d, g.mode)
                    for kh in range(g.kernel_h):
                        y = source(h * g.stride_h + kh * g.dilation_h - g.low_h, g.size_h, g.mode)
                        for kw in range(g.kernel_w):
                            x = source(w * g.stride_w + kw * g.dilation_w - g.low_w, g.size_w, g.mode)
                            value = compute(0)
                            if z >= 0 and y >= 0 and x >= 0:
                                value = compute(input[at(s.input, n, group, c, z, y, x)])
                            # Padded zeros are multiplied too, so that an infinite weight makes NaN, as in all algorithms.
                            total = compute(total + value * compute(weight[at(s.weight, group, o, c, kd, kh, kw)]))
            store(output, bias, residual, s, n, group, o, d, h, w, total, g)

    return direct_kernel
