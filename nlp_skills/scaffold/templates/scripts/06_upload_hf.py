"""Step 6 of 6: what would go to the Hugging Face Hub for a version.

    uv run python scripts/06_upload_hf.py
    uv run python scripts/06_upload_hf.py --version v2

Reads   versions/vN/model_info.json

It only lists the files: uploading comes with a later version of nlp-skills. Until then the listed
folder can be uploaded with `hf upload REPO FOLDER`.
"""

import argparse
import json
import sys
from pathlib import Path

from nlp_skills.cli import frame
from nlp_skills.errors import Invalid, Problem
from nlp_skills.workspace.folder import TaskFolder

TASK = Path(__file__).resolve().parent.parent  # works from any working directory

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--version", metavar="V", help="a version other than the current one")
parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def files_of(name: str | None) -> list[Path]:
    """The version's model and its records, relative to the task folder."""
    version = TaskFolder.at(TASK).existing_version(name)
    info = version.model_info()
    if info is None:
        raise Invalid(
            "this version has no model yet", file=version.model_info_path, mend="run scripts/04_train.py first"
        )
    model = TASK / (info.merged_path or info.adapter_path or "")
    records = [version.model_info_path, version.config_path, version.results_path, version.lineage_path]
    found = [path for path in [*sorted(model.rglob("*")), *records] if path.is_file()]
    return [path.relative_to(TASK) for path in found]


def main() -> int:
    options = parser.parse_args()
    try:
        paths = files_of(options.version)
    except Problem as problem:
        if options.json:
            frame.emit({"ok": False, "error": problem.as_dict(), "exit_code": problem.exit_code})
        else:
            frame.show_problem(problem)
        return problem.exit_code
    if options.json:
        files = [{"path": str(path), "bytes": (TASK / path).stat().st_size} for path in paths]
        print(
            json.dumps({"ok": False, "uploaded": False, "files": files, "exit_code": 3}, ensure_ascii=False, indent=2)
        )
    else:
        for path in paths:
            print(f"{(TASK / path).stat().st_size / 1e6:10.2f} MB  {path}")
        print("nothing was uploaded: uploading comes with a later version of nlp-skills", file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main())
