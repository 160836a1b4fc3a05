"""What times depend on beside the libraries: the CPU, its caches and features, the governor, the load."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["allowed_cores", "caches", "load", "machine", "versions"]

FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16", "amx-bf16", "neon", "sve")
PACKAGES = ("numpy", "numba", "llvmlite", "numbaconv")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def machine() -> dict[str, Any]:
    """Return what can be known of this machine; "unknown" where the system does not tell."""
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    return {
        "cpu": _cpu_model(),
        "code name": llvmlite.binding.get_host_cpu_name(),
        "features": " ".join(name for name in FEATURES if features.get(name)),
        "cores": os.cpu_count(),
        "cores allowed": allowed_cores(),
        "caches": caches(),
        "governor": _read(Path(f"/sys/devices/system/cpu/cpu{_first_core()}/cpufreq/scaling_governor")) or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
    }


def load() -> list[float] | None:
    """Return the load averages of the last 1, 5 and 15 minutes, where the system has them."""
    return [round(average, 2) for average in os.getloadavg()] if hasattr(os, "getloadavg") else None


def allowed_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def caches() -> dict[str, int]:
    """Return the bytes of the caches that hold data, as the first allowed core sees them, where Linux tells."""
    found = {}
    for path in sorted(Path(f"/sys/devices/system/cpu/cpu{_first_core()}/cache").glob("index*")):
        level, kind, size = (_read(path / name) for name in ("level", "type", "size"))
        if size and kind != "Instruction":
            found[f"L{level}"] = int(size.rstrip("KMG")) * UNITS.get(size[-1], 1)
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of what numbaconv stands on; its peers say their own."""
    return {"python": platform.python_version(), **{name: importlib.import_module(name).__version__ for name in PACKAGES}}


def _first_core() -> int:
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def _cpu_model() -> str:
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
