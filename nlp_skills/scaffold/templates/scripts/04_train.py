"""Step 4 of 6: train the task's current version. Ctrl-C keeps a checkpoint; run it again to go on.

    uv run python scripts/04_train.py
    uv run python scripts/04_train.py --version v2
    uv run python scripts/04_train.py --detach      # outlives this terminal; then: nlp-skills status --watch

Reads   data/train.jsonl, data/valid.jsonl, versions/vN/config.yaml
Writes  models/adapter/vN (models/merged/vN when every weight is trained), versions/vN/run/,
        versions/vN/model_info.json, data_snapshot.json and lineage.yaml

In Python: nlp_skills.training.train.train(TaskFolder.at(TASK)).
"""

import argparse
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--version", metavar="V", help="a version other than the current one")
parser.add_argument("--again", action="store_true", help="train again although nothing changed")
parser.add_argument("--detach", action="store_true", help="let it run on its own, also when this terminal closes")
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main() -> int:
    options = parser.parse_args()
    arguments = ["train", str(TASK)]
    if options.version:
        arguments += ["--version", options.version]
    if options.again:
        arguments.append("--again")
    if options.detach:
        arguments.append("--detach")
    if options.json:
        arguments.append("--json")
    return frame.run(cli, arguments)


if __name__ == "__main__":
    sys.exit(main())
