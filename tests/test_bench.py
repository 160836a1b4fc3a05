"""``numbaconv bench``: what is computed from blocks, the result file, the tables and the picture, on made-up measurements."""

import copy
import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from numbaconv.bench import noise, plot, record, tables
from numbaconv.bench.libraries import AGAIN, OURS
from numbaconv.bench.noise import Ratio
from numbaconv.bench.record import Document, Record
from numbaconv.bench.roofs import Roofs


def made_up():
    """A small network of two layers, one of which three times, and a layer that no peer takes."""
    first = Record("1x64x56x56,64,3x3,p1", 231_211_008, 1_753_088)
    first.blocks = {
        "torch": [2.0, 2.1, 2.2, 2.0], "scipy": [8.0, 8.0, 8.0, 8.0],
        OURS: [1.0, 1.0, 1.1, 1.0], AGAIN: [1.0, 1.02, 1.1, 1.0],
    }  # fmt: skip
    first.errors = {"torch": 2e-7, "scipy": 1e-7, OURS: 7e-7, AGAIN: 7e-7}
    first.notes = {OURS: "winograd4", AGAIN: "winograd4"}
    second = Record("1x64x56x56,256,1x1", 102_760_448, 4_079_616)
    second.blocks = {"torch": [0.5, 0.52, 0.5, 0.51], OURS: [0.5, 0.51, 0.51, 0.5], AGAIN: [0.52, 0.5, 0.51, 0.49]}
    second.errors = {"torch": 2e-7, OURS: 1e-7, AGAIN: 1e-7}
    second.notes = {OURS: "pointwise"}
    second.failures = {"scipy": "SciPy has no stride and no dilation"}
    alone = Record("1x1x9,1,3", 42, 76, {OURS: [1e-6] * 4, AGAIN: [1e-6] * 4}, {OURS: 0.0}, {OURS: "rows"})
    return Document(
        command="numbaconv bench made up",
        settings={"threads": 2, "dtype": "float32", "layout": "NCHW", "mode": "prepared", "algorithm": "auto", "rounds": 4,
                  "block": 0.03, "backend": "cpu"},
        machine={"cpu": "a CPU", "caches": {"L1": 32768}, "governor": "unknown"},
        versions={"python": "3", "torch": "2"},
        load={"before": [0.1, 0.2, 0.3], "after": None},
        skipped={"jax": "jax not installed"},
        networks={"small": {first.layer: 3, second.layer: 1}},
        roofs=Roofs({"14 x 2": 230.0, "8 x 3": 200.0}, {"L2": 150.0, "L3": 40.0, "memory": 20.0}),
        records=[first, second, alone],
    )  # fmt: skip


# ---------------------------------------------------------------- what follows from blocks


def test_a_spread_is_median_and_quartiles():
    assert noise.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert noise.spread([5.0, 1.0, 2.0, 4.0, 3.0]).half == 1.0
    assert noise.spread([1.0, 2.0]).median == 1.5
    assert math.isnan(noise.spread([1.0, 2.0]).half)


def test_noise_is_how_far_the_same_function_is_from_itself():
    """By its medians, or by its rounds, whichever is more."""
    assert noise.self_noise({OURS: [1.0] * 4, AGAIN: [1.1] * 4}) == pytest.approx(0.1)
    assert noise.self_noise({OURS: [1.1] * 4, AGAIN: [1.0] * 4}) == pytest.approx(0.1)
    rounds = noise.self_noise({OURS: [1.0] * 5, AGAIN: [0.5, 0.8, 1.0, 1.25, 2.0]})
    assert rounds == pytest.approx(0.25)
    assert math.isnan(noise.self_noise({OURS: [1.0, 1.0], AGAIN: [1.0, 1.0]}))
    assert math.isnan(noise.self_noise({OURS: [1.0] * 4}))


def test_the_floor_is_the_median_of_the_layers():
    layers = [{OURS: [1.0] * 3, AGAIN: [1 + n] * 3} for n in (0.01, 0.5, 0.03)]
    assert noise.noise_floor([*layers, {OURS: [1.0] * 3}]) == pytest.approx(0.03)
    assert math.isnan(noise.noise_floor([]))


def test_a_ratio_is_that_of_the_fastest_peer():
    found = noise.ratio({"a": [4.0] * 3, "b": [3.0] * 3, OURS: [2.0] * 3, AGAIN: [2.2] * 3}, floor=0.01)
    assert found.peer == "b"
    assert found.value == pytest.approx(1.5)
    assert found.noise == pytest.approx(0.1)
    assert found.verdict == "+"
    assert noise.ratio({OURS: [2.0] * 3, AGAIN: [2.0] * 3}, 0.01) is None
    assert noise.ratio({"a": [2.0] * 3, AGAIN: [2.0] * 3}, 0.01) is None


