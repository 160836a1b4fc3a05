"""Values that nobody should pass, and some that look like it and are fine."""

import weakref
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numba
import numpy as np
from numba import njit


class BrokenError(Exception):
    """What the objects here raise: no error that anybody expects."""


def _fail(self, *args, **kwargs):
    raise BrokenError


def _raising(*names, base=object, **more):
    return type(f"Raising_{names[0]}", (base,), {**{f"__{name}__": _fail for name in names}, **more})


class Quiet(np.ndarray):
    """A subclass that says nothing."""


class Loud(np.ndarray):
    """A subclass whose every step fails once it is made."""

    def __array_finalize__(self, parent):
        if parent is not None and type(parent) is not np.ndarray:
            _fail(self)

    __array_ufunc__ = __array_function__ = __array_wrap__ = _fail


class Interface:
    """Something with any ``__array_interface__``."""

    def __init__(self, **interface):
        self.__array_interface__ = {"version": 3, "typestr": "<f4", "shape": (2, 3), "data": (0, True)} | interface


class Array:
    """Something with any ``__array__``."""

    def __init__(self, result):
        self.result = result

    def __array__(self, dtype=None, copy=None):
        return self.result


class Text(str):
    """A str that compares with nothing."""

    __eq__ = __ne__ = _fail
    __hash__ = str.__hash__


def dead_proxy():
    return weakref.proxy(Quiet((1,)))


def cycle():
    found = [1]
    found.append(found)
    return found


def nested(depth=70):
    found = 1.0
    for _ in range(depth):
        found = [found]
    return found


NUMBERS = [
    0, 1, 2, 3, -1, -2, True, False, np.True_, 1.0, 2.5, float("nan"), float("inf"), 1j, None, np.int64(2), np.int8(-1),
    np.uint64(2**63), np.float32(1), np.array(2), np.array(True), np.array(1.5), np.array([1]), np.array([1, 1]),
    np.ones((2, 2), int),
    np.array([1, 2], object), np.array([], int), np.ma.array([1, 1], mask=[0, 1]), 10**9, 2**31, 2**62, 2**63, 2**64, 10**30,
    10**5000,
    -(10**30), -(2**63), (), (1,), (1, 1), (1, 1, 1), [1, 2], ((1, 1), (0, 2)), ((1, 1),), [[0, 1]] * 3, (1, None), (2, 1.0),
    ((1, 2), 3), ((1, float("nan")), (1, 1)), [[[1]]], "1", "", "same", "valid", "same_lower", "SAME", b"1", Text("same"), {1: 2},
    {1, 2}, range(2), slice(1), Ellipsis, NotImplemented, int, object(), Decimal(1), Fraction(1), np.datetime64("2020"),
    np.timedelta64(1), len, cycle(), (x for x in (1, 1)), memoryview(b"ab"), np.array("a"),
    *(_raising(name)() for name in ("index", "int", "iter", "len", "repr", "eq", "hash", "bool", "getattribute", "getattr")),
    _raising("repr", "str", "format", "index")(), _raising("index", base=int)(2), _raising("eq", "hash", base=int)(1),
    _raising("iter", base=tuple)((1, 1)), _raising("iter", "len", "getitem", base=list)([1, 1]),
    _raising("repr", base=float)(1.0),
]  # fmt: skip
WORDS = [
    None, "", "x", "auto", "accurate", "direct", "winograd4", "rows", "reference", "cpu", "cuda", "zeros", "reflect", "replicate",
    "circular", "NCHW", "NHWC", "NCW", "NWC", "NDHWC", "ieee", "tf32", b"cpu", 0, True, 1.5, ["cpu"], ("cpu",), {},
    np.str_("cpu"),
    np.array("auto"), np.array(["auto"]), Text("auto"), "a" * 10**5, "\0", "\ud800", object(), len,
    _raising("eq", base=str)("auto"), _raising("hash", base=str)("zeros"), _raising("repr")(), _raising("getattribute")(),
]  # fmt: skip
ACTIVATIONS = [
    None, "relu", "gelu", "tanh", "softmax", "", b"relu", 0, True, len, print, np.tanh, lambda x: x, int, object(), Text("relu"),
    np.str_("relu"), njit(lambda x: x), njit(lambda x, y: x), njit(lambda: 1), njit(lambda x: (x, x)), njit(lambda x: None),
    njit(lambda x: x.missing), njit(lambda x: "text"), njit(lambda x: x * 1j), njit(lambda *x: x[0]), njit(lambda x, y=1: x * y),
    njit(lambda x: undefined_name), numba.vectorize(lambda x: x), numba.cfunc("f4(f4)")(lambda x: x), numba.guvectorize,  # noqa: F821
    numba.jit, numba.experimental.jitclass, [njit(lambda x: x)], _raising("call")(), _raising("repr")(), _raising("eq", "hash")(),
    _raising("getattribute")(),
]  # fmt: skip
DTYPES = [
    None, np.float32, np.float64, "float16", "f4", "<f8", ">f4", "int8", np.int64, int, float, complex, bool, "bool", "complex64",
    np.dtype("float32"), ml_dtypes.bfloat16, "longdouble", "O", "U3", "S3", "M8[s]", "m8", "V4", "f4,f4", [("a", "f4")],
    (np.float32, (2,)),
    np.generic, np.floating, type, object(), 3, 1.0, True, "", "x", [], {}, np.array(1.0), np.dtypes.Float32DType, np.zeros(2),
    _raising("eq", "hash")(), _raising("repr")(), _raising("getattribute")(), _raising("hash", base=type)("Metaclass", (), {}),
    type("WithDtype", (), {"dtype": "f4"}), type("WithBadDtype", (), {"dtype": property(_fail)})(),
]  # fmt: skip


