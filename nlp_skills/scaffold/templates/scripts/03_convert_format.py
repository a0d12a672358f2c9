"""Step 3 of 6: write the rows as chat messages, the form in which other trainers take them.

    uv run python scripts/03_convert_format.py

Reads   data/*.jsonl, versions/vN/config.yaml
Writes  data/converted/*.jsonl with the columns prompt, completion and chat_template_kwargs

Step 4 renders the rows by itself, in the same way; this step is for looking at them or for other tools.
In Python: nlp_skills.data.convert.convert(TaskFolder.at(TASK)).
"""

import argparse
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main() -> int:
    options = parser.parse_args()
    arguments = ["convert", str(TASK)]
    if options.json:
        arguments.append("--json")
    return frame.run(cli, arguments)


if __name__ == "__main__":
    sys.exit(main())
