"""Read a page with three networks, by onnxruntime alone and with numbaconv's convolutions: ``python examples/read_page.py``.

The networks of rapidocr-onnxruntime find the lines of text in a picture, turn those that stand on their head, and read them;
everything between the networks is rapidocr's, the same in both runs. Then each network is timed on the arrays that it was given.

Convolutions are timed around the operators on our side, and by onnxruntime's profiler on the other, where reordering arrays to
and from the layout of its convolutions belongs to them. Both compute activations inside: onnxruntime relu and hard sigmoid, ours
also hardswish, silu and scaling.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx_network import Network

MODELS = {"detection": "*_det_infer.onnx", "classification": "*_cls_infer.onnx", "recognition": "*_rec_infer.onnx"}
CONVOLUTIONS = ("Conv", "FusedConv", "ConvTranspose")  # as onnxruntime names them
REORDERING = ("ReorderInput", "ReorderOutput")
PAUSE = 0.05  # seconds in which the threads of the other side, which wait busily for a while, come to rest

Engine = Callable[[np.ndarray], Sequence[np.ndarray]]


class Peer:
    """A model by onnxruntime alone, under its profiler, which writes to a folder; remembers what it was given."""

    def __init__(self, path: Path, threads: int, folder: str | Path) -> None:
        import onnxruntime
        from onnx_network import settings

        options = settings(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / path.stem)
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.given: list[np.ndarray] = []

    def __call__(self, input: np.ndarray) -> list[np.ndarray]:
        """Return the model's outputs."""
        self.given.append(np.ascontiguousarray(input))
        return self.run(self.given[-1])

    def run(self, input: np.ndarray) -> list[np.ndarray]:
        """Return the model's outputs, and remember nothing."""
        return self._session.run(None, {self._input: input})

    def profile(self) -> np.ndarray:
        """End the profile, and return the seconds in convolutions and in reordering for them, of each run so far."""
        with open(self._session.end_profiling()) as file:
            events = sorted(json.load(file), key=lambda event: event.get("ts", 0))
        seconds: list[list[float]] = []
        for event in events:
            if event["name"] == "model_run":
                seconds.append([0.0, 0.0])
            elif event["name"].endswith("_kernel_time"):
                for column, names in enumerate((CONVOLUTIONS, REORDERING)):
                    seconds[-1][column] += 1e-6 * event["dur"] * (event["args"]["op_name"] in names)
        return np.array(seconds)


@dataclass
class Row:
    """A model by both, on what it was given; seconds are of all of that, one number a round."""

    name: str
    convolutions: int
    calls: int
    differences: list[np.ndarray]
    outputs: list[np.ndarray]
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    reordering: list[float] = field(default_factory=list)  # part of theirs
    ours_whole: list[float] = field(default_factory=list)
    theirs_whole: list[float] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """The largest difference of an output."""
        return max(float(np.abs(d).max()) for d in self.differences)

    @property
    def rms(self) -> float:
        """The root mean square of the differences over that of the outputs."""
        error, whole = (sum(float(np.sum(a.astype(float) ** 2)) for a in arrays) for arrays in (self.differences, self.outputs))
        return (error / whole) ** 0.5


def page(path: str | None) -> np.ndarray:
    """Return a picture as rapidocr takes it; None is the scanned page that comes with scikit-image."""
    from rapidocr_onnxruntime.utils.load_image import LoadImage, LoadImageError

    if path is None:
        from skimage import data

        return LoadImage()(data.page())
    try:
        return LoadImage()(path)
    except LoadImageError as error:
        raise ValueError(f"IMAGE: expected a picture file, got {path!r} ({error})") from None


def model_paths() -> dict[str, Path]:
    """Return the models that rapidocr-onnxruntime carries."""
    import rapidocr_onnxruntime

    folder = Path(rapidocr_onnxruntime.__file__).parent / "models"
    return {name: next(folder.glob(pattern)) for name, pattern in MODELS.items()}


def read(picture: np.ndarray, engines: Mapping[str, Engine], threads: int) -> list[str]:
    """Return the lines of text in a picture, found and read by these networks."""
    from rapidocr_onnxruntime import RapidOCR

    reader = RapidOCR(intra_op_num_threads=threads)
    reader.text_det.infer = engines["detection"]
    reader.text_cls.infer = engines["classification"]
    reader.text_rec.session = engines["recognition"]
    found, _ = reader(picture)
    return [text for _, text, _ in found or []]


