"""How good calls are: beside the machine's FMA peak, beside other libraries, and beside float64.

asv takes less for better; the share of the peak is to be read the other way round.
"""

from benchmarks.common import (
    LAYOUTS,
    PAUSE,
    THREADS,
    flops,
    forward,
    in_float64,
    medians,
    once,
    operands,
    pin,
    rms_error,
    rounded,
    some,
)  # fmt: skip
from benchmarks.layers import LAYERS
from benchmarks.peak import tiles_gflops
from benchmarks.peers import PEERS

QUICK = ("resnet50.2.3x3", "resnet50.4.1x1", "mobilenetv2.dw2.s2")


def prepared(layer, layout):
    """Return a warm call of a prepared operator."""
    _, operator = forward(LAYERS[layer])
    x, weight, options = operands(LAYERS[layer], layout)
    op = operator(weight, **options)
    op(x)
    return lambda: op(x)


def peak(count):
    """The most GFLOP/s that a tile of the bare microkernel reaches, where the package has one."""
    try:
        return max(tiles_gflops(count, seconds=0.03).values())
    except (ImportError, AttributeError, TypeError) as error:
        raise NotImplementedError(f"no such microkernel: {error}") from None


class Peak:
    """GFLOP/s of the bare microkernel: the machine's, so that a change says that the machine was another or busy."""

    params = ("one", "all")
    param_names = ("threads",)

    @once
    def setup(self, threads):
        self.gflops = peak(pin(threads))

    def track_fma_peak(self, threads):
        return rounded(self.gflops)

    track_fma_peak.unit = "GFLOP/s"


class Share:
    """Operations of the definition in the time of a call, relative to the peak; Winograd, which takes fewer, may exceed 100 %."""

    params = (some(QUICK, LAYERS), LAYOUTS, THREADS)
    param_names = ("layer", "layout", "threads")

    @once
    def setup(self, layer, layout, threads):
        self.peak = peak(pin(threads))
        self.call = prepared(layer, layout)

    def track_share_of_fma_peak(self, layer, layout, threads):
        [seconds] = medians(self.call)
        return rounded(100 * flops(LAYERS[layer]) / seconds * 1e-9 / self.peak)

    track_share_of_fma_peak.unit = "% of the FMA peak"


class Peers:
    """The time of a prepared call relative to another library's: below 1, numbaconv is faster."""

    params = (some((*QUICK, "image.3x3"), LAYERS), tuple(PEERS), some(LAYOUTS[:1], LAYOUTS), THREADS)
    param_names = ("layer", "peer", "layout", "threads")
    timeout = 120

    @once
    def setup(self, layer, peer, layout, threads):
        count = pin(threads)
        try:
            self.peer = PEERS[peer](LAYERS[layer], layout, count)
        except ImportError as error:
            raise NotImplementedError(str(error)) from None
        self.peer()
        self.call = prepared(layer, layout)

    def track_times_peer(self, layer, peer, layout, threads):
        ours, theirs = medians(self.call, self.peer, pause=PAUSE)
        return rounded(ours / theirs)

    track_times_peer.unit = "times the peer's time"


class Errors:
    """The root mean square error of float32 results, relative to the convolution by its definition in float64."""

    params = (some((*QUICK, "image.3x3"), LAYERS), LAYOUTS)
    param_names = ("layer", "layout")
    timeout = 120

    def track_rms_error(self, layer, layout):
        pin("all")
        result = prepared(layer, layout)()
        x, weight, _ = operands(LAYERS[layer])
        result = result if layout == "channels first" else result.transpose(0, 3, 1, 2)
        return rounded(rms_error(result, in_float64(LAYERS[layer], x, weight)))

    track_rms_error.unit = "relative to float64"
