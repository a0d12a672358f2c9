"""The wheel that a task folder carries."""

import subprocess
import sys
import zipfile
from pathlib import Path

from nlp_skills import __version__
from nlp_skills.scaffold import project, wheel


def test_the_same_code_gives_the_same_bytes_in_another_process() -> None:
    here = wheel.build()
    probe = "from nlp_skills.scaffold import wheel; print(wheel.build().name)"
    there = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.strip()
    assert here.name == there


def test_it_holds_the_code_the_templates_and_a_record_of_each() -> None:
    import io

    archive = zipfile.ZipFile(io.BytesIO(wheel.build().content))
    names = archive.namelist()
    info = f"nlp_skills-{__version__}.dist-info"
    assert "nlp_skills/cli/main.py" in names
    assert "nlp_skills/scaffold/templates/scripts/04_train.py" in names
    assert not [name for name in names if "__pycache__" in name]
    recorded = [line.split(",")[0] for line in archive.read(f"{info}/RECORD").decode().splitlines()]
    assert sorted(recorded) == sorted(names)
    assert b"nlp_skills.cli.main:main" in archive.read(f"{info}/entry_points.txt")


def test_pip_takes_it(tmp_path: Path) -> None:
    made = wheel.build()
    (tmp_path / made.name).write_bytes(made.content)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(tmp_path / made.name)], check=True)
    ran = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(target)!r}); import nlp_skills as n; print(n.__file__)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(str(target))


def test_names_that_packaging_tools_would_refuse() -> None:
    assert project.project_name("Entity_Sentiment.v2") == "task-entity-sentiment-v2"
    assert project.project_name("情感分析") == "task"


def test_pins_cover_what_the_extras_pull_in_and_nothing_else() -> None:
    names = {pin.partition("==")[0] for pin in project.closure("nlp-skills", ("train",))}
    assert {"torch", "trl", "transformers", "tokenizers", "click"} <= names
    assert not {"nlp-skills", "pytest", "fabric", "sqlalchemy"} & names
    assert not [pin for pin in project.closure("nlp-skills", ("train",)) if "+" in pin]
