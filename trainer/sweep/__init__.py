"""`python -m trainer sweep`: one recipe trained with many settings, and one figure of their errors."""

import argparse
import sys
from typing import Any

from shared.errors import UserError


def add_parser(commands: Any) -> None:
    """Add `sweep` to the command line's subparsers."""
    sweep = commands.add_parser("sweep", help="train a recipe with many settings, and draw their errors")
    sweep.add_argument(
        "settings",
        nargs="*",
        metavar="RECIPE|section.key=VALUE,VALUE|section.key=LOW..HIGH",
        help="a name or .toml file; settings: with one value, with several (all combinations), with --samples ranges",
    )
    sweep.add_argument("--samples", type=int, metavar="N", help="draw N points at random instead of all combinations")
    sweep.add_argument("--seed", type=int, default=0, help="of that drawing (default: 0)")
    sweep.add_argument(
        "--concurrent",
        type=int,
        metavar="N",
        help="trainings at once (default: as many as there are GPUs for; on CPU cores one, more share them out)",
    )
    again = sweep.add_mutually_exclusive_group()
    again.add_argument("--resume", metavar="RUN_ID", help="go on with an interrupted sweep")
    again.add_argument("--draw", metavar="RUN_ID", help="draw a sweep again, finished or not")
    sweep.add_argument("--plot", metavar="FILE", help="also write the figure here (.png, .svg, .pdf)")
    sweep.set_defaults(command=_sweep)


def _sweep(options: argparse.Namespace) -> None:
    if options.concurrent is not None and options.concurrent < 1:
        raise UserError(f"--concurrent {options.concurrent} is below 1; leave it out for as many as fit")
    parent = options.resume or options.draw
    if parent and (options.settings or options.samples):
        words = [*options.settings, *(["--samples"] if options.samples else [])]
        raise UserError(f"a sweep keeps the settings it began with; drop {' '.join(words)}")

    from trainer import figures  # these take seconds to import, and `--help` should not
    from trainer.sweep import points, run

    path = figures.check_path(options.plot) if options.plot else None
    failure: run.PartlyFailedError | None = None
    try:
        if options.resume:
            run.resume(parent, options.concurrent)
        elif not parent:
            parent = run.run(points.read(options.settings, options.samples, options.seed), options.concurrent)
    except run.PartlyFailedError as error:
        parent, failure = error.parent, error
    figure, table = run.report(parent)
    if path:
        figures.save(figure, path)
        print(f"wrote {path}", file=sys.stderr)
    print(table)
    print(f"drawn again by: python -m trainer sweep --draw {parent}", file=sys.stderr)
    if failure:
        raise failure
