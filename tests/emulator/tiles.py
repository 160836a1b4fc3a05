"""The Tensor Memory Accelerator: barriers, and tiles that arrive when somebody asks whether they are there.

What a tile is, :mod:`numbaconv.cuda.tma` says; here are the operands' places in the instructions, and who may touch what.
"""

from collections.abc import Callable

import numpy as np

from emulator.block import Block
from emulator.code import Code, special
from emulator.memory import FaultError
from emulator.parser import Operation
from numbaconv.cuda import tensor_map, tma
from numbaconv.cuda.warpgroup import ROW

Step = Callable[[Block], None]


@special
def mbarrier(code: Code, operation: Operation) -> Step:
    if operation.parts[1] == "try_wait":
        return _try_wait(code, operation)
    change = {"init": tma._prepare, "arrive": tma._expect}[operation.parts[1]]
    assert operation.parts[1:3] != ("arrive", "noComplete"), operation.text
    *_, source, count = operation.operands
    address, read = code.address(source), code.lanes(count, np.uint32)

    def note(b: Block) -> None:
        threads = b.active()
        for thread, at, number in zip(threads, address(b), np.broadcast_to(read(b), len(threads)), strict=True):
            assert at % 8 == 0, operation.text
            change(np.array([b.shared.first + at]), np.array([number]))
            if change is tma._prepare:
                b.made_ready[b.shared.first + int(at)] = thread, b.shared.epoch
        b.idle[:] = False

    return note


def _try_wait(code: Code, operation: Operation) -> Step:
    target, source, parity = operation.operands
    address, read, write = code.address(source), code.lanes(parity, np.uint32), code.writer(target)

    def ask(b: Block) -> None:
        passed, threads = np.zeros(b.count, bool), b.active()
        places = b.shared.first + address(b)
        if not all(int(at) in b.made_ready for at in places):
            raise FaultError(f"a barrier is asked that nobody has made ready: {operation.text}")
        for thread, at in zip(threads, places, strict=True):
            maker, epoch = b.made_ready[int(at)]
            if maker != thread and epoch == b.shared.epoch:
                raise FaultError(f"a race: a barrier is asked that another thread made since the last one: {operation.text}")
        passed[threads] = [tma._barriers[int(at)].passed(int(p)) for at, p in zip(places, read(b), strict=True)]
        for at in set(places.tolist()):
            if not tma._barriers[at].coming:  # all of it is there
                for words in b.tiles.pop(at, []):
                    b.shared.coming[words] = False
        b.idle[threads] = ~passed[threads]
        if passed.any():
            b.idle[:] = False
        write(b, passed)

    return ask


def load_tile(code: Code, operation: Operation) -> Step:
    """cp.async.bulk.tensor, tiled or im2col: where to, the map and the coordinates, the barrier, and im2col's offsets."""
    target, origin, barrier, *offsets = operation.operands
    load = tma._load_pixels if "im2col" in operation.parts else tma._load_rows
    to, maps, told = (code.address(one) for one in (target, origin, barrier))
    places = [code.lanes(one, np.int32) for one in origin.coordinates]
    moved = [code.lanes(one, np.uint16) for one in (offsets[0] if offsets else ())]

    def ask(b: Block) -> None:
        for lane in range(len(b.active())):
            at, tensor, bar = (int(read(b)[lane]) for read in (to, maps, told))
            number = int(b.arena.read(np.array([tensor]), np.int64, operation.text)[0])
            form, _ = tensor_map._described[number]
            many = form.pixels if isinstance(form, tensor_map.Pixels) else form.rows
            b.tiles.setdefault(b.shared.first + bar, []).append(b.shared.begin_tile(at, many * ROW, operation.text))
            numbers = [b.shared.first + at, tensor, *(int(read(b)[lane]) for read in places), b.shared.first + bar]
            load(*(np.array([n]) for n in numbers), *(np.array([int(read(b)[lane])]) for read in moved))

    return ask
