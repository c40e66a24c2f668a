"""`python -m trainer export`: a network as one file for other tools, checked against the original."""

import argparse
import json
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    """Add `export` to the command line's subparsers."""
    export = commands.add_parser("export", help="write a network as one file that other tools run")
    export.add_argument("model", metavar="MODEL", help="models:/name@alias, models:/name/3, a run id, architecture")
    export.add_argument(
        "settings", nargs="*", metavar="section.key=value", help="how pictures are prepared, for the card"
    )
    export.add_argument("--format", required=True, metavar="FORMAT", help="onnx, or pt2 (torch.export)")
    export.add_argument("--output", required=True, metavar="FILE", help="ends in .onnx or .pt2; its card is put beside")
    export.add_argument("--dense", action="store_true", help="class maps (B, classes, h, w) in place of logits")
    export.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    export.add_argument("--json", action="store_true", help="one JSON object on stdout")
    export.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> None:
    from trainer.export import target

    path = target.check(options.output, options.format, options.overwrite)
    from trainer.export import export  # torch takes seconds to import, and bad input should be answered at once

    result = export.export(options.model, options.settings, path, dense=options.dense)
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:>15}  {value}", file=sys.stderr)
