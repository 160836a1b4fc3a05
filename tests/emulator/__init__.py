"""PTX run without a GPU: what kernels were compiled to, lane by lane, in NumPy.

The simulator runs a kernel's Python source, with Python's integers, and so with small tiles; this runs what the assembler gets,
with the tiles, types and words that a GPU gets. Memory knows what was allocated, and shared memory who touched it last: an access
outside of an array, one that is not aligned, and a race between threads are errors. Asynchronous copies arrive as late as they
may.

``parser.py`` reads the text; ``code.py`` makes functions of it, with what ``arithmetic.py``, ``moves.py``, ``warps.py`` (by the
tables in ``tensor.py``) and ``tiles.py`` say of instructions; ``block.py`` runs a block of threads on ``memory.py``; and
``device.py`` stands in for a GPU and its driver.
"""
