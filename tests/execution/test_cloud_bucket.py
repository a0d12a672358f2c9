"""What outlives a machine: bundles that are whole or of no use, and hours and money that go on being counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_cloud import on_cloud, wanted

from nlp_skills import files
from nlp_skills.execution.cloud import node
from nlp_skills.execution.cloud.bucket import Bucket
from nlp_skills.execution.cloud.budget import Budget
from nlp_skills.execution.cloud.node import Node
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder

Machine = Callable[..., Bucket]


@pytest.fixture
def machine(make_task: Callable[..., Path], tmp_path: Path) -> Machine:
    """A machine of a training, its disk as it was when it was rented, and the bucket of the task."""
    task = make_task()

    def rent(number: int = 0, nodes: int = 1) -> Bucket:
        root = tmp_path / "machines" / str(len(list((tmp_path / "machines").glob("*"))))
        shutil.copytree(task, root)
        folder = TaskFolder.at(root)
        return Bucket(tmp_path / "bucket", folder, folder.version("v1"), number, nodes)

    return rent


def checkpoint(on: Bucket, step: int, rank: int = 0) -> Path:
    """A checkpoint as a trainer leaves it, and the records at that time."""
    path = on.version.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "optimizer.pt").write_text(f"optimizer {step}")
    (path / f"rng_state_{rank}.pth").write_text(f"chance {rank} {step}")
    on.version.run.mkdir(parents=True, exist_ok=True)
    on.version.metrics_path.write_text("".join(f'{{"step": {n}}}\n' for n in range(1, step + 1)))
    files.write_json(path / runs.COMPLETE, {"step": step})
    return path


def test_a_new_machine_goes_on_from_the_newest_checkpoint_that_is_whole(machine: Machine) -> None:
    first = machine()
    for step in (5, 10, 15, 20):
        checkpoint(first, step)
        assert first.keep_checkpoint() is not None and first.keep_checkpoint() is None, "once is enough"
    assert sorted(path.name for path in first.place.iterdir()) == ["checkpoint-15", "checkpoint-20"]
    # The machine was lost while it copied.
    next((first.place / "checkpoint-20").rglob("optimizer.pt")).write_text("opti")

    second = machine()
    assert second.restore() == "checkpoint-15"
    there = second.version.checkpoints / "checkpoint-15"
    assert runs.last_checkpoint(second.version.checkpoints) == there
    assert (there / "optimizer.pt").read_text() == "optimizer 15"
    assert [line["step"] for line in runs.metrics(second.version)][-1] == 15, "with its records"
    checkpoint(second, 25)
    assert second.restore() is None, "what is here is further"


def test_every_machine_adds_what_only_it_has(machine: Machine) -> None:
    one, two = machine(0, 2), machine(1, 2)
    checkpoint(one, 5, rank=0)
    checkpoint(two, 5, rank=1)
    one.keep_checkpoint()
    assert machine(0, 2).restore() is None, "half of it is of no use"
    two.keep_checkpoint()
    for number in (0, 1):
        fresh = machine(number, 2)
        assert fresh.restore() == "checkpoint-5"
        found = fresh.version.checkpoints / "checkpoint-5"
        assert {path.name for path in found.glob("rng*")} == {"rng_state_0.pth", "rng_state_1.pth"}


def test_results_that_nobody_fetched_in_time_are_still_to_be_had(machine: Machine) -> None:
    first = machine()
    checkpoint(first, 5)
    first.keep_checkpoint()
    files.write_text(first.version.adapter / "adapter_model.safetensors", "weights")
    files.write_text(first.version.model_info_path, "{}")
    first.keep_results()
    assert [path.name for path in first.place.iterdir()] == ["results"], "checkpoints are of no use any more"
    second = machine()
    assert second.restore() == "results"
    assert (second.version.adapter / "adapter_model.safetensors").read_text() == "weights"


def test_a_list_that_leads_out_of_the_task_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    first = machine()
    checkpoint(first, 5)
    first.keep_checkpoint()
    listed = first.place / "checkpoint-5" / "whole-0.json"
    content = json.loads(listed.read_text())
    (first.place / "out").write_text("x")
    content["files"]["../out"] = files.sha256_file(first.place / "out")
    listed.write_text(json.dumps(content))
    second = machine()
    with pytest.raises(Exception, match="leaves the task folder"):
        second.restore()
    assert not (second.folder.root.parent / "out").exists()


def test_beginning_anew_holds_for_a_job_and_not_for_each_of_its_machines(machine: Machine) -> None:
    first = machine()
    on_cloud(first.folder)
    files.write_text(first.version.config_path, "base_model: none/none\n")
    given = {"NLP_SKILLS_VERSION": "v1", "NLP_SKILLS_ARGUMENTS": '["--again"]'}

    def begun(job: str) -> list[str]:
        return node._begun(Node.read(first.folder, {**given, "NLP_SKILLS_JOB": job}), first)

    checkpoint(first, 5)
    first.keep_checkpoint()
    assert begun("one") == ["--again"] and not list(first.place.glob("checkpoint-*"))
    checkpoint(first, 10)
    first.keep_checkpoint()
    assert begun("one") == [] and list(first.place.glob("checkpoint-*")), "a lost machine is no reason to begin anew"
    assert begun("two") == ["--again"]


def test_hours_and_money_are_counted_over_machines(tmp_path: Path) -> None:
    place = tmp_path / "budget.json"
    place.write_text('{"hours": 5.9, "usd": 11.9}')
    limits = wanted(max_hours=6, budget_usd=12)
    first = Budget.of(limits, place, 2.0)
    assert first.used_up() is None
    first._since -= 0.06 * 3600
    first.count()
    assert first.used_up() == "budget_usd: 12.00 USD are used up"
    second = Budget.of(limits, place, None)
    assert second.used_up() is None, "without a price nobody can say so"
    second._since -= 0.06 * 3600
    second.count()
    assert second.used_up() == "max_hours: 6 h are used up"
