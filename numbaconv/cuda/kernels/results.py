"""How a block stores a tile of sums: rows are pixels, whose places are found once, and columns are output channels."""

from functools import cache

from numba import cuda

from numbaconv.cuda.kernels.common import NOWHERE, finishing, pixel_32

__all__ = ["pieces", "results"]


@cuda.jit(device=True, inline="always")
def nothing(shared, sums, output, bias, residual, outputs, residuals, group, o0, thread, s, g):
    """In place of a piece that a tile does not have."""


def pieces(stores):
    """Four functions that store a piece of a tile each, for tiles of up to four."""
    return (*stores, nothing, nothing, nothing)[:4]


@cache
def results(compute, activation, BM, threads):
    """Return the functions that find the places of a tile's rows, in two tables, and that finish and store one sum."""
    finish = finishing(compute, activation)

    @cuda.jit(device=True, inline="always")
    def find_rows(outputs, residuals, m0, pixels, group, split, thread, s, g):
        """outputs[r], residuals[r] = where the first channel of pixel m0 + r lies, or NOWHERE; of the part `split` of sums."""
        for r in range(thread, BM, threads):
            outputs[r] = NOWHERE
            if m0 + r < pixels:
                n, d, h, w = pixel_32(m0 + r, g)
                n += split * g.batch
                to, add = s.output, s.residual
                outputs[r] = n * to[0] + group * to[1] + d * to[3] + h * to[4] + w * to[5]
                residuals[r] = n * add[0] + group * add[1] + d * add[3] + h * add[4] + w * add[5]

    @cuda.jit(device=True, inline="always")
    def put(output, bias, residual, outputs, residuals, r, group, o, total, s, g):
        """Finish and store the sum of row r and output channel o, if there are such."""
        to = outputs[r]
        if to != NOWHERE and o < g.outs:
            at_bias, at_residual = group * s.bias[1] + o * s.bias[2], residuals[r] + o * s.residual[2]
            finish(output, bias, residual, to + o * s.output[2], at_bias, at_residual, total, g)

    return find_rows, put
