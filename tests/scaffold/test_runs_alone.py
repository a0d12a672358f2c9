"""A task folder copied elsewhere does all its steps with uv, its own files and nothing else."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from nlp_skills.schema import yaml


@pytest.fixture
def copied(
    make_task: Callable[..., Path], cli: Callable[..., Ran], tuned_base: Path, tmp_path: Path, project: Path
) -> Path:
    """A generated task whose base model lies in the folder itself, moved away from where it was made."""
    made = make_task(base_model="models/base")
    yaml.change(made / "task.yaml", {("training", "epochs"): 1})
    assert cli("generate", "sentiment").code == 0
    elsewhere = tmp_path / "another machine 別處" / "sentiment"
    shutil.copytree(made, elsewhere)
    shutil.rmtree(project / "sentiment")
    shutil.copytree(tuned_base, elsewhere / "models" / "base")
    return elsewhere


@pytest.fixture
def script(copied: Path, environ: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """`uv run python scripts/…`, typed in the task folder by a user with an empty home."""

    def run(name: str, *arguments: str, cwd: Path = copied) -> Ran:
        command = [environ["UV"], "run", "-q", "--project", str(copied), "python", str(copied / "scripts" / name)]
        variables = {**environ, "NLP_SKILLS_DETERMINISTIC": "1"}
        done = subprocess.run(
            [*command, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def test_every_step_of_a_copied_folder(script: Callable[..., Ran], copied: Path, tmp_path: Path) -> None:
    for path in sorted((copied / "scripts").iterdir()):
        shown = script(path.name, "--help")
        assert shown.code == 0, shown.err
        assert f"scripts/{path.name}" in shown.out, "the docstring has the exact command"

    early = script("06_upload_hf.py")
    assert early.code == 1 and "no trained model yet" in early.err
    assert script("02_validate_data.py").code == 1, "there is no data yet"

    made = script("01_regenerate_data.py", cwd=tmp_path)
    assert made.code == 0, made.err
    checked = script("02_validate_data.py", "--json")
    assert checked.code == 0, checked.out
    assert checked.json["splits"]["train"]["rows"] > 0
    assert script("03_convert_format.py").code == 0
    assert (copied / "data" / "converted" / "train.jsonl").is_file()

    trained = script("04_train.py")
    assert trained.code == 0, trained.err
    scored = script("05_evaluate.py", "--no-base-baseline", "--json")
    assert scored.code in (0, 1), scored.err
    assert json.loads((copied / "versions" / "v1" / "results.json").read_text())["test_rows"] > 0

    listed = script("06_upload_hf.py", "--dry-run", "--json")
    assert listed.code == 0, listed.err
    paths = {entry["path"] for entry in listed.json["would_send"]["files"]}
    assert {"README.md", "model_info.json", "adapter_model.safetensors"} <= paths
    unsent = script("06_upload_hf.py", "--force")
    assert unsent.code == 3 and "HF_HUB_OFFLINE" in unsent.err

    python = copied / ".venv" / "bin" / "python"
    used = subprocess.run(
        [str(python), "-c", "import nlp_skills; print(nlp_skills.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=True,
    )
    assert used.stdout.startswith(str(copied)), "the folder's own nlp-skills ran"
