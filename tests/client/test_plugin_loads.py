"""What a real client makes of the plugin: no errors, exactly these parts, within the cost."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.client

SKILLS = {"finetune-llm", "llm-coach", "llm-knowledge", "task-manager", "data-pipeline"}
COMMANDS = {
    "coach", "tasks", "new-task", "data-source", "generate", "train", "evaluate", "compare", "report", "plan", "deploy",
}  # fmt: skip
AGENTS = {"goal-clarifier", "data-source-advisor", "problem-diagnoser", "result-analyzer"}


def _ours(names: list[str]) -> set[str]:
    return {name.partition(":")[2] for name in names if name.startswith("nlp-skills:")}


def test_the_client_loads_exactly_these_parts_without_an_error(session: Callable[..., object]) -> None:
    seen = session()
    assert seen.init.get("plugin_errors", []) == []
    assert [plugin["name"] for plugin in seen.init["plugins"]] == ["nlp-skills"]
    assert _ours(seen.init["slash_commands"]) == SKILLS | COMMANDS
    assert _ours(seen.init["agents"]) == AGENTS


def test_the_model_is_offered_skills_and_agents_but_not_the_commands(session: Callable[..., object]) -> None:
    seen = session()
    offered = seen.heard(0) + str(seen.requests[0]["tools"])
    for name in SKILLS | AGENTS:
        assert f"nlp-skills:{name}" in offered
    for name in COMMANDS:
        assert not re.search(rf"nlp-skills:{name}(?![\w-])", offered)


@pytest.mark.parametrize("manifest", ["plugin.json", "marketplace.json"])
def test_a_manifest_passes_strictly(manifest: str, claude: Path, environment: dict[str, str]) -> None:
    command = [claude, "plugin", "validate", "--strict", ROOT / ".claude-plugin" / manifest]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_being_installed_costs_a_session_at_most_700_tokens(claude: Path, environment: dict[str, str]) -> None:
    command = [claude, "--plugin-dir", ROOT, "plugin", "details", "nlp-skills"]
    # With a key the client has a server count, and the scripted one counts 1; without, it projects by itself.
    alone = {name: value for name, value in environment.items() if not name.startswith("ANTHROPIC_")}
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True)
    cost = re.search(r"Always-on:\s+~([\d,]+) tok", done.stdout)
    assert cost is not None, done.stdout
    print(f"always-on: {cost[1]} tokens, as the client projects it")
    assert 100 < int(cost[1].replace(",", "")) <= 700
