"""How a block stores a tile of sums: rows are pixels, whose places are found once, and columns are output channels.

The sums go through shared memory, so that neighbouring threads store neighbours, several of them as one vector where memory
allows (see ``storing.py``). The simple case to read first: along channels, one at a time.
"""

from functools import cache

from numba import cuda, uint64

from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import NOWHERE, completion, pixel_32
from numbaconv.cuda.storing import CHANNELS
from numbaconv.cuda.vectors import vectors

__all__ = ["one_of", "rows_of", "storing"]


def one_of(functions):
    """Return what calls the function of a number, with it. They are no array, and their arguments stay in registers."""
    *others, last = functions
    if not others:
        return last
    number, rest = len(others), one_of(others)

    @inlined
    def call(piece, shared, sums, x, y):
        if piece == number:
            last(piece, shared, sums, x, y)
        else:
            rest(piece, shared, sums, x, y)

    return call


@cache
def rows_of(BM, threads):
    """Return the function that finds the places of a tile's rows, in two tables."""

    @inlined
    def find_rows(places, tile, pixels, thread, s, g):
        """outputs[r], residuals[r] = where the first channel of pixel m0 + r lies, or NOWHERE, for a tile ``(m0, group, split)``.

        `split` is the part of the sums.
        """
        (outputs, residuals), (m0, group, split) = places, tile
        for r in range(thread, BM, threads):
            outputs[r] = NOWHERE
            if m0 + r < pixels:
                n, d, h, w = pixel_32(m0 + r, g)
                n += split * g.batch
                to, add = s.output, s.residual
                outputs[r] = n * to[0] + group * to[1] + d * to[3] + h * to[4] + w * to[5]
                residuals[r] = n * add[0] + group * add[1] + d * add[3] + h * add[4] + w * add[5]

    return find_rows


@inlined
def one_load(pointer, index, values, first):
    values[first] = pointer[index]


@inlined
def one_store(pointer, index, values, first):
    pointer[index] = values[first]


@inlined
def itself(row, piece):
    return row


@inlined
def unchanged(value):
    return value


def storing(compute, activation, form, rows, columns, pitch, threads, place=itself, read=unchanged, order=unchanged):
    """Return what finishes and stores a rectangle of sums of type `compute`, which lie in shared memory in lines.

    A line is a row of sums or, along pixels, a column, and the next one lies `pitch` elements further; `order` says which one the
    n-th is. `place` says which row of the tile the r-th one of a piece is, and neighbours of a vector stay such; `read` makes a
    sum of an element.

    It is handed the arrays ``(output, bias, residual)``, the places ``(outputs, residuals)`` that ``rows_of`` found, and the part
    ``(group, o0, piece)``: the tile's group, the rectangle's first output channel, and which piece of the tile it is.
    """
    channels = form.along == CHANNELS
    lines, items = (rows, columns) if channels else (columns, rows)
    many = min(form.many, items, items * lines // threads)
    twice, units = 2 * many, items // many  # of a line, a thread each
    step = threads // units  # lines at a time; a thread takes the same items of each
    working = step * units
    assert lines % step == 0, "all threads that work take as many lines"
    load, put = vectors(many) if many > 1 else (one_load, one_store)
    complete = completion(compute, activation, form.boolean)

    @inlined
    def finish(held, more, shared, first, arrays, at_output, at_residual, g):
        """Store `many` sums from shared[first] on, with what `more` adds."""
        output, _, residual = arrays
        for v in range(many):
            held[v] = read(shared[uint64(first + v)])
        if g.has_bias:
            for v in range(many):
                held[v] = compute(held[v] + more[v])
        if g.has_residual:
            load(residual, at_residual, more, many)
            for v in range(many):
                held[v] = compute(held[v] + more[many + v])
        for v in range(many):
            held[v] = complete(held[v])
        put(output, at_output, held, 0)

    @inlined
    def store_channels(shared, first, arrays, places, part, thread, s, g):
        (_, bias, _), (outputs, residuals), (group, o0, piece) = arrays, places, part
        held, more = cuda.local.array(many, compute), cuda.local.array(twice, compute)
        item, line = thread % units * many, thread // units
        o = o0 + item
        if o < g.outs and (working == threads or thread < working):
            for v in range(many):
                more[v] = compute(bias[group * s.bias[1] + (o + v) * s.bias[2]]) if g.has_bias else compute(0)
            for i in range(lines // step):
                r = place(order(line + i * step), piece)
                to = outputs[r]
                if to != NOWHERE:
                    at_residual = residuals[r] + o * s.residual[2] if g.has_residual else 0
                    at = first + (line + i * step) * pitch + item
                    finish(held, more, shared, at, arrays, to + o * s.output[2], at_residual, g)

    @inlined
    def store_pixels(shared, first, arrays, places, part, thread, s, g):
        (_, bias, _), (outputs, residuals), (group, o0, piece) = arrays, places, part
        held, more = cuda.local.array(many, compute), cuda.local.array(twice, compute)
        item, line = thread % units * many, thread // units
        r = place(item, piece)
        to = outputs[r]
        if to != NOWHERE and (working == threads or thread < working):
            at_residual = residuals[r] if g.has_residual else 0
            for i in range(lines // step):
                o = o0 + order(line + i * step)
                if o < g.outs:
                    one = compute(bias[group * s.bias[1] + o * s.bias[2]]) if g.has_bias else compute(0)
                    for v in range(many):
                        more[v] = one
                    at = first + (line + i * step) * pitch + item
                    place_of_residual = at_residual + o * s.residual[2]
                    finish(held, more, shared, at, arrays, to + o * s.output[2], place_of_residual, g)

    return store_channels if channels else store_pixels
