"""Step 2 of 6: check the documents and every row, and whether the test set leaks into training.

    uv run python scripts/02_validate_data.py

Reads   task.yaml, data_source.yaml, data/*.jsonl
Exits   with 1 when something is wrong, and says file, line and mend

In Python: nlp_skills.data.validate.validate(TaskFolder.at(TASK)).
"""

import argparse
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--documents", action="store_true", help="check only task.yaml and data_source.yaml")
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main() -> int:
    options = parser.parse_args()
    arguments = ["validate", str(TASK)]
    if options.documents:
        arguments.append("--documents")
    if options.json:
        arguments.append("--json")
    return frame.run(cli, arguments)


if __name__ == "__main__":
    sys.exit(main())
