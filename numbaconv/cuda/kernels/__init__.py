"""The kernels: loops only. Importing them imports numba.cuda; compiling them waits for a launch.

Each is made, by a function of its module, for the type that it computes in; what comes back is plain Python. They read and
write through pointers: an array is its first element's address, and element ``(a, b, c, d, e, f)`` lies
``at(strides, a, b, c, d, e, f)`` elements from there, in either direction. (Numba's array arguments of any strides were tried:
85 parameters a launch, and loads and stores that the compiler no longer knows to be of global memory.)
"""
