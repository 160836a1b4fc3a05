"""What is asked of the driver at its functions' addresses, and what arrays of torch are recorded with, on a GPU."""

import pytest
from families import Torch
from helpers import random_array
from on_gpu import conforms

import numbaconv as nc
from numbaconv import execute
from numbaconv.cuda import driver, launch, streams, target

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["cuLaunchKernelEx", "cuCtxGetDevice", "cuStreamIsCapturing"])
def test_the_driver_has_the_function(name):
    assert driver.function(name) is not None


def test_errors_are_those_of_the_bindings(gpu, monkeypatch):
    """More dynamic shared memory than there is."""
    x, w = (gpu.to_device(random_array(shape, "float32")) for shape in ((1, 2, 3, 4), (2, 2, 1, 1)))
    launches, usual = [], launch.Launch.play
    monkeypatch.setattr(launch.Launch, "play", lambda self, *args: launches.append(self) or usual(self, *args))
    execute.forget()
    nc.conv2d(x, w, algorithm="direct")
    one = launches[-1]
    one.shared = 2**30
    monkeypatch.setattr(launch, "GRANTED", 2**31)  # as if it were granted
    messages = []
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^launching a CUDA kernel failed: CUDA_ERROR_") as failed:
            one.play(0)
        messages.append(str(failed.value))
        monkeypatch.setattr(driver, "function", lambda name: None)
    assert messages[0] == messages[1]


def test_device_and_capture_are_as_the_bindings_say(gpu, monkeypatch):
    torch = Torch().torch
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    spare = torch.zeros(8, device="cuda")

    def seen():
        return target.current_device(), streams.capturing(side.cuda_stream), streams.capturing(0)

    with torch.cuda.graph(graph, stream=side):
        native = [seen()]
        spare.add_(1)
    native.append(seen())
    monkeypatch.setattr(driver, "function", lambda name: None)
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=side):
        bindings = [seen()]
        spare.add_(1)
    bindings.append(seen())
    assert native == bindings
    assert [capturing for _, capturing, _ in native] == [True, False]


CHANGED = {
    "negative": lambda x: x.conj().imag,
    "conjugate": lambda x: x.conj(),
    "resized": lambda x: x.resize_(1, 2, 2, 2),
    "of another dtype": lambda x: x.view(Torch().torch.int32),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_tensors_of_which_something_has_changed_are_not_played_as_they_were(kind, long_way):
    """Most have the shape, strides and address that were recorded."""
    torch = Torch().torch
    x = torch.from_numpy(random_array((1, 2, 4, 4), "complex64" if kind in ("negative", "conjugate") else "float32")).cuda()
    seen = x.imag if kind == "negative" else x
    weight = torch.ones((2, 2, 1, 1), dtype=seen.dtype, device="cuda")
    nc.conv2d(seen, weight), nc.conv2d(seen, weight)
    assert len(long_way) == 1
    changed = CHANGED[kind](x)
    assert changed.data_ptr() == seen.data_ptr()
    nc.conv2d(changed, weight)
    assert len(long_way) == 2


@pytest.mark.parametrize("change", [lambda x: x.requires_grad_(), lambda x: x.to_sparse()], ids=["requires grad", "sparse"])
def test_tensors_that_are_refused_are_refused_after_a_recording(change):
    torch = Torch().torch
    x, weight = (torch.from_numpy(random_array(shape, "float32")).cuda() for shape in ((1, 2, 4, 4), (2, 2, 1, 1)))
    nc.conv2d(x, weight), nc.conv2d(x, weight)
    with pytest.raises(TypeError, match=r"^input: "):
        nc.conv2d(change(x), weight)


def test_a_call_runs_on_the_device_of_its_arrays():
    """Recorded there, and called while another device is current."""
    torch = Torch().torch
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    arrays = {"input": random_array((2, 8, 13, 14), "float32"), "weight": random_array((8, 8, 3, 3), "float32")}
    for device in ("cuda:1", "cuda:0"):
        given = {name: torch.from_numpy(a).to(device) for name, a in arrays.items()}
        op = nc.Conv2d(given["weight"])
        for _ in range(3):
            for result in (op(given["input"]), nc.conv2d(**given)):
                assert str(result.device) == device
                conforms(result.cpu().numpy(), arrays, {}, directly=False)
