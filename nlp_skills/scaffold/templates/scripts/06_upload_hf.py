"""Step 6 of 6: send a version to the Hugging Face Hub, with its model card, under a tag of its own.

    uv run python scripts/06_upload_hf.py --dry-run
    uv run python scripts/06_upload_hf.py --repo OWNER/NAME
    uv run python scripts/06_upload_hf.py --version v2 --merged --gguf q8_0

Reads   versions/vN/model_info.json and the model it names, results.json, lineage.yaml
Writes  a repository on the Hub, private unless --public; versions/deployments.json and lineage.yaml

Log in before, with a token that may write: hf auth login. An upload that was cut off goes on when it is run again.
In Python: nlp_skills.deployment.deploy.deploy(TaskFolder.at(TASK), "v2", "huggingface").
"""

import argparse
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--version", metavar="V", help="a version other than the current one")
parser.add_argument("--repo", metavar="OWNER/NAME", help="where to, if not as task.yaml says (deploy.repo)")
parser.add_argument("--merged", action="store_true", help="the merged model instead of the adapter")
parser.add_argument("--gguf", metavar="Q", action="append", default=[], help="a GGUF file beside it, such as q8_0")
parser.add_argument("--public", action="store_true", help="for everyone to see")
parser.add_argument("--retag", action="store_true", help="move the version's tag where it is on other files")
parser.add_argument("--force", action="store_true", help="also a version that has not met its criteria")
parser.add_argument("--dry-run", action="store_true", help="show files and model card, send nothing")
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main() -> int:
    options = parser.parse_args()
    arguments = ["deploy", str(TASK), *([options.version] if options.version else []), "--to", "huggingface"]
    if options.repo:
        arguments += ["--repo", options.repo]
    for quantization in options.gguf:
        arguments += ["--gguf", quantization]
    for name in ("merged", "public", "retag", "force", "dry_run", "json"):
        if getattr(options, name):
            arguments.append("--" + name.replace("_", "-"))
    return frame.run(cli, arguments)


if __name__ == "__main__":
    sys.exit(main())
