"""The 2-D functions as C functions: for C, Cython, SciPy's ``LowLevelCallable``, and whatever else calls through a pointer.

They do what the functions of the same name do, on arrays in C order, and take as long; without Python once a kind of call was
made. Import it by itself: ``from numbaconv import native``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import register_jitable
from numba.np.numpy_support import from_dtype

from numbaconv import dtypes, functional
from numbaconv.errors import bad_type

__all__ = ["NativeFunction", "conv2d", "conv_transpose2d"]

_C = {
    "float32": "float", "float64": "double", "complex64": "float _Complex", "complex128": "double _Complex",
    **{f"{u}int{n}": f"{u}int{n}_t" for u in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip
_OK, _FAILED = 0, 1


class NativeFunction:
    """A C function.

    Attributes
    ----------
    name : str
        For example ``"conv2d_float32"``.
    address : int
        Where its code is, as long as this object lives.
    signature : str
        Its type in C: ``"int64_t (const float *, ...)"``.
    declaration : str
        Its prototype with the names of its parameters, for a C header.
    """

    def __init__(self, name: str, compiled: Any, parameters: list[tuple[str, str]]) -> None:
        self.name, self._compiled, self.address = name, compiled, compiled.address
        self.signature = f"int64_t ({', '.join(kind for kind, _ in parameters)})"
        self.declaration = f"int64_t {name}({', '.join(f'{kind}{parameter}' for kind, parameter in parameters)});"
        self._count, self._tag = len(parameters), self.signature.encode()

    @property
    def ctypes(self) -> Any:
        """It as a function of ``ctypes``, which releases the GIL and takes addresses."""
        return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * self._count)(self.address)

    @property
    def capsule(self) -> Any:
        """It as a ``PyCapsule`` whose name is the signature, as ``scipy.LowLevelCallable`` and Cython take one.

        It is of use as long as this object lives.
        """
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(self.address, self._tag, None)

    def __repr__(self) -> str:
        return f"<{self.declaration} at 0x{self.address:x}>"


def conv2d(dtype: Any = np.float32) -> NativeFunction:
    """Return :func:`numbaconv.conv2d` as a C function.

    Its parameters are ``input`` and ``input_shape`` (4 sizes: N, C, H, W), ``weight`` and ``weight_shape`` (4), ``bias`` (or
    ``NULL``), ``out`` and ``out_shape`` (4), all arrays in C order, and ``geometry``, 9 integers: the stride down and across, the
    padding above, below, left and right, the dilation down and across, and the groups. It returns 0; or 1, where ``out`` holds
    what it held, for sizes that do not belong together and where there is too little memory.

    Parameters
    ----------
    dtype : dtype, default float32
        Of all arrays: float32, float64, complex64, complex128, int64, uint64.

    Raises
    ------
    TypeError
        For other dtypes: those whose sums are of a wider one.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import native
    >>> function = native.conv2d(np.float32)
    >>> function.name
    'conv2d_float32'
    >>> x, w, y = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32), np.zeros((1, 1, 2, 2), np.float32)
    >>> shapes = [np.array(a.shape) for a in (x, w, y)]
    >>> geometry = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1])
    >>> arrays = x, shapes[0], w, shapes[1], None, y, shapes[2], geometry
    >>> function.ctypes(*[None if a is None else a.ctypes.data for a in arrays])
    0
    >>> y[0, 0]
    array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    return _native("conv2d", _conv2d, dtype)


def conv_transpose2d(dtype: Any = np.float32) -> NativeFunction:
    """Return :func:`numbaconv.conv_transpose2d` as a C function: as :func:`conv2d`, with two more integers in ``geometry``.

    Those are the output padding down and across. ``weight_shape`` is (C_in, C_out / groups, kh, kw).

    Parameters
    ----------
    dtype : dtype, default float32
        As of :func:`conv2d`.

    Raises
    ------
    TypeError
        As :func:`conv2d`.
    """
    return _native("conv_transpose2d", _conv_transpose2d, dtype)


def _native(name: str, function: Callable, dtype: Any) -> NativeFunction:
    checked = dtypes.check(dtype, "dtype")
    if checked.name not in _C or dtypes.resolve(checked, checked, (checked,)).out != checked:
        raise bad_type("dtype", "one of float32, float64, complex64, complex128, int64, uint64", checked)
    return _compiled(name, function, checked)


@lru_cache(maxsize=32)
def _compiled(name: str, function: Callable, dtype: np.dtype) -> NativeFunction:
    from numbaconv.cpu.jit import CFunction

    array, sizes = types.CPointer(from_dtype(dtype)), types.CPointer(types.int64)
    signature = (array, sizes, array, sizes, array, array, sizes, sizes)
    element = _C[dtype.name]
    parameters = [
        (f"const {element} *", "input"), ("const int64_t *", "input_shape"), (f"const {element} *", "weight"),
        ("const int64_t *", "weight_shape"), (f"const {element} *", "bias"), (f"{element} *", "out"),
        ("const int64_t *", "out_shape"), ("const int64_t *", "geometry"),
    ]  # fmt: skip
    return NativeFunction(f"{name}_{dtype}", CFunction(function, f"native {name} {dtype}", *signature), parameters)


@register_jitable
def _four(array, sizes):  # type: ignore[no-untyped-def]
    return carray(array, (sizes[0], sizes[1], sizes[2], sizes[3]))


# Within try, Numba loses the names of arguments on Python 3.11: so what is tried has none.


@register_jitable
def _compute(x, w, b, y, g):  # type: ignore[no-untyped-def]
    functional.conv2d(x, w, b, (g[0], g[1]), ((g[2], g[3]), (g[4], g[5])), (g[6], g[7]), g[8], out=y)


@register_jitable
def _compute_transposed(x, w, b, y, g):  # type: ignore[no-untyped-def]
    pads = (g[2], g[3]), (g[4], g[5])
    functional.conv_transpose2d(x, w, b, (g[0], g[1]), pads, (g[9], g[10]), g[8], (g[6], g[7]), out=y)


def _conv2d(input, input_shape, weight, weight_shape, bias, out, out_shape, geometry):  # type: ignore[no-untyped-def]
    x, w, y = _four(input, carray(input_shape, 4)), _four(weight, carray(weight_shape, 4)), _four(out, carray(out_shape, 4))
    b, g = carray(bias, carray(weight_shape, 4)[0]), carray(geometry, 9)
    try:
        if b.ctypes.data == 0:
            _compute(x, w, None, y, g)
        else:
            _compute(x, w, b, y, g)
    except Exception:
        return _FAILED
    return _OK


def _conv_transpose2d(input, input_shape, weight, weight_shape, bias, out, out_shape, geometry):  # type: ignore[no-untyped-def]
    x, w, y = _four(input, carray(input_shape, 4)), _four(weight, carray(weight_shape, 4)), _four(out, carray(out_shape, 4))
    b, g = carray(bias, carray(out_shape, 4)[1]), carray(geometry, 11)
    try:
        if b.ctypes.data == 0:
            _compute_transposed(x, w, None, y, g)
        else:
            _compute_transposed(x, w, b, y, g)
    except Exception:
        return _FAILED
    return _OK
