"""What was measured on this machine, and where it is kept: seconds by algorithm, for problems that ``numbaconv tune`` ran.

One JSON file for each machine key (:func:`machine`), so that what another machine, thread count or version of the kernels
measured is not found. Whatever is wrong with a file, the cost model decides instead.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba.core.registry import cpu_target

from numbaconv.files import ENVIRONMENT, check_owner, folder, replace_whole
from numbaconv.spec import ConvSpec

__all__ = ["ENVIRONMENT", "Table", "clear", "folder", "machine", "measured", "problem_key", "reload", "store", "table"]

Table = dict[str, dict[str, float]]  # seconds by algorithm, by problem


def measured(spec: ConvSpec) -> Mapping[str, float]:
    """Return the seconds that each algorithm took for a problem on this machine; nothing where it was not measured."""
    known = table()
    return known.get(problem_key(spec), {}) if known else {}


def problem_key(spec: ConvSpec) -> str:
    """Return a problem in words that name everything its time depends on; a caller's own function is any ``function``."""
    own = spec.activation is not None and not isinstance(spec.activation, str)
    parts = [
        str(replace(spec, activation="function") if own else spec),
        f"summed in {spec.dtypes.compute.name}",
        "bias" if spec.has_bias else "",
        "residual" if spec.has_residual else "",
        spec.precision if spec.precision != "ieee" else "",
    ]
    return ", ".join(filter(None, parts))


@cache
def machine() -> dict[str, Any]:
    """Return what measurements depend on beside the problem: what Numba compiles for, its threads, and the kernels."""
    from numbaconv.cpu.cache import source_stamp  # and with it the backend, which importing the package does not
    from numbaconv.cpu.target import threads

    _, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    return {
        "cpu": cpu,
        "features": features,
        "threads": threads(),
        "numba": numba.__version__,
        "kernels": source_stamp(),
    }


@cache
def table() -> Table:
    """Return all that is known of this machine, read once a process."""
    try:
        return _read() if os.path.isdir(folder()) else {}
    except FileNotFoundError:
        return {}
    except Exception as error:
        warnings.warn(f"what numbaconv tune measured is of no use, and ignored: {error!r}", RuntimeWarning, stacklevel=2)
        return {}


def store(spec: ConvSpec, seconds: Mapping[str, float]) -> None:
    """Keep the measurements of one problem.

    Raises
    ------
    OSError
        If they cannot be written; the file is then what it was.
    """
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    check_owner(folder())
    try:
        known = _read()
    except Exception:  # no file, or one that is of no use
        known = {}
    known[problem_key(spec)] = dict(seconds)
    replace_whole(_path(), json.dumps({"machine": machine(), "seconds": known}, indent=1).encode())
    reload()


def clear() -> None:
    """Forget everything that was measured, for other machine keys too."""
    for path in folder().glob("tuned-*.json"):
        path.unlink()
    reload()


def reload() -> None:
    """Read the file again before the next choice."""
    table.cache_clear()


# ---------------------------------------------------------------- the file


def _path() -> Path:
    digest = sha256(json.dumps(machine()).encode()).hexdigest()
    return folder() / f"tuned-{digest[:16]}.json"


def _read() -> Table:
    path = _path()
    check_owner(folder())
    check_owner(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["machine"] != machine():
        raise ValueError("they are another machine's")
    known: Table = document["seconds"]
    if not all(0 < s < math.inf for row in known.values() for s in row.values()):
        raise ValueError("not all of them are times")
    return known