def compare(name: str, network: Network, peer: Peer) -> Row:
    """Run a network on what its peer was given, and hold the outputs against each other."""
    pairs = [pair for given in peer.given for pair in zip(network(given), peer.run(given), strict=True)]
    differences = [ours - theirs for ours, theirs in pairs]
    return Row(name, len(network.convolutions), len(peer.given), differences, [theirs for _, theirs in pairs])


def measure(row: Row, network: Network, peer: Peer, rounds: int) -> None:
    """Time a network and its peer, taking turns."""
    for _ in range(rounds):
        network.seconds.clear()
        row.ours_whole.append(seconds_of(network, peer.given))
        row.ours.append(network.seconds["convolutions"])
        time.sleep(PAUSE)
        row.theirs_whole.append(seconds_of(peer.run, peer.given))
        time.sleep(PAUSE)
    turns = peer.profile()[-rounds * row.calls :].reshape(rounds, row.calls, 2).sum(axis=1)
    row.theirs += turns.sum(axis=1).tolist()
    row.reordering += turns[:, 1].tolist()


def seconds_of(engine: Engine, given: Sequence[np.ndarray]) -> float:
    """Return the seconds that a network takes for all it was given."""
    start = time.perf_counter()
    for array in given:
        engine(array)
    return time.perf_counter() - start


def agreement(rows: Sequence[Row]) -> str:
    """Return a table of how far the outputs lie apart."""
    lines = [f"{'':16}{'convolutions':>14}{'calls':>8}{'largest difference':>22}{'rms, relative':>18}"]
    lines += [f"{r.name:16}{r.convolutions:14}{r.calls:8}{r.largest:22.1e}{r.rms:18.1e}" for r in rows]
    return "\n".join(lines)


def times(rows: Sequence[Row]) -> str:
    """Return a table of medians, quartiles, and ratios."""
    heading = f"{'milliseconds':16}{'numbaconv':>24}{'onnxruntime':>24}{'of it reordering':>24}{'ratio':>20}"
    lines = [heading]
    for r in rows:
        ratios = [theirs / ours for ours, theirs in zip(r.ours, r.theirs, strict=True)]
        cells = [f"{spread(seconds, 1e3):>24}" for seconds in (r.ours, r.theirs, r.reordering)]
        lines.append(f"{r.name:16}{''.join(cells)}{spread(ratios):>20}")
    lines.append("the whole networks:")
    for r in rows:
        lines.append(f"{r.name:16}{spread(r.ours_whole, 1e3):>24}{spread(r.theirs_whole, 1e3):>24}")
    return "\n".join(lines)


def spread(values: Sequence[float], unit: float = 1) -> str:
    """Return a median and its quartiles, as 1.52 (1.50-1.61)."""
    low, middle, high = (f"{unit * v:.{2 if unit == 1 else 1}f}" for v in quartiles(values))
    return f"{middle} ({low}-{high})"


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the quartiles of values; of a single one, three times that."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3


def run(options: argparse.Namespace, folder: str) -> None:
    """Read the page twice, compare, and print; the folder takes the profiles."""
    import numba
    from onnx_network import Network

    threads = options.threads or numba.get_num_threads()
    if threads > numba.config.NUMBA_NUM_THREADS:
        raise ValueError(f"--threads: expected at most {numba.config.NUMBA_NUM_THREADS} (NUMBA_NUM_THREADS), got {threads}")
    numba.set_num_threads(threads)
    picture, paths = page(options.image), model_paths()
    peers = {name: Peer(path, threads, folder) for name, path in paths.items()}
    networks = {name: Network(path, threads) for name, path in paths.items()}
    theirs, ours = read(picture, peers, threads), read(picture, networks, threads)
    print("\n".join(ours) or "no text", end="\n\n")
    same = f"onnxruntime alone reads the same {len(theirs)} lines"
    print(same if ours == theirs else "onnxruntime alone reads:\n" + "\n".join(theirs), end="\n\n")
    rows = [compare(name, networks[name], peers[name]) for name in paths if peers[name].given]
    print(agreement(rows), end="\n\n", flush=True)
    for row in rows:
        measure(row, networks[row.name], peers[row.name], options.rounds)
    print(f"convolutions, {threads} threads, medians (and quartiles) of {options.rounds} rounds:\n{times(rows)}")


def positive(text: str) -> int:
    """Read a number of at least one."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status: 2 for arguments that make no sense and things that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture with text (default: a page of scikit-image)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of both sides (default: numba's)")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="of timing (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            run(options, folder)
    except ImportError as error:
        before = " on Python before 3.13, which rapidocr-onnxruntime needs" if sys.version_info >= (3, 13) else ""
        print(f'read_page: error: {error}: pip install "numbaconv[examples]"{before}', file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"read_page: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
