"""Every block of code of a page, run: Python as it stands, shown output compared, shell lines where that is cheap."""

import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from sybil import Region, Sybil
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

from numbaconv.__main__ import _parser, main
from numbaconv.networks import layers

ROOT = Path(__file__).parent.parent
SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NUMBACONV = (["numbaconv"], ["python", "-m", "numbaconv"])
# Lines of shell that no test runs, by how they begin, and why.
NOT_RUN = {
    "python -m pip install": "installs, which .ci/run does",
    "python -m venv": "makes an environment",
    ". .venv/bin/activate": "changes the shell",
    "python -m pytest": "is the tests themselves",
    "compute-sanitizer": "needs a GPU",
    ".ci/gpu": "needs a GPU",
    "python benchmarks/": "measures for minutes",
    "sphinx-build": "builds the site, which .ci/run does",
    "numbaconv tune": "measures for minutes, and forgets with --clear",
    "numbaconv bench": "measures for minutes",
    "numbaconv warmup": "compiles for a minute",
    "python -m benchmarks": "measures for minutes",
    "python examples/": "takes a minute, and tests/test_examples.py or test_compiled_examples.py runs it",
    "asv": "measures for minutes",
}


def run_page(path):
    """Run the blocks of a page in order, in the current folder; the first that is not right is an error."""
    page = PAGE.parse(Path(path))
    page.namespace["__name__"] = "__main__"
    for example in page:
        example.evaluate()


def run_line(line):
    """Run one command, if it is not one of those that are named above; parse what belongs to numbaconv in any case."""
    words = shlex.split(line, comments=True)
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    words = words[len(given) :]
    command = " ".join(words)
    mine = next((words[len(start) :] for start in NUMBACONV if words[: len(start)] == start), None)
    if mine is not None:
        _parse(mine)
    elif words[:1] == ["python"] and words[1].endswith(".py"):
        _look_for(words[1], words[2:])
    if any(command.startswith(start) for start in NOT_RUN):
        return
    if mine is None:
        raise ValueError(f"a command that is neither numbaconv's nor one of {list(NOT_RUN)}: {command}")
    status, printed = _in_a_process(mine, given) if given else _here(mine)
    assert status == 0, f"{command}: exit status {status}\n{printed}"
    assert printed, f"{command} printed nothing"


def _here(arguments):
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        status = main(arguments)
    return status, printed.getvalue()


def _in_a_process(arguments, environment):
    """The same where environment variables are set, which are read when a process starts."""
    done = subprocess.run(
        [sys.executable, "-m", "numbaconv", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _parse(arguments):
    """The options of numbaconv's command, by its own parser, which exits where they are wrong."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as error:
        raise ValueError(f"numbaconv does not take {arguments}") from error
    for shape in vars(options).get("shape", ()):
        layers(shape)


def _look_for(script, arguments):
    """A script of the checkout is there, and its text knows the options."""
    text = (ROOT / script).read_text()
    unknown = [word for word in arguments if word.startswith("--") and word not in text]
    assert not unknown, f"{script} knows no {unknown}"


def _shell(example):
    text = example.parsed.replace("\\\n", " ")
    for line in filter(None, (re.sub(r"\s#.*|^#.*", "", line).strip() for line in text.splitlines())):
        for command in line.split(" && "):
            run_line(command)


def _other_languages(document):
    """Blocks that no test knows how to run: an error when they are reached. ``text`` is no code, ``{name}`` a directive."""
    fences = FencedCodeBlockLexer(r"(?!(?:python|sh|text|\{[\w-]+\}.*)$)[^\n]*")
    for region in fences(document):
        yield Region(region.start, region.end, region.lexemes["language"], _refuse)


def _refuse(example):
    raise ValueError(f"{example.path}:{example.line}: no test runs blocks of language {example.parsed!r}")


PAGE = Sybil([PythonCodeBlockParser(doctest_optionflags=SHOWN), CodeBlockParser("sh", _shell), _other_languages])


if __name__ == "__main__":
    run_page(sys.argv[1])
