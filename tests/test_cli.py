"""The command line, run as a process, and the demonstration behind it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import demo


def run(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "numbaconv", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, timeout=240,
    )  # fmt: skip


def test_demo_reports_and_draws(tmp_path):
    result = run("demo", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for part in ("astronaut", ">  cpu", "direct", "taken:", "NumPy", "x our time", "largest difference"):
        assert part in result.stdout
    matplotlib = pytest.importorskip("matplotlib.image")
    picture = matplotlib.imread(tmp_path / "numbaconv-demo.png")
    assert picture.shape[0] > 1000
    assert picture[..., :3].std() > 0.1  # something is drawn


def test_demo_takes_a_picture_of_the_users(tmp_path):
    from skimage.io import imsave

    rng = np.random.default_rng(0)
    grey = tmp_path / "grey.png"
    imsave(grey, rng.integers(0, 255, (40, 60), np.uint8), check_contrast=False)
    result = run("demo", grey, "--output", tmp_path / "out.png")
    assert result.returncode == 0, result.stderr
    assert "grey.png: 60x40 RGB -> 8 responses" in result.stdout
    assert (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["missing.png", "text.png"])
def test_demo_refuses_what_is_no_picture(tmp_path, name):
    (tmp_path / "text.png").write_text("no picture")
    result = run("demo", tmp_path / name, "-o", tmp_path / "out.png")
    assert result.returncode == 2
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_demo_names_the_extra_that_is_missing(tmp_path):
    (tmp_path / "skimage.py").write_text("raise ImportError('not here')")
    result = run("demo", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert 'pip install "numbaconv[demo]"' in result.stderr


def test_the_kernels_do_what_their_names_say():
    """On a flat picture edges vanish and blurs change nothing; a step up to the right is a vertical edge alone."""
    names = [name for name, *_ in demo.KERNELS]
    flat = nc.conv2d(np.full((3, 9, 9), 0.5, np.float32), demo.filter_bank())[:, 2, 2]
    expected = [
        0.5 if word in name else 0.0 for name in names for word in [next((w for w in ("blur", "sharpen") if w in name), "-")]
    ]
    np.testing.assert_allclose(flat, expected, atol=1e-6)
    step = np.zeros((3, 9, 9), np.float32)
    step[:, :, 5:] = 1
    response = dict(zip(names, nc.conv2d(step, demo.filter_bank()), strict=True))
    assert response["vertical edges (Sobel)"].max() == pytest.approx(4)
    assert np.abs(response["horizontal edges (Sobel)"]).max() == pytest.approx(0, abs=1e-6)


def test_info_prints_the_configuration():
    result = run("info")
    assert result.returncode == 0, result.stderr
    for part in (f"numbaconv: {nc.__version__}", "numba:", "threads:", "cuda:", "kernel cache:"):
        assert part in result.stdout


def test_explain_prints_what_the_library_says():
    result = run("explain", "conv2d", "1,64,56,56", "64x64x3x3", "--padding", "1:1,0:2", "--stride", "2")
    assert result.returncode == 0, result.stderr
    expected = nc.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=((1, 1), (0, 2)), stride=2)
    assert result.stdout.splitlines()[0] == str(expected).splitlines()[0]
    assert f">  {expected.backend}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "conv2d", "1,3,8,8", "4,2,3,3"), "weight: expected 3 input channels"),
        (("explain", "conv9d", "1,3,8,8", "4,3,3,3"), "operator: expected one of"),
        (("explain", "conv2d", "1,3,8,8", "4,3,3,3", "--padding", "some"), "padding: expected"),
        (("explain", "conv2d", "a,b", "4,3,3,3"), "INPUT"),
        (("nonsense",), "invalid choice"),
        ((), "COMMAND"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_script_is_installed():
    script = Path(sys.executable).parent / "numbaconv"
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == f"numbaconv {nc.__version__}"
