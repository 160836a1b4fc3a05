"""``show_config``: what this installation is and runs on."""

from __future__ import annotations

import os
import platform
from typing import Any

import llvmlite.binding
import numba

from numbaconv.backend import BACKENDS, ENVIRONMENT, SETTING, backends
from numbaconv.errors import bad_value, shown

__all__ = ["show_config"]

_FEATURES = ("sse4.2", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16", "avx512fp16",
             "amx-bf16", "amx-int8", "neon", "sve")  # fmt: skip


def show_config(mode: str = "stdout") -> dict[str, dict[str, Any]] | None:
    """Print versions, CPU features, threads, the CUDA device and the cache folder, as ``numpy.show_config`` does for NumPy.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print it, or return it.

    Returns
    -------
    dict or None
        A dict of sections with ``mode="dicts"``.

    Raises
    ------
    ValueError
        For another mode.
    """
    if mode not in ("stdout", "dicts"):
        raise bad_value("mode", "'stdout' or 'dicts'", shown(mode))
    sections = {"versions": _versions(), "cpu": _cpu(), "threads": _threads(), "backends": backends(), "settings": _settings()}
    if mode == "dicts":
        return sections
    for title, items in sections.items():
        print(f"{title}:")
        for name, value in items.items():
            print(f"  {name}: {value}")
    return None


def _versions() -> dict[str, Any]:
    from importlib import metadata

    versions = {"python": platform.python_version()}
    for package in ("numbaconv", "numba", "llvmlite", "numpy", "numba-cuda"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _cpu() -> dict[str, Any]:
    features = llvmlite.binding.get_host_cpu_features()
    return {
        "platform": platform.platform(),
        "name": llvmlite.binding.get_host_cpu_name(),
        "features": " ".join(f for f in _FEATURES if features.get(f)) or "none of those that matter here",
    }


def _threads() -> dict[str, Any]:
    try:
        layer: str = numba.threading_layer()
    except ValueError:
        layer = f"{numba.config.THREADING_LAYER} (none started yet)"
    count, source = _threads_in_use()
    return {"threads": count, "as said by": source, "cpus": os.cpu_count(), "threading layer": layer}


def _threads_in_use() -> tuple[int, str]:
    """How many threads kernels run on that this thread starts, and what says so."""
    cpu, most, now = BACKENDS["cpu"].module, numba.config.NUMBA_NUM_THREADS, numba.get_num_threads()
    try:
        limit = cpu.thread_limit()
    except ValueError as error:
        return now, str(error)
    if limit is not None and limit <= now:
        return limit, cpu.NUM_THREADS
    if now < most:
        return now, "numba.set_num_threads"
    return now, "NUMBA_NUM_THREADS" if "NUMBA_NUM_THREADS" in os.environ else "the number of CPUs"


def _settings() -> dict[str, Any]:
    cpu = BACKENDS["cpu"].module
    return {ENVIRONMENT: SETTING or "not set", cpu.NUM_THREADS: cpu.SETTING or "not set", "kernel cache": cpu.cache_folder()}
