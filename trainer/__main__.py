"""The command line: `python -m trainer COMMAND`."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from shared.errors import TrainingError, UserError
from trainer import bench, export, sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done, 1: failed, 2: wrong usage or input, 130: interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse gives up on settings that follow an option: `evaluate MODEL --json data.path=...`
    if unknown := [word for word in rest if word.startswith("-") or not hasattr(options, "settings")]:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    if rest:
        options.settings += rest
    try:
        options.command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
    except (KeyboardInterrupt, SystemExit):  # Ray Train turns Ctrl-C into the latter
        return 130
    return 0


# Each command imports what it needs: Ray, MLflow and torch take seconds, and `--help` should not.


def _train(options: argparse.Namespace) -> None:
    from trainer import dry_run, recipes, training

    if options.json and not options.dry_run:
        raise UserError("--json belongs to --dry-run: a training ends with what it registered")
    if options.resume:
        if options.settings:
            raise UserError(f"--resume goes on with the recipe of the run; drop {' '.join(options.settings)}")
        for version in training.resume(options.resume):
            _say(training.summary(version))
        return
    names = [word for word in options.settings if "=" not in word]
    overrides = [word for word in options.settings if "=" in word]
    if not names:
        raise UserError("no recipe given; `python -m trainer recipes` lists them")
    loaded = [recipes.load(name, overrides) for name in names]
    if options.dry_run:
        dry_run.show(loaded, as_json=options.json)
        return
    for version in training.train(loaded):
        _say(training.summary(version))


def _evaluate(options: argparse.Namespace) -> None:
    from trainer.evaluate import evaluate

    result = evaluate(options.model, options.settings)
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        _say(f"{key:>15}  {value}")


def _import(options: argparse.Namespace) -> None:
    from trainer import importing

    if options.list:
        offers = importing.listing(*options.settings[:1])
        if options.json:
            print(json.dumps([importing.as_row(offer) for offer in offers]))
            return
        print(importing.table(offers))
        return
    if len(options.settings) < 2:
        raise UserError("import needs ARCH and SOURCE; `python -m trainer import --list` shows what can be had")
    architecture, source, *settings = options.settings
    result = importing.summary(importing.import_weights(architecture, source, settings, checksum=options.checksum))
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if value is not None:
            _say(f"{key:>24}  {value}")


def _models(options: argparse.Namespace) -> None:
    from trainer import comparison, figures

    path = figures.check_path(options.plot) if options.plot else None
    networks = comparison.networks()
    if options.json:
        print(json.dumps([network.row() for network in networks]))
    else:
        print(comparison.table(networks))
    if path:
        figures.save(comparison.draw(networks, comparison.measurements()), path)
        _say(f"wrote {path}")


def _recipes(options: argparse.Namespace) -> None:
    from trainer import recipes

    loaded = [recipes.load(name) for name in recipes.names()]
    if options.json:
        rows = [
            {"name": r.name, "model": r.model.name, "data": r.data_name, "expected": asdict(r.expected)} for r in loaded
        ]
        print(json.dumps(rows))
        return
    print(f"{'recipe':<21} {'model':<18} {'data':<13} {'epochs':>6}  expected top-1 error")
    for r in loaded:
        error = "" if r.expected.top1_error_pct is None else f"{r.expected.top1_error_pct:.2f} %  "
        line = f"{r.name:<21} {r.model.name:<18} {r.data_name:<13} {r.run.epochs:>6g}"
        print(f"{line}  {error}({r.expected.source})")


def _study(options: argparse.Namespace) -> None:
    from trainer import figures, studies, study

    path = figures.check_path(options.plot) if options.plot else None
    names = [word for word in options.settings if "=" not in word]
    overrides = [word for word in options.settings if "=" in word]
    parent = options.resume or options.draw
    if parent and options.settings:
        raise UserError(f"a study keeps the settings it began with; drop {' '.join(options.settings)}")
    if options.resume:
        study.resume(parent)
    elif not parent:
        if len(names) != 1:
            raise UserError(f"name one study; there are {', '.join(studies.names())}, or give the path of a .toml file")
        parent = study.run(studies.load(names[0], overrides))
    figure, rows = study.report(parent)
    if path:
        figures.save(figure, path)
        _say(f"wrote {path}")
    print(study.table(rows))
    _say(f"drawn again by: python -m trainer study --draw {parent}")


def _pack(options: argparse.Namespace) -> None:
    from pathlib import Path

    from trainer.packing import pack, verify

    paths = [Path(path) for path in options.paths]
    if len(paths) != 1 + (not options.verify):
        raise UserError("pack needs SOURCE and TARGET, or --verify and TARGET alone")
    if options.verify:
        _say(verify.verify(paths[0], options.num_processes))
        return
    settings = pack.Settings(shorter_side=options.shorter_side, quality=options.quality, shard_mb=options.shard_mb)
    _say(pack.pack(paths[0], paths[1], settings, options.num_processes))


def _quickstart(_: argparse.Namespace) -> None:
    from trainer import quickstart

    quickstart.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train recipes, log them to MLflow and register the networks")
    train.add_argument("settings", nargs="*", metavar="RECIPE|section.key=value", help="names or .toml files; settings")
    instead = train.add_mutually_exclusive_group()
    instead.add_argument("--resume", metavar="RUN_ID", help="go on with an interrupted run")
    instead.add_argument("--dry-run", action="store_true", help="check all, measure a few updates, train nothing")
    train.add_argument("--json", action="store_true", help="with --dry-run: one JSON object on stdout")
    train.set_defaults(command=_train)

    evaluate = commands.add_parser("evaluate", help="exact errors and gridding of a network")
    evaluate.add_argument("model", metavar="MODEL", help="models:/name@alias, models:/name/3, a run id, architecture")
    evaluate.add_argument("settings", nargs="*", metavar="section.key=value")
    evaluate.add_argument("--json", action="store_true", help="one JSON object on stdout")
    evaluate.set_defaults(command=_evaluate)

    imports = commands.add_parser("import", help="register published weights")
    imports.add_argument(
        "settings",
        nargs="*",
        metavar="ARCH SOURCE [section.key=value]",
        help="SOURCE: torchvision, timm (both take :TAG), official, mirror, a URL or a file; data.path=... measures",
    )
    imports.add_argument(
        "--checksum", default="", metavar="HEX", help="what the file's sha256 begins with, or its sha1"
    )
    imports.add_argument("--list", action="store_true", help="what can be had (for one ARCH: all of it)")
    imports.add_argument("--json", action="store_true", help="one JSON object (with --list: a list) on stdout")
    imports.set_defaults(command=_import)

    for name, command, text in (
        ("models", _models, "the networks, their size and cost"),
        ("recipes", _recipes, "the recipes and what they should reach"),
    ):
        listing = commands.add_parser(name, help=text)
        listing.add_argument("--json", action="store_true", help="one JSON list on stdout")
        listing.set_defaults(command=command)
        if command is _models:
            listing.add_argument("--plot", metavar="FILE", help="draw error against cost and size (.png, .svg, .pdf)")

    study = commands.add_parser("study", help="train recipes that show something together, and draw their errors")
    study.add_argument("settings", nargs="*", metavar="STUDY|section.key=value", help="name or .toml file; settings")
    again = study.add_mutually_exclusive_group()
    again.add_argument("--resume", metavar="RUN_ID", help="go on with an interrupted study")
    again.add_argument("--draw", metavar="RUN_ID", help="draw a study again, finished or not")
    study.add_argument("--plot", metavar="FILE", help="also write the figure here (.png, .svg, .pdf)")
    study.set_defaults(command=_study)

    pack = commands.add_parser("pack", help="class folders, or ImageNet's original tars, to shards")
    pack.add_argument("paths", nargs="+", metavar="SOURCE TARGET", help="folders; with --verify: TARGET alone")
    pack.add_argument("--shorter-side", type=int, default=0, metavar="PX", help="scale down to it (default: as it is)")
    pack.add_argument("--quality", type=int, default=90, help="of JPEGs that are encoded anew (default: 90)")
    pack.add_argument("--shard-mb", type=int, default=150, metavar="MB", help="size of a shard (default: 150)")
    pack.add_argument("--num-processes", type=int, default=0, metavar="N", help="default: one for each core")
    pack.add_argument("--verify", action="store_true", help="read a packed set and check all of it")
    pack.set_defaults(command=_pack)

    bench.add_parser(commands)
    export.add_parser(commands)
    sweep.add_parser(commands)

    quickstart = commands.add_parser("quickstart", help="train the four tiny networks that the registry lacks")
    quickstart.set_defaults(command=_quickstart)
    return parser


def _say(what: object) -> None:
    """For people: stdout belongs to --json and to tables that were asked for."""
    print(what, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
