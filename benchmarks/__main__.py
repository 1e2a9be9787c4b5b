"""Command line: ``python -m benchmarks preprocessing|training``."""

import argparse
import sys

from tle_utils.base.errors import TLEError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise TLEError(f"{message} (see {self.prog} --help)")


def _preprocessing(args):
    from benchmarks.preprocessing import benchmark_preprocessing

    return benchmark_preprocessing(args.only, args.n, args.workers, args.ants_python)


def _training(args):
    from benchmarks.training import benchmark_training

    return benchmark_training(args.only, args.n, args.epochs, args.workers, args.torch_python)


def _positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _parser():
    text = "Measure speed and quality and compare them with their targets."
    parser = _Parser(prog="python -m benchmarks", description=text)
    tables = parser.add_subparsers(required=True, metavar="preprocessing | training")
    text = "Preprocessing on the real scans of TLE_SHARED_DATA, a row per target."
    preprocessing = tables.add_parser("preprocessing", help=text, description=text)
    preprocessing.set_defaults(function=_preprocessing)
    text = "scans of the rows that measure time (default: 8)"
    preprocessing.add_argument("--n", type=_positive, default=8, help=text)
    text = "interpreter of an environment with antspyx, for the row that compares with ANTs (default: this one)"
    preprocessing.add_argument("--ants-python", metavar="PATH", help=text)
    text = "Training on phantoms made on the spot, against plain PyTorch and Keras, a row per target."
    training = tables.add_parser("training", help=text, description=text)
    training.set_defaults(function=_training)
    training.add_argument("--n", type=_positive, default=40, help="participants per class (default: 40)")
    training.add_argument("--epochs", type=_positive, default=25, help="epochs per fold of ten (default: 25)")
    text = "interpreter of an environment with torch and numpy, for the row that compares with PyTorch (default: this)"
    training.add_argument("--torch-python", metavar="PATH", help=text)
    for added in (preprocessing, training):
        text = "only this row; may be given more than once"
        added.add_argument("--only", action="append", default=[], metavar="ROW", help=text)
        added.add_argument("--workers", type=_positive, default=2, help="processes side by side (default: 2)")
    return parser


def main(argv=None):
    """Measure and print; the exit status is 0 (all targets met), 1 (one missed) or 2 (bad input, in one line)."""
    try:
        args = _parser().parse_args(argv)
        return args.function(args)
    except TLEError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
