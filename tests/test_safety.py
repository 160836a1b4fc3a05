"""Nothing of what a caller passes, and no file but the kernel cache, is run or unpickled: read from the package's sources."""

import ast
from pathlib import Path

import pytest

import numbaconv

PACKAGE = Path(numbaconv.__file__).parent
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dbm", "dill", "cloudpickle", "joblib", "code", "codeop"}
BUILTINS = {"eval", "exec", "__import__"}
METHODS = {"Unpickler", "read_pickle", "unsafe_load"}
LOADERS = {
    *(("builtins", name) for name in BUILTINS), ("np", "load"), ("numpy", "load"), ("torch", "load"), ("yaml", "load"),
    ("os", "popen"), ("os", "system"),
}  # fmt: skip
# By file, what it uses: the kernel cache is Numba's pickles, read from a folder that the user owns (SECURITY.md).
ALLOWED = {"cpu/cache.py": {"pickle"}}


def risks(source):
    """The names in a source by which data may become code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names if name.name.split(".")[0] in MODULES}
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                found.add(module)
            case ast.ImportFrom(module=module, names=names):
                of = {(module, name.name) for name in names}
                found |= {name for module, name in of & LOADERS} | {name for _, name in of if name in METHODS}
            case ast.Name(id=name) if name in BUILTINS:
                found.add(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in LOADERS:
                found.add(f"{module}.{name}")
            case ast.Attribute(attr=name) if name in METHODS:
                found.add(name)
            case ast.keyword(arg="allow_pickle" | "shell" as name):
                found.add(name)
    return found


def test_the_package_runs_nothing_it_is_given():
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    found = {name: risks(source) for name, source in sources.items()}
    assert {name: used for name, used in found.items() if used} == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "def f(text):\n    return exec(text, {})",
        "run = eval",
        "import builtins\nbuiltins.exec(text)",
        "__import__(name)",
        "import marshal",
        "import os, pickle as p",
        "from pickle import loads",
        "from dill import load",
        "def f(file):\n    import shelve",
        "np.load(file)",
        "from numpy import load",
        "numpy.lib.npyio.read(file, allow_pickle=True)",
        "torch.load(file)",
        "os.system(text)",
        "from os import popen",
        "subprocess.run(text, shell=True)",
    ],
)
def test_what_would_do_so_is_found(source):
    assert risks(source)


@pytest.mark.parametrize("source", ["dispatcher.compile(signature)", "json.loads(text)", "def evaluate(x): return code.load(x)"])
def test_what_would_not_is_not(source):
    assert not risks(source)
