"""The command line: ``numbaconv`` and ``python -m numbaconv``. Arguments and printing only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numbaconv
from numbaconv import tuning
from numbaconv.bench import arguments as bench
from numbaconv.demo import run as run_demo
from numbaconv.dispatch import in_seconds
from numbaconv.measure import Comparison, problem, report, tune
from numbaconv.networks import NETWORKS, USUAL, layers

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit status: 0, 2 for arguments that make no sense and things that are missing, or 130 if it was interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, TypeError, OSError, ImportError, numbaconv.BackendUnavailableError) as error:
        print(f"numbaconv: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("numbaconv: interrupted", file=sys.stderr)
        return 130
    return 0


def _demo(options: argparse.Namespace) -> None:
    run_demo(options.image, options.output, lambda text: print(text, end="\n\n", flush=True))


def _info(options: argparse.Namespace) -> None:
    numbaconv.show_config()


def _explain(options: argparse.Namespace) -> None:
    apart = ("command", "operator", "input", "weight")
    chosen = {name: value for name, value in vars(options).items() if value is not None and name not in apart}
    print(numbaconv.explain(options.operator, options.input, options.weight, **chosen))


def _tune(options: argparse.Namespace) -> None:
    shapes = options.shape or ([] if options.clear or options.list else USUAL)
    asked = [layer for text in shapes for layer in layers(text)]
    specs = [problem(layer, options.layout, options.dtype, options.bias, options.activation) for layer in asked]
    if options.clear:
        tuning.clear()
    done: list[Comparison] = []
    try:
        for comparison in tune(list(dict.fromkeys(specs)), lambda text: print(text, file=sys.stderr, flush=True)):
            done.append(comparison)
    finally:
        if done:
            print(report(done))
    if options.list:
        print(f"{len(tuning.table())} problems measured on this machine, in {tuning.folder()}")
        for name, seconds in tuning.table().items():
            print(f"{name}: {', '.join(f'{algorithm} {in_seconds(s)}' for algorithm, s in seconds.items())}")


def _warmup(options: argparse.Namespace) -> None:
    from numbaconv import warmup
    from numbaconv.cpu import cache_folder

    asked = warmup.calls(options.shape, options.dtype.split(","), options.layout.split(","))
    if options.list:
        print(*asked, sep="\n")
        return
    compiled = sum(warmed.compiled for warmed in warmup.shown(asked))
    done = f"{compiled} functions compiled" if compiled else "nothing had to be compiled"
    print(f"{len(asked)} calls, {done}; kept in {cache_folder()}")


def _bench(options: argparse.Namespace) -> None:
    from numbaconv.bench.command import run  # by itself: it brings what only measurements need

    run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="numbaconv", description=numbaconv.__doc__)
    parser.add_argument("--version", action="version", version=f"numbaconv {numbaconv.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="filter a photograph, beside NumPy, and draw the responses")
    demo.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file (default: a photograph of scikit-image)")
    demo.add_argument("-o", "--output", default="numbaconv-demo.png", help="the picture to write (default: %(default)s)")
    demo.set_defaults(command=_demo)

    info = commands.add_parser("info", help="versions, CPU features, threads, backends, cache folder")
    info.set_defaults(command=_info)

    explain = commands.add_parser("explain", help="which algorithm a problem takes, and why not another")
    explain.add_argument("operator", metavar="OPERATOR", help="conv1d, conv2d, conv3d, conv_transpose1d, ...")
    explain.add_argument("input", type=_shape, metavar="INPUT", help="the data's shape, as 1,64,56,56 or 1x64x56x56")
    explain.add_argument("weight", type=_shape, metavar="WEIGHT", help="the kernel's shape, as 64,64,3,3")
    explain.add_argument("--stride", type=_numbers, metavar="S[,S]")
    explain.add_argument("--padding", type=_padding, metavar="P[,P]|LOW:HIGH,LOW:HIGH|WORD", help="WORD: valid, same, same_lower")
    explain.add_argument("--dilation", type=_numbers, metavar="D[,D]")
    explain.add_argument("--output-padding", type=_numbers, metavar="E[,E]", help="transposed operators only")
    explain.add_argument("--groups", type=int)
    explain.add_argument("--padding-mode", metavar="MODE", help="zeros, reflect, replicate or circular")
    explain.add_argument("--layout", help="NCHW or NHWC, NCW or NWC, NCDHW or NDHWC")
    explain.add_argument("--activation", metavar="NAME")
    explain.add_argument("--algorithm", metavar="NAME")
    explain.add_argument("--precision")
    explain.add_argument("--backend", help="cpu, cuda or reference")
    explain.add_argument("--dtype", help="of both operands (default: float32)")
    explain.set_defaults(command=_explain)

    threads = "On NUMBA_NUM_THREADS threads; what is measured holds for that number."
    tune = commands.add_parser("tune", help="measure the algorithms here, for later calls to choose by", description=threads)
    shape = (
        "as 1x64x56x56,64,3x3,s1,p1,g1,d1 (input, output channels, kernel ...; *2 for two such layers changes nothing here), "
        f"or one of {', '.join(NETWORKS)} (default: {', '.join(USUAL)})"
    )
    tune.add_argument("shape", nargs="*", metavar="SHAPE", help=shape)
    tune.add_argument("--layout", choices=("NCHW", "NHWC"), default="NCHW", help="the order in memory (default: %(default)s)")
    tune.add_argument("--dtype", default="float32", help="of data, weight and bias (default: %(default)s)")
    tune.add_argument("--bias", action="store_true", help="with a bias; only such calls then choose by it")
    tune.add_argument("--activation", metavar="NAME", help="with an activation, likewise")
    tune.add_argument("--clear", action="store_true", help="forget all that was measured before")
    tune.add_argument("--list", action="store_true", help="print what is known of this machine")
    tune.set_defaults(command=_tune)

    ahead = (
        "What was compiled is kept on disk, so that other processes only load it. A call once for each shape, dtype and layout."
    )
    warmup = commands.add_parser("warmup", help="compile what is common, ahead of the calls that need it", description=ahead)
    warmup.add_argument("shape", nargs="*", metavar="SHAPE", help="as of tune (default: filters of pictures and usual layers)")
    warmup.add_argument(
        "--dtype", "--dtypes", default="float32", metavar="D[,D]", help="of data and weight (default: %(default)s)"
    )
    warmup.add_argument("--layout", type=_layouts, default="NCHW,NHWC", metavar="L[,L]", help="in memory (default: %(default)s)")
    warmup.add_argument("--list", action="store_true", help="print the calls, and make none")
    warmup.set_defaults(command=_warmup)

    bench.add(commands).set_defaults(command=_bench)
    return parser


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.replace("x", ",").split(","))


def _numbers(text: str) -> int | tuple[int, ...]:
    numbers = _shape(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _layouts(text: str) -> str:
    if not set(text.split(",")) <= {"NCHW", "NHWC"}:
        raise argparse.ArgumentTypeError(f"expected NCHW, NHWC or NCHW,NHWC, got {text!r}")
    return text


def _padding(text: str) -> str | int | tuple:
    """A word, a number, numbers, or LOW:HIGH pairs."""
    if text.isalpha() or "_" in text:
        return text
    if ":" not in text:
        return _numbers(text)
    return tuple(tuple(int(n) for n in pair.split(":")) for pair in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
