"""The wheel and the source distribution: the same bytes from the same sources, and nothing but what belongs there."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import numbaconv

ROOT = Path(__file__).parent.parent
FOLDERS = ("numbaconv/", "tests/", "benchmarks/", "docs/", "examples/")  # of the source distribution, beside files of the root
RELEASE = f"numbaconv-{numbaconv.__version__}"


def tracked():
    """The files of the checkout, by their paths in it."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"what belongs there is asked of git: {done.stderr.strip()}")
    return sorted(name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())


def copied(folder, mode, seconds):
    """A copy of the checkout with permissions and times of its own, and with what building and running leave behind."""
    for name in tracked():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, path)
        path.chmod(mode)
        os.utime(path, (seconds, seconds))
    for name in (
        ".out/notes.txt",
        "numbaconv/__pycache__/spec.cpython-311.pyc",
        "numbaconv/cpu/rows.task-1.py311.nbi",
        "dist/old.whl",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(seconds))
    return folder


def built(source, out, umask=0o022, **env):
    """Build both, offline; return them by what they are."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=source, env={**os.environ, **env}, check=True, capture_output=True, umask=umask)
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz"))}


def digests(files):
    return {kind: hashlib.sha256(path.read_bytes()).hexdigest() for kind, path in files.items()}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    return built(copied(folder / "checkout", 0o644, 1_600_000_000), folder / "out")


def test_the_wheel_has_the_package_and_its_licence(first):
    with zipfile.ZipFile(first["wheel"]) as wheel:
        names = sorted(wheel.namelist())
        licence = wheel.read(f"{RELEASE}.dist-info/licenses/LICENSE")
    package = [name for name in tracked() if name.startswith("numbaconv/")]
    about = [f"{RELEASE}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")]
    assert names == sorted(package + about)
    assert "numbaconv/py.typed" in names
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_source_distribution_has_the_sources(first):
    with tarfile.open(first["sdist"]) as sdist:
        names = sorted(member.name for member in sdist.getmembers() if not member.isdir())
        kinds = {member.type for member in sdist.getmembers()}
    root = ("LICENSE", "pyproject.toml", ".gitignore")
    sources = [n for n in tracked() if n.startswith(FOLDERS) or n in root or ("/" not in n and n.endswith(".md"))]
    assert names == sorted([f"{RELEASE}/PKG-INFO", *(f"{RELEASE}/{name}" for name in sources)])
    assert f"{RELEASE}/SECURITY.md" in names
    assert kinds <= {tarfile.REGTYPE, tarfile.DIRTYPE}


def test_the_same_sources_give_the_same_bytes(first, tmp_path):
    """Whoever builds, wherever and whenever, from the checkout or from the source distribution."""
    elsewhere = copied(tmp_path / "another" / "place", 0o600, 1_700_000_000)
    again = built(elsewhere, tmp_path / "again", umask=0o077, TZ="Pacific/Auckland", LC_ALL="C", PYTHONHASHSEED="7")
    assert digests(again) == digests(first)

    with tarfile.open(first["sdist"]) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    assert digests(built(tmp_path / "unpacked" / RELEASE, tmp_path / "from")) == digests(first)


def test_the_date_is_that_of_the_release(tmp_path):
    """Where ``SOURCE_DATE_EPOCH`` gives one."""
    source = copied(tmp_path / "checkout", 0o644, 1_600_000_000)
    dated = built(source, tmp_path / "dated", SOURCE_DATE_EPOCH="1750000000")
    with zipfile.ZipFile(dated["wheel"]) as wheel:
        assert {info.date_time for info in wheel.infolist()} == {(2025, 6, 15, 15, 6, 40)}
    with tarfile.open(dated["sdist"]) as sdist:
        assert {member.mtime for member in sdist.getmembers()} == {1750000000}


def test_the_oldest_versions_tried_are_the_oldest_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + [n for n in project["optional-dependencies"]["test"] if n.startswith("ml_dtypes")]
    tried = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    assert {need.replace(">=", "==") + ".*" for need in needed} <= set(tried)