@pytest.mark.parametrize(
    ("peer", "floor", "verdict"), [(1.2, 0.05, "+"), (1.04, 0.05, "~"), (1.04, 0.03, "+"), (0.97, 0.05, "~"), (0.9, 0.05, "-")]
)
def test_within_the_noise_is_a_tie(peer, floor, verdict):
    blocks = {"peer": [peer] * 3, OURS: [1.0] * 3, AGAIN: [1.0] * 3}
    assert noise.ratio(blocks, floor).verdict == verdict


def test_a_peer_that_varies_ties():
    """Its rounds differ by more than its median does from ours, though ours are quiet."""
    blocks = {"peer": [0.6, 1.1, 1.1, 2.0, 2.0], OURS: [1.0] * 5, AGAIN: [1.0] * 5}
    assert noise.ratio(blocks, 0.0).verdict == "~"


def test_nothing_is_won_where_the_noise_is_not_known():
    found = noise.ratio({"peer": [9.0, 9.0], OURS: [1.0, 1.0], AGAIN: [1.0, 1.0]}, 0.0)
    assert found.verdict == "?"
    assert str(found) == "9.00 ± ? ?"
    without_again = noise.ratio({"peer": [9.0] * 3, OURS: [1.0] * 3}, 0.0)
    assert without_again.verdict == "?"


def test_totals_weigh_layers_by_their_counts_round_by_round():
    document = made_up()
    totals = document.totals()["small"]
    assert set(totals) == {"torch", OURS, AGAIN}  # SciPy has not all layers
    np.testing.assert_allclose(totals["torch"], [6.5, 6.82, 7.1, 6.51])
    del document.records[1]
    assert document.totals() == {}


def test_an_interrupted_round_is_left_out_of_totals():
    blocks = [{OURS: [1.0, 2.0, 3.0]}, {OURS: [10.0, 20.0]}]
    assert noise.total(blocks, [1, 2]) == {OURS: [21.0, 42.0]}


def test_the_geometric_mean_has_its_own_noise():
    blocks = [
        {"p": [4.0] * 3, OURS: [1.0] * 3, AGAIN: [1.1] * 3},
        {"q": [1.0] * 3, OURS: [1.0] * 3, AGAIN: [1 / 1.1] * 3},
    ]
    found = noise.geometric_mean(blocks)
    assert found.value == pytest.approx(2)
    assert found.noise == pytest.approx(0, abs=1e-12)  # what is 10 % off here is 10 % off there to the other side
    blocks[1][AGAIN] = [1.1] * 3
    assert noise.geometric_mean(blocks).noise == pytest.approx(0.1)
    assert noise.geometric_mean([]) is None


# ---------------------------------------------------------------- the file


def test_what_is_written_is_read(tmp_path):
    document = made_up()
    record.write(document, tmp_path / "r.json")
    assert record.read(tmp_path / "r.json") == document
    found = json.loads((tmp_path / "r.json").read_text())
    layer = found["layers"][0]
    assert layer["seconds"]["torch"] == {"median": 2.05, "low": 2.0, "high": pytest.approx(2.125)}
    assert layer["ratio"]["peer"] == "torch"
    assert layer["ratio"]["verdict"] == "+"
    assert layer["gflops"] == pytest.approx(0.231211008)
    assert found["layers"][2]["ratio"] is None
    assert found["totals"]["small"]["ratio"]["peer"] == "torch"
    assert found["noise_floor"] == pytest.approx(document.floor)


def test_files_have_no_nan(tmp_path):
    document = made_up()
    document.records = [Record("x", 1, 1, {OURS: [1.0], "torch": [2.0]}, {OURS: math.inf})]
    document.networks = {}
    record.write(document, tmp_path / "r.json")

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert record.read(tmp_path / "r.json") == document


