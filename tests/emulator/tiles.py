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
    if operation.parts[1] == "arrive":
        return _arrive(code, operation)
    assert operation.parts[1:] == ("init", "shared::cta", "b64"), operation.text
    source, count = operation.operands
    address, read = code.address(source), code.lanes(count, np.uint32)

    def note(b: Block) -> None:
        threads = b.active()
        for thread, at, number in zip(threads, address(b), np.broadcast_to(read(b), len(threads)), strict=True):
            assert at % 8 == 0, operation.text
            tma._prepare(np.array([b.shared.first + at]), np.array([number]))
            b.made_ready[b.shared.first + int(at)] = thread, b.shared.epoch

    return note


def _arrive(code: Code, operation: Operation) -> Step:
    """Arrive, and expect bytes, or arrive alone, perhaps at another block's barrier."""
    expecting = operation.parts[2:] == ("expect_tx", "shared::cta", "b64")
    assert expecting or operation.parts[2:] in (("shared::cta", "b64"), ("shared::cluster", "b64")), operation.text
    assert operation.operands[0] == "_", operation.text
    address = code.address(operation.operands[1])
    read = code.lanes(operation.operands[2] if expecting else 0, np.uint32)

    def note(b: Block) -> None:
        threads = b.active()
        for thread, at, number in zip(threads, address(b), np.broadcast_to(read(b), len(threads)), strict=True):
            assert at % 8 == 0, operation.text
            block, place = b.place(at, operation.text)
            there = _made_before(b, thread, block, place, operation.text)
            tma._expect(np.array([there]), np.array([number]))
        b.wake()

    return note


def _made_before(b: Block, thread: int, block: Block, place: int, text: str) -> int:
    """Where a barrier of a block is in memory, which this thread knows to be ready."""
    there = block.shared.first + place
    if there not in block.made_ready:
        raise FaultError(f"a barrier is asked that nobody has made ready: {text}")
    maker, epoch = block.made_ready[there]
    if (block is not b or maker != thread) and epoch == block.shared.epoch:
        raise FaultError(f"a race: a barrier is asked that another thread made since the last one: {text}")
    return there


def _try_wait(code: Code, operation: Operation) -> Step:
    target, source, parity = operation.operands
    address, read, write = code.address(source), code.lanes(parity, np.uint32), code.writer(target)

    def ask(b: Block) -> None:
        passed, threads = np.zeros(b.count, bool), b.active()
        asked = zip(threads, address(b), strict=True)
        places = [_made_before(b, thread, b, int(at), operation.text) for thread, at in asked]
        passed[threads] = [tma._barriers[at].passed(int(p)) for at, p in zip(places, read(b), strict=True)]
        for at in set(places):
            if not tma._barriers[at].coming:  # all of it is there
                for words in b.tiles.pop(at, []):
                    b.shared.coming[words] = False
        b.idle[threads] = ~passed[threads]
        if passed.any():
            b.wake()
        write(b, passed)

    return ask


def load_tile(code: Code, operation: Operation) -> Step:
    """cp.async.bulk.tensor, tiled or im2col: where to, the map and coordinates, the barrier, im2col's offsets, and for whom."""
    target, origin, barrier, *offsets = operation.operands
    mask = code.lanes(offsets.pop(), np.uint16) if "multicast::cluster" in operation.parts else None
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
            whom = [b] if mask is None else [one for rank, one in enumerate(b.cluster) if int(mask(b)[lane]) >> rank & 1]
            for block in whom:
                if block.gone.all():
                    raise FaultError(f"a tile for a block that has ended: {operation.text}")
                there = _made_before(b, int(b.active()[lane]), block, bar, operation.text)
                block.tiles.setdefault(there, []).append(block.shared.begin_tile(at, many * ROW, operation.text))
                numbers = [block.shared.first + at, tensor, *(int(read(b)[lane]) for read in places), there]
                load(*(np.array([n]) for n in numbers), *(np.array([int(read(b)[lane])]) for read in moved))

    return ask
