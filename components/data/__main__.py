"""`python -m components.data prepare SOURCE --to FOLDER`: the command of the stages in dvc.yaml."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components.core.errors import GenwrightError
from components.core.home import DEFAULT, Home
from components.core.modality import reading_options
from components.data.manifest import Report
from components.data.prepare import CAPTIONS_MISSING_MAX, QUARANTINE_MAX, prepare, sheet_path
from components.data.sources.classes import CLASS_RULES
from components.data.words import lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Empty options count as not given, so that a stage may pass on unset variables."""
    parser = argparse.ArgumentParser(prog="python -m components.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    options = commands.add_parser("prepare", help="write shards and dataset.json")
    options.add_argument("source")
    options.add_argument("--to", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--limit", type=int)
    options.add_argument("--quarantine-max", type=float, default=QUARANTINE_MAX)
    reading = [option for option, _ in reading_options()]
    for option in reading:
        options.add_argument(option.flag, type=option.value)
    options.add_argument("--modality", default="image")
    options.add_argument("--classes", choices=CLASS_RULES, default="auto")
    options.add_argument("--captions", default="auto")
    options.add_argument("--captions-missing-max", type=float, default=CAPTIONS_MISSING_MAX)
    options.add_argument("--captions-repeated-max", type=float, default=1.0)
    options.add_argument("--mirror", default="")
    options.add_argument("--cache", default="")
    given = parser.parse_args(arguments)
    cache, reports = Path(given.cache or Home(DEFAULT).data), list[Report]()
    try:
        manifest = prepare(
            given.source,
            given.to,
            seed=given.seed,
            limit_items=given.limit,
            quarantine_max=given.quarantine_max,
            classes=given.classes,
            captions=given.captions,
            captions_missing_max=given.captions_missing_max,
            captions_repeated_max=given.captions_repeated_max,
            modality=given.modality,
            mirror=given.mirror or None,
            cache=cache,
            told=reports.append,
            **{option.name: getattr(given, option.name) for option in reading},
        )
    except GenwrightError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    for line in lines(manifest, reports[0], to=given.to, sheet=sheet_path(cache, given.to.absolute())):
        sys.stdout.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
