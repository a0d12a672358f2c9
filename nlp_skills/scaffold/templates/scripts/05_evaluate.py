"""Step 5 of 6: measure a trained version on the test rows, beside its baselines.

    uv run python scripts/05_evaluate.py
    uv run python scripts/05_evaluate.py --version v2 --baselines all

Reads   data/test.jsonl, versions/vN/model_info.json and the model it names
Writes  versions/vN/predictions.jsonl, results.json and lineage.yaml

In Python: nlp_skills.evaluation.evaluate.evaluate(TaskFolder.at(TASK)).
"""

import argparse
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--version", metavar="V", help="a version other than the current one")
parser.add_argument("--again", action="store_true", help="ask the model again although nothing changed")
parser.add_argument("--no-base-baseline", action="store_true", help="do not measure the untrained base model beside it")
parser.add_argument("--baselines", metavar="NAMES", help="what to measure beside it: all, none, or names with commas")
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main() -> int:
    options = parser.parse_args()
    arguments = ["evaluate", str(TASK)]
    if options.version:
        arguments += ["--version", options.version]
    if options.again:
        arguments.append("--again")
    if options.no_base_baseline:
        arguments.append("--no-base-baseline")
    if options.baselines:
        arguments += ["--baselines", options.baselines]
    if options.json:
        arguments.append("--json")
    return frame.run(cli, arguments)


if __name__ == "__main__":
    sys.exit(main())
