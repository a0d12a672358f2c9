"""What a missing extra answers with is a command that works, typed as it stands."""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import DATA_SOURCE_YAML, TASK_YAML


def test_the_command_that_is_named_installs_what_was_missing(
    plugin: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    core = tmp_path / "core environment"
    uv = environ["UV"]
    where = {**environ, "PATH": f"{Path(uv).parent}:{environ['PATH']}"}
    for command in (["venv", "-q", str(core)], ["pip", "install", "-q", "--python", str(core), str(plugin)]):
        subprocess.run([uv, *command], env=where, check=True)
    task = tmp_path / "task"
    task.mkdir()
    (task / "task.yaml").write_text(TASK_YAML.format(name="task", base_model="none/none"))
    query = "type: database, name: s, connection: 'sqlite:///x.db', query: 'SELECT 1'"
    (task / "data_source.yaml").write_text(DATA_SOURCE_YAML.split("sources:")[0] + f"sources: [{{{query}}}]\n")
    (task / "x.db").touch()

    def regenerate() -> subprocess.CompletedProcess[str]:
        program = [core / "bin" / "nlp-skills", "regenerate", task]
        return subprocess.run(program, env=where, capture_output=True, text=True, check=False)

    refused = regenerate()
    assert refused.returncode == 3, refused.stderr
    assert "this needs the extra data" in refused.stderr
    mend = next(line.split("mend: ", 1)[1] for line in refused.stderr.splitlines() if "mend: " in line)
    assert subprocess.run(["sh", "-c", mend], env=where, check=False).returncode == 0, mend
    assert "this needs the extra" not in regenerate().stderr
