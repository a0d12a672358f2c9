"""Step 1 of 6: fetch what is stale from its sources, merge the rows, drop duplicates and split them.

    uv run python scripts/01_regenerate_data.py

Reads   data_source.yaml and whatever it names
Writes  data/raw/*.jsonl, data/train.jsonl, data/valid.jsonl, data/test.jsonl, data/data.lock.yaml

The same sources give the same files, and no row of an earlier test set ever reaches the training set.
In Python: nlp_skills.data.regenerate.regenerate(TaskFolder.at(TASK)).
"""

import argparse
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--source", action="append", default=[], metavar="NAME", help="fetch only this source; repeatable")
parser.add_argument("--all", action="store_true", help="take every step again, stale or not")
parser.add_argument("--refresh", action="store_true", help="ask the origins again, whatever was recorded of them")
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main() -> int:
    options = parser.parse_args()
    arguments = ["regenerate", str(TASK)]
    for name in options.source:
        arguments += ["--source", name]
    arguments += [f"--{name}" for name in ("all", "refresh", "json") if getattr(options, name)]
    return frame.run(cli, arguments)


if __name__ == "__main__":
    sys.exit(main())
