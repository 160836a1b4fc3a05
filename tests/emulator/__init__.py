"""PTX run without a GPU: what kernels were compiled to, lane by lane, in NumPy.

The simulator runs a kernel's Python source, with Python's integers, and so with small tiles; this runs what the assembler gets, with
the tiles, types and words that a GPU gets. Memory knows what was allocated, and shared memory who touched it last: an access
outside of an array, one that is not aligned, and a race between threads are errors. Asynchronous copies arrive as late as they may.

``parser.py`` reads the text, ``arithmetic.py`` and ``memory.py`` say what instructions do, ``tensor.py`` those of whole warps and
of the Tensor Memory Accelerator, ``block.py`` runs a block of threads, and ``device.py`` stands in for a GPU and its driver.
"""
