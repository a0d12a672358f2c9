"""The unit that runs a gateway elsewhere is one that systemd takes, whatever the task is called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nlp_skills.deployment.serving import emit
from nlp_skills.errors import Invalid


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("name", ["reviews", "größe 100% $HOME", 'a"b\\c'])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    unit = emit.write(tmp_path / "out", emit.systemd(tmp_path / name, Path("/bin/true"), "root"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=30)
    assert emit.UNIT not in done.stderr + done.stdout
    assert done.returncode == 0, done.stderr


def test_a_name_that_would_write_settings_of_its_own_is_refused() -> None:
    with pytest.raises(Invalid):
        emit.systemd(Path("/srv/a\nExecStartPre=/bin/false"), Path("/bin/true"), "root")
