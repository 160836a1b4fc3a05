"""What instructions compute that touch neither memory nor the flow: a function of arrays over the threads."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from emulator.parser import Operation

DTYPES = {"pred": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64}
DTYPES |= {f"{u}{bits}": np.dtype(f"{i}{bits // 8}").type for u, i in ("uu", "si", "bu") for bits in (8, 16, 32, 64)}
COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
CONNECTIVES = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
ROUNDINGS = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}


class Meaning(NamedTuple):
    """The dtypes of the result and of the operands, and what makes the one of the others."""

    result: type
    operands: tuple[type, ...]
    compute: Callable[..., np.ndarray]


def meaning(operation: Operation) -> Meaning:
    """Return what an instruction computes."""
    name, *modifiers = operation.parts
    kind = DTYPES[modifiers[-1]]
    special = {"setp": _setp, "cvt": _cvt, "cvta": _plain, "mul": _mul, "mad": _mad, "selp": _selp, "shl": _shift, "shr": _shift}
    if name in special:
        return special[name](name, modifiers, kind)
    if name == "set":
        raise NotImplementedError(operation.text)
    count = len(operation.operands) - 1
    return Meaning(kind, (kind,) * count, FUNCTIONS[name](kind, modifiers))


def _divided(kind: type, modifiers: list[str]) -> Callable:
    if np.issubdtype(kind, np.floating):
        return np.divide
    if np.issubdtype(kind, np.unsignedinteger):
        return lambda a, b: np.where(b == 0, kind(-1 & (2 ** (8 * kind().itemsize) - 1)), a // np.where(b == 0, kind(1), b))
    return lambda a, b: np.where(b == 0, kind(-1), _towards_zero(a, np.where(b == 0, kind(1), b)))


def _towards_zero(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a))


def _remainder(kind: type, modifiers: list[str]) -> Callable:
    divide = _divided(kind, modifiers)
    return lambda a, b: a - divide(a, b) * b


def _fused(kind: type, modifiers: list[str]) -> Callable:
    wide = np.float64 if kind != np.float64 else np.longdouble
    return lambda a, b, c: (a.astype(wide) * b + c).astype(kind)


def _bit_field_insert(kind: type, modifiers: list[str]) -> Callable:
    def insert(a: np.ndarray, b: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
        mask = ((kind(1) << count.astype(kind)) - kind(1)) << first.astype(kind)
        return (b & ~mask) | (a << first.astype(kind) & mask)

    return insert


def _count_zeros(kind: type, modifiers: list[str]) -> Callable:
    return lambda a: kind(8 * kind().itemsize) - np.frompyfunc(lambda x: int(x).bit_length(), 1, 1)(a).astype(kind)


def _not(kind: type, modifiers: list[str]) -> Callable:
    return np.logical_not if kind is np.bool_ else np.invert


def _same(function: Callable) -> Callable[[type, list[str]], Callable]:
    return lambda kind, modifiers: function


def _saturated(function: Callable) -> Callable[[type, list[str]], Callable]:
    return lambda kind, modifiers: (lambda *a: np.clip(function(*a), kind(0), kind(1))) if "sat" in modifiers else function


FUNCTIONS = {
    "add": _saturated(np.add), "sub": _same(np.subtract), "neg": _same(np.negative), "abs": _same(np.abs),
    "min": _same(np.fmin), "max": _same(np.fmax), "and": _same(np.bitwise_and), "or": _same(np.bitwise_or),
    "xor": _same(np.bitwise_xor), "not": _not, "div": _divided, "rem": _remainder, "fma": _fused, "bfi": _bit_field_insert,
    "clz": _count_zeros, "ex2": _same(np.exp2), "lg2": _same(np.log2), "rcp": _same(np.reciprocal), "sqrt": _same(np.sqrt),
    "rsqrt": _same(lambda a: 1 / np.sqrt(a)), "sin": _same(np.sin), "cos": _same(np.cos), "tanh": _same(np.tanh),
    "copysign": _same(lambda a, b: np.copysign(b, a)),
}  # fmt: skip


def _plain(name: str, modifiers: list[str], kind: type) -> Meaning:
    return Meaning(kind, (kind,), lambda a: a)


def _selp(name: str, modifiers: list[str], kind: type) -> Meaning:
    return Meaning(kind, (kind, kind, np.bool_), lambda a, b, p: np.where(p, a, b))


def _shift(name: str, modifiers: list[str], kind: type) -> Meaning:
    most = 8 * kind().itemsize

    def compute(a: np.ndarray, count: np.ndarray) -> np.ndarray:
        kept = np.minimum(count, most - 1).astype(kind)
        if name == "shl":
            return np.where(count < most, a << kept, kind(0))
        return a >> kept if np.issubdtype(kind, np.signedinteger) else np.where(count < most, a >> kept, kind(0))

    return Meaning(kind, (kind, np.uint32), compute)


def _mul(name: str, modifiers: list[str], kind: type) -> Meaning:
    if "wide" in modifiers:
        double = np.dtype(f"{np.dtype(kind).kind}{2 * kind().itemsize}").type
        return Meaning(double, (kind, kind), lambda a, b: a.astype(double) * b.astype(double))
    if "hi" in modifiers:
        bits = 8 * kind().itemsize
        high = np.frompyfunc(lambda a, b: int(a) * int(b) >> bits, 2, 1)
        return Meaning(kind, (kind, kind), lambda a, b: high(a, b).astype(kind))
    assert np.issubdtype(kind, np.floating) or "lo" in modifiers
    return Meaning(kind, (kind, kind), np.multiply)


def _mad(name: str, modifiers: list[str], kind: type) -> Meaning:
    product = _mul(name, modifiers, kind)
    return Meaning(product.result, (kind, kind, product.result), lambda a, b, c: product.compute(a, b) + c)


def _setp(name: str, modifiers: list[str], kind: type) -> Meaning:
    comparison = modifiers[0]
    if comparison in ("nan", "num"):
        missing = lambda a, b: np.isnan(a) | np.isnan(b)  # noqa: E731
        compare = missing if comparison == "nan" else (lambda a, b: ~missing(a, b))
    elif np.issubdtype(kind, np.floating):
        ordered = COMPARISONS.get(comparison) or COMPARISONS[comparison[:-1]]  # a u at the end: also if one is not a number
        if comparison in COMPARISONS:
            compare = lambda a, b: ordered(a, b) & ~(np.isnan(a) | np.isnan(b))  # noqa: E731
        else:
            compare = lambda a, b: ordered(a, b) | np.isnan(a) | np.isnan(b)  # noqa: E731
    else:
        compare = COMPARISONS[comparison]
    if len(modifiers) > 2 and modifiers[1] in CONNECTIVES:
        connect = CONNECTIVES[modifiers[1]]
        return Meaning(np.bool_, (kind, kind, np.bool_), lambda a, b, p: connect(compare(a, b), p))
    return Meaning(np.bool_, (kind, kind), compare)


def _cvt(name: str, modifiers: list[str], kind: type) -> Meaning:
    source, result = kind, (DTYPES["b32"] if modifiers[-2] == "tf32" else DTYPES[modifiers[-2]])
    if modifiers[-2] == "tf32":
        return Meaning(np.uint32, (np.float32,), _to_tf32)
    rounding = next((ROUNDINGS[m] for m in modifiers if m in ROUNDINGS), None)
    from_float, to_float = (np.issubdtype(one, np.floating) for one in (source, result))
    if from_float and not to_float:
        least, most = np.iinfo(result).min, np.iinfo(result).max

        def compute(a: np.ndarray) -> np.ndarray:
            whole = rounding(np.where(np.isnan(a), 0, a).astype(np.longdouble))  # which has all digits of 64-bit integers
            return whole.clip(least, most).astype(result)

        return Meaning(result, (source,), compute)
    if rounding is not None and from_float:
        return Meaning(result, (source,), lambda a: rounding(a).astype(result))
    return Meaning(result, (source,), lambda a: a.astype(result))


def _to_tf32(a: np.ndarray) -> np.ndarray:
    """To the nearest of 10 fraction bits, ties away from zero."""
    words = a.view(np.uint32)
    return np.where(np.isfinite(a), (words + np.uint32(0x1000)) & np.uint32(0xFFFFE000), words)