def arrays_like(good):
    """Return, by a word on each, makers of odd arrays in the place of a good one: some are fine."""
    strided = np.lib.stride_tricks.as_strided
    return {
        "it": lambda: good.copy(),
        "a list": lambda: good.tolist(),
        "nested tuples": lambda: tuple(good.tolist()) if good.ndim else good.item(),
        "ragged": lambda: [[1.0, 2.0], [3.0]],
        "a ragged end": lambda: [*good.tolist(), [1.0]] if good.ndim else [[1], 2],
        "lists without end": cycle,
        "deep lists": nested,
        "Fortran order": lambda: np.asfortranarray(good),
        "reversed": lambda: good[..., ::-1],
        "an axis less": lambda: good[0] if good.ndim and len(good) else good,
        "an axis more": lambda: good[None],
        "no axis": lambda: np.array(1.0),
        "another shape": lambda: np.resize(good, [n + 1 for n in good.shape]),
        "transposed": lambda: good.T,
        "empty": lambda: good[:0],
        "no columns": lambda: good[..., :0],
        "broadcast": lambda: np.broadcast_to(good.dtype.type(2), good.shape),
        "overlapping": lambda: strided(np.ones(64, good.dtype), good.shape, (good.itemsize,) * good.ndim),
        "huge": lambda: strided(np.ones(1, good.dtype), (2**30,) * good.ndim, (0,) * good.ndim) if good.ndim < 3 else good,
        "very long": lambda: strided(np.ones(1, good.dtype), (*good.shape[:-1], 2**50), (0,) * good.ndim) if good.ndim else good,
        "big-endian": lambda: good.astype(good.dtype.newbyteorder(">")),
        "read-only": lambda: np.frombuffer(good.tobytes(), good.dtype).reshape(good.shape),
        "a matrix": lambda: np.ones((2, 3), good.dtype).view(np.matrix),
        "a quiet subclass": lambda: good.view(Quiet),
        "a loud subclass": lambda: good.view(Loud),
        "a record array": lambda: np.rec.array(good),
        "masked": lambda: np.ma.array(good, mask=good > 0),
        "masked nowhere": lambda: np.ma.array(good),
        "NaN": lambda: np.full(good.shape, np.nan, np.result_type(good, np.float32)),
        "Inf": lambda: np.full(good.shape, -np.inf, np.result_type(good, np.float32)),
        "bool": lambda: good > 0,
        "int8": lambda: good.real.astype(np.int8),
        "uint64": lambda: np.full(good.shape, 2**64 - 1, np.uint64),
        "float64": lambda: good.real.astype(np.float64),
        "float16": lambda: good.real.astype(np.float16),
        "bfloat16": lambda: good.real.astype(ml_dtypes.bfloat16),
        "complex64": lambda: good.astype(np.complex64),
        "longdouble": lambda: good.astype(np.longdouble),
        "objects": lambda: good.astype(object),
        "objects that fail": lambda: np.full(good.shape, _raising("float", "add", "mul")(), object),
        "strings": lambda: good.astype("U8"),
        "bytes": lambda: good.astype("S8"),
        "dates": lambda: np.zeros(good.shape, "M8[s]"),
        "durations": lambda: np.zeros(good.shape, "m8[ns]"),
        "records": lambda: np.zeros(good.shape, [("a", "f4"), ("b", "i2")]),
        "raw bytes": lambda: np.zeros(good.shape, "V4"),
        "None": lambda: None,
        "a number": lambda: 1.0,
        "a str": lambda: "abc",
        "bytes themselves": lambda: b"abcd",
        "a dict": lambda: {"a": 1},
        "a set": lambda: {1.0},
        "a function": lambda: len,
        "a type": lambda: np.ndarray,
        "a generator": lambda: (x for x in (1.0, 2.0)),
        "a memoryview": lambda: memoryview(good.copy()),
        "a closed memoryview": _closed,
        "an object": lambda: object(),
        "a dead proxy": dead_proxy,
        "its interface": lambda: Interface(**good.__array_interface__) if good.size else None,
        "an interface that is none": lambda: Interface(typestr=3),
        "an interface without a shape": lambda: Interface(shape=None),
        "an interface of a negative shape": lambda: Interface(shape=(-1, 2)),
        "an interface of nothing": lambda: type("Nothing", (), {"__array_interface__": {}})(),
        "an array of an array": lambda: Array(good),
        "an array of a str": lambda: Array("text"),
        "an array of None": lambda: Array(None),
        "an array of objects": lambda: Array(good.astype(object)),
        "a CUDA interface that is none": lambda: type("Cuda", (), {"__cuda_array_interface__": 3})(),
        "no module's": lambda: type("Nowhere", (), {"__module__": None, "__array__": lambda self, *a, **k: good})(),
        "a dlpack": lambda: type("DLPack", (), {"__dlpack__": _fail, "__dlpack_device__": _fail})(),
        **{f"raising {name}": _raising(name) for name in ("array", "len", "getitem", "iter", "float", "getattr", "repr", "eq")},
        "raising __array__ and __repr__": _raising("array", "repr", "str"),
        "raising getattribute": _raising("getattribute"),
        "an interface that raises": lambda: type("Raises", (), {"__array_interface__": property(_fail)})(),
        "a CUDA interface that raises": lambda: type("Raises", (), {"__cuda_array_interface__": property(_fail)})(),
        "a sequence that raises": _raising("len", "getitem", base=list),
    }  # fmt: skip


def _closed():
    view = memoryview(bytearray(8))
    view.release()
    return view
