"""`python -m trainer bench`: speeds, each beside a reference that is measured in the same run."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add `bench` to the command line's subparsers."""
    bench = commands.add_parser("bench", help="speeds, with a reference measured in the same run")
    subjects = bench.add_subparsers(required=True, metavar="SUBJECT")

    loader = subjects.add_parser("loader", help="data loading against torchvision's published recipe")
    loader.add_argument(
        "--images", metavar="PATH", help="class folders of JPEGs, or a tar of them (default: made here)"
    )
    loader.add_argument("--processes", type=int, default=1, metavar="N", help="loader processes (default: 1)")
    loader.add_argument("--rounds", type=int, default=5, metavar="R", help="measurements of everything (default: 5)")
    loader.add_argument("--json", action="store_true", help="one JSON object on stdout")
    loader.set_defaults(command=_loader)


def _loader(options: argparse.Namespace) -> None:
    from trainer.bench import loader, loader_table  # torch takes seconds to import, and `--help` should not

    images = Path(options.images) if options.images else None
    result = loader.bench(images, options.processes, options.rounds, lambda line: print(line, file=sys.stderr))
    print(json.dumps(result) if options.json else loader_table.table(result))
