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
    loader.add_argument("--processes", type=int, default=1, metavar="N", help="loader processes (default: 1)")
    loader.set_defaults(command=_loader)

    step = subjects.add_parser("step", help="training steps against a bare loop and timm's")
    step.add_argument(
        "--models", default="", metavar="A,B", help="networks; the loops are compared on the first (default: a few)"
    )
    step.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    step.add_argument("--batch-size", type=int, metavar="N", help="per process (default: 16 on a CPU, 128 on a GPU)")
    step.set_defaults(command=_step)

    for parser in (loader, step):
        parser.add_argument(
            "--images", metavar="PATH", help="class folders of JPEGs, or a tar of them (default: made here)"
        )
        parser.add_argument(
            "--rounds", type=int, default=5, metavar="R", help="measurements of everything (default: 5)"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout")

    scaling = subjects.add_parser("scaling", help="how far training scales on paper; measures nothing")
    scaling.add_argument("--model", metavar="ARCH", help="default: resnet50 at a published speed, and drn_c_42")
    scaling.add_argument("--step-time-s", type=float, metavar="S", help="of one GPU, for --batch-size images")
    scaling.add_argument("--batch-size", type=int, default=256, metavar="N", help="per GPU (default: 256)")
    scaling.add_argument("--json", action="store_true", help="one JSON list on stdout")
    scaling.set_defaults(command=_scaling)


def _loader(options: argparse.Namespace) -> None:
    from trainer.bench import loader, loader_table  # torch takes seconds to import, and `--help` should not

    images = Path(options.images) if options.images else None
    result = loader.bench(images, options.processes, options.rounds, _say)
    print(json.dumps(result) if options.json else loader_table.table(result))


def _step(options: argparse.Namespace) -> None:
    from trainer.bench import step, step_table  # as above

    images = Path(options.images) if options.images else None
    models = [name for name in options.models.split(",") if name]
    result = step.bench(models, images, options.rounds, _say, device=options.device, batch_size=options.batch_size)
    print(json.dumps(result) if options.json else step_table.table(result))


def _scaling(options: argparse.Namespace) -> None:
    from trainer.bench import scaling  # as above

    result = scaling.asked_for(options.model, options.step_time_s, options.batch_size)
    print(json.dumps(result) if options.json else scaling.table(result))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
