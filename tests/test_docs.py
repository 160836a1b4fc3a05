"""What README and the pages of docs/ say: every block of code runs, and nothing public is left out."""

import doctest
import importlib
import re
import shutil

import pytest
from blocks import NOT_RUN, ROOT, SHOWN, run_page
from helpers import run_python

import numbaconv as nc
from numbaconv import cpu, execute

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
IN_SIMULATOR = {ROOT / "docs" / "guide" / "gpu.md"}
WITH_EXAMPLES = [p for p in sorted((ROOT / "numbaconv").rglob("*.py")) if ">>>" in p.read_text()]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to run in, and after it the table of algorithms that was there before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "ALGORITHMS", cpu.ALGORITHMS)
    yield tmp_path
    execute.forget()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_code_of_a_page_runs(path, folder):
    page = shutil.copy(path, folder)  # what Numba keeps of a page's functions lies beside it
    if path in IN_SIMULATOR:
        run_python(f"from blocks import run_page; run_page({str(page)!r})", env={"NUMBA_ENABLE_CUDASIM": "1"})
    else:
        run_page(page)


WRONG = {
    "```python\n1 / 0\n```": "division by zero",
    "```python\n>>> 1 + 1\n3\n```": "Expected",
    "```python\n>>> 1 + 1\n```": "Expected nothing",
    "```ruby\nputs 1\n```": "of language 'ruby'",
    "```\nputs 1\n```": "of language ''",
    "```sh\nmake install\n```": "a command that is neither numbaconv's",
    "```sh\nnumbaconv explain conv2d 1,3,8,8 4,5,3,3\n```": "exit status 2\n.*weight: expected 3 input channels",
    "```sh\nNUMBACONV_BACKEND=gpu numbaconv explain conv2d 1,3,8,8 4,3,3,3\n```": "exit status 2\n.*NUMBACONV_BACKEND",
    "```sh\nnumbaconv tune --fast\n```": "numbaconv does not take",
    "```sh\nnumbaconv tune 1x64x56,64,3x3\n```": "SHAPE: expected",
    "```sh\npython benchmarks/gpu.py --fast\n```": "knows no .*--fast",
    "```sh\npython benchmarks/none.py\n```": "No such file",
}


@pytest.mark.parametrize(("block", "message"), WRONG.items(), ids=WRONG.values())
def test_what_is_wrong_is_seen(block, message, folder):
    page = folder / "page.md"
    page.write_text(f"Text\n\n{block}\n")
    with pytest.raises((AssertionError, ValueError, OSError, ZeroDivisionError), match=message):
        run_page(page)


def test_what_is_not_run_is_written_somewhere():
    text = "\n".join(p.read_text() for p in PAGES)
    assert [start for start in NOT_RUN if start not in text] == []


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_the_examples_of_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs={})
    runner = doctest.DocTestRunner(optionflags=SHOWN)
    report = []
    for test in found:
        runner.run(test, out=report.append)
    failed, tried = runner.failures, runner.tries
    assert tried > 0
    assert not failed, "".join(report)


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs" / "api.rst").read_text()
    documented = set(re.findall(r"^\.\. auto\w+:: (?:numbaconv\.)?([\w.]+)", text, re.MULTILINE))
    pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
    parts = {name: importlib.import_module(f"numbaconv.{name}") for name in ("grad", "native", "cuda.device")}
    public = {*nc.__all__, *(f"{part}.{name}" for part, module in parts.items() for name in module.__all__)}
    assert public - documented == set()
    assert documented - public == {"dispatch.Explanation", "native", "cuda.device"}  # what explain returns, and modules


def test_every_environment_variable_is_documented():
    read = {name for p in (ROOT / "numbaconv").rglob("*.py") for name in re.findall(r"\bNUMBACONV_\w+", p.read_text())}
    settings = (ROOT / "docs" / "guide" / "settings.md").read_text()
    assert set(re.findall(r"^\| `(NUMBACONV_\w+)` \|", settings, re.MULTILINE)) == read


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