def spoilt(change):
    found = {"format": record.FORMAT, **asdict(made_up())}
    found["layers"] = found.pop("records")
    change(found)
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[1, 2]", '"format"'),
        ('{"format": "another"}', '"format"'),
        (spoilt(lambda d: d.pop("layers")), "'layers'"),
        (spoilt(lambda d: d.pop("machine")), "'machine'"),
        (spoilt(lambda d: d["layers"][0].pop("flops")), "'flops'"),
        (spoilt(lambda d: d["layers"][0]["blocks"][OURS].append(-1.0)), "1x64x56x56,64,3x3,p1"),
        (spoilt(lambda d: d["layers"][0]["blocks"][OURS].append("fast")), "1x64x56x56,64,3x3,p1"),
        (spoilt(lambda d: d["layers"][0].update(blocks=3)), "no result of numbaconv bench"),
        (spoilt(lambda d: d["networks"]["small"].update(x=0)), "count"),
        (spoilt(lambda d: d["roofs"].update(more=1)), "no result of numbaconv bench"),
        (spoilt(lambda d: d["settings"].pop("dtype")), "'dtype'"),
        (spoilt(lambda d: d["machine"].update(caches=3)), "no result of numbaconv bench"),
        (spoilt(lambda d: d["machine"].update(caches={"L1": "big"})), "the caches"),
        (spoilt(lambda d: d["layers"][0].update(notes={OURS: 3})), "notes"),
        (spoilt(lambda d: d["layers"][0].update(errors={OURS: "small"})), "no result of numbaconv bench"),
        (spoilt(lambda d: d.update(skipped=["torch"])), "no result of numbaconv bench"),
        (spoilt(lambda d: d.update(load=3)), "load"),
        (spoilt(lambda d: d.update(layers=[1])), "no result of numbaconv bench"),
    ],
)
def test_files_that_are_no_results_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.json") as caught:
        record.read(path)
    assert "\n" not in str(caught.value)
    assert message in str(caught.value)


def test_the_made_up_file_is_right_unless_spoilt(tmp_path):
    (tmp_path / "r.json").write_text(spoilt(lambda document: None))
    assert record.read(tmp_path / "r.json") == made_up()


# ---------------------------------------------------------------- tables and picture


def test_tables_show_no_time_without_spread_and_no_ratio_without_noise():
    document = made_up()
    heading, first, second, alone = tables.layer_rows(document)
    assert heading[2:6] == ["torch, us", "scipy, us", "numbaconv, us", "numbaconv again, us"]
    assert all(len(row) == len(heading) for row in (first, second, alone))
    assert all(cell == "-" or "±" in cell for row in (first, second, alone) for cell in row[2:6])
    assert first[2] == "2050000 ± 62500"
    assert first[1] == "winograd4"
    ratios = [row[heading.index("ratio")] for row in (first, second, alone)]
    assert ratios == [str(document.ratio(document.records[0])), str(document.ratio(document.records[1])), "-"]
    assert [ratio[-1] for ratio in ratios] == ["+", "~", "-"]
    assert tables.total_rows(document)[1][:2] == ["small", "4"]


def test_markdown_has_all_that_the_times_depend_on():
    page = tables.markdown(made_up())
    for part in (
        "numbaconv bench made up", "cpu: a CPU", "governor: unknown", "load average (1, 5, 15 minutes) before: 0.1 0.2 0.3",
        "after: unknown",
        "torch 2", "rounds 4", "Noise floor", "1 faster, 1 ties within the noise", "jax is skipped: jax not installed",
        "scipy, 1x64x56x56,256,1x1: SciPy has no stride", "| small | 4 |", "14 x 2 230", "L1 32 KiB",
    ):  # fmt: skip
        assert part in page
    assert "Interrupted" not in page


def test_what_was_interrupted_says_so():
    document = made_up()
    document.interrupted = True
    assert "Interrupted" in tables.markdown(document)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_picture_is_drawn(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    plot.draw(made_up(), path)
    assert path.stat().st_size > 5000
    if suffix == ".png":
        from matplotlib.image import imread

        pixels = imread(path)[..., :3]
        width = pixels.shape[1]
        for half in (pixels[:, : width // 2], pixels[:, width // 2 :]):  # the roofline, and the bars
            assert half.std() > 0.05
    if suffix == ".svg":
        text = path.read_text()
        for part in (
            "a CPU: float32, NCHW, prepared, threads: 2",
            "1x64x56x56,64,3x3,p1",
            "winograd4",
            "all of small",
            "L3: 40 GB/s",
        ):
            assert part in text


def test_equal_results_are_equal_pictures(tmp_path):
    for name in ("a.svg", "b.svg"):
        plot.draw(made_up(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("without", ["roofs", "peers", "rounds"])
def test_the_picture_is_drawn_of_little(tmp_path, without):
    document = made_up()
    if without == "roofs":
        document.roofs = None
    for found in document.records:
        if without == "peers":
            found.blocks = {name: times for name, times in found.blocks.items() if name in (OURS, AGAIN)}
        if without == "rounds":
            found.blocks = {name: times[:1] for name, times in found.blocks.items()}
    plot.draw(document, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_there_is_no_picture_of_nothing(tmp_path):
    document = copy.deepcopy(made_up())
    for found in document.records:
        del found.blocks[OURS]
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.draw(document, tmp_path / "picture.png")


def test_ratios_are_compared_on_a_logarithmic_scale():
    assert Ratio(1 / 1.09, 0.1).verdict == "~"
    assert Ratio(1.09, 0.1).verdict == "~"
    assert Ratio(1 / 1.11, 0.1).verdict == "-"
    assert Ratio(1.11, 0.1).verdict == "+"
