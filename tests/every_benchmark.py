"""Runs every benchmark of ``benchmarks/`` once, by its first parameters, and prints what each returned; without asv."""

import importlib
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

KINDS = re.compile("(time|timeraw|track|peakmem)_")


def modules():
    """The modules that hold benchmarks."""
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    return [importlib.import_module(f"benchmarks.{path.stem}") for path in sorted(folder.glob("bench_*.py"))]


def classes():
    """The classes of benchmarks."""
    return [c for m in modules() for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__]


def methods(benchmark):
    """The names of a class's benchmarks."""
    return [name for name in dir(benchmark) if KINDS.match(name)]


def params(benchmark):
    """All that a class is run on, as asv reads it."""
    given = getattr(benchmark, "params", ())
    return list(itertools.product(*(given if given and isinstance(given[0], tuple | list) else [given] if given else [])))


def run(benchmark, chosen):
    """Run all methods of a class, and print their names and what they return."""
    instance = benchmark()
    try:
        getattr(instance, "setup", lambda *_: None)(*chosen)
    except NotImplementedError as error:
        print(f"{benchmark.__name__} skipped: {error}")
        return
    for name in methods(benchmark):
        result = getattr(instance, name)(*chosen)
        if name.startswith("timeraw"):
            call, before = result if isinstance(result, tuple) else (result, "")
            subprocess.run([sys.executable, "-W", "error", "-c", f"{before}\n{call}"], check=True)
            result = None
        print(f"{benchmark.__name__}.{name}: {result}")
    getattr(instance, "teardown", lambda *_: None)(*chosen)


if __name__ == "__main__":
    for benchmark in sorted(classes(), key=lambda c: c.__name__ != "Memory"):  # which forks, and so before threads are started
        run(benchmark, params(benchmark)[0])
