"""Command line: ``python -m tle_utils run|fetch|book|status|reference``."""

import argparse
import os
import sys

from tle_utils.base.errors import TLEError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise TLEError(f"{message} (see {self.prog} --help)")


def _done(args):
    """Exit status of a command, which loads only what it needs."""
    if args.command == "run":
        from tle_utils.book.run import run_chain

        return run_chain(args.profile, args.cohort, args.set, args.workers, args.scheduler)
    if args.command == "book":
        from tle_utils.book.build import build_book

        return build_book(args.profile, args.cohort, args.single)
    if args.command == "fetch":
        from tle_utils.cohorts.download import fetch
        from tle_utils.cohorts.manifest import load_manifest

        fetch(load_manifest().cohort(args.name), only=args.only, limit=args.limit, mirror=args.mirror)
    elif args.command == "status":
        from tle_utils.book.run import status_lines

        print("\n".join(status_lines(args.profile, args.cohort, args.set)))
    else:
        from tle_utils.book.reference import write_reference

        print(f"{write_reference().name}/ is written")
    return 0


def _parser():
    parser = _Parser(prog="python -m tle_utils", description="Run the notebooks, fetch the data, build the book.")
    metavar = "run | fetch | book | status | reference"
    commands = parser.add_subparsers(required=True, metavar=metavar, dest="command")

    def command(name, text):
        return commands.add_parser(name, help=text, description=text)

    run = command("run", "Run the notebooks that are out of date.")
    book = command("book", "Build the book from the executed notebooks into _build/html.")
    status = command("status", "Say for every notebook whether it is up to date, and why not.")
    command("reference", "Keep the small tables of the run of profile paper in reference/.")
    book.add_argument("--single", action="store_true", help="one page in _build/singlehtml, to print or to send")
    for added in (run, book, status):
        added.add_argument("--profile", default="demo", help="a file of notebooks/parameters/ (default: demo)")
        added.add_argument("--cohort", default="phantom", help="a cohort of data_manifest.yaml (default: phantom)")
    for added in (run, status):
        text = "set a parameter, for example 04_deep_model.max_epochs=80; may be given more than once"
        added.add_argument("--set", action="append", default=[], metavar="NOTEBOOK.PARAMETER=VALUE", help=text)
    place = run.add_mutually_exclusive_group()
    place.add_argument("--workers", type=int, help="processes side by side; the results do not depend on it")
    text = "Dask scheduler whose workers take the participants and folds; they must see the same files"
    place.add_argument("--scheduler", metavar="tcp://HOST:PORT", help=text)
    fetch = command("fetch", "Download a cohort of data_manifest.yaml into downloads/ and check it.")
    fetch.add_argument("name", help="a cohort of data_manifest.yaml")
    fetch.add_argument("--only", help="table or images: only this part")
    fetch.add_argument("--limit", type=int, help="only the first N scans")
    fetch.add_argument("--mirror", help="web address or folder to take the files from")
    return parser


def main(argv=None):
    """Run the command line with `argv` (list of str, by default ``sys.argv[1:]``); returns the exit status (int).

    0, 1 a notebook or the book failed, 2 bad input (one line on stderr), 3 all done but participants were left out (a
    line each on stderr, and how many), 130 interrupted, 141 the reader of stdout has gone.
    """
    try:
        status = _done(_parser().parse_args(argv))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has seen enough, as in "… status | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except TLEError as error:
        print(f"tle_utils: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        place = os.path.relpath(error.filename) if error.filename else "a file"
        print(f"tle_utils: {place}: no permission: change it, or that of its folder", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tle_utils: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
