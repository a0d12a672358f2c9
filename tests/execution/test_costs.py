"""What a training has cost: by the bill, by the user's own prices, else not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nlp_skills import files
from nlp_skills.execution import costs
from nlp_skills.schema.remote_job import RemoteJob
from nlp_skills.schema.version import LineageRun
from nlp_skills.training import artefact
from nlp_skills.training.device import Device
from nlp_skills.training.estimate import gpus
from nlp_skills.training.run import Recorder
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder

GPU = "NVIDIA L4"


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task("sentiment"))


def job(**more: Any) -> RemoteJob:
    known: dict[str, Any] = {
        "id": "train-v1-1", "type": "cloud", "step": "train", "version": "v1", "place": "nlp-sentiment-v1",
        "host": "nlp-sentiment-v1", "workdir": "/w", "folder": "/w/tasks/sentiment", "state": "fetched",
        "created": files.now() - dt.timedelta(hours=2),
    }  # fmt: skip
    return RemoteJob(**{**known, **more})


def trained(folder: TaskFolder, environment: dict[str, str] | None = None, **run: Any) -> None:
    """What the other machine says of the training, as it is recorded here."""
    about = {"state": "completed", "device": GPU, **run}
    lineage.record(folder.version("v1"), run=about, environment=environment or {})


def recorded(folder: TaskFolder) -> LineageRun:
    found = folder.version("v1").lineage()
    assert found and found.run
    return found.run


def prices(text: str) -> None:
    files.write_text(gpus.own_path(), text)


def test_the_bill_of_a_cloud_and_that_of_the_job_before_it(folder: TaskFolder) -> None:
    version = folder.version("v1")
    trained(folder, gpu_hours=1.0)
    costs.record(folder, version, job(cost_usd=3.0))
    assert (recorded(folder).place, recorded(folder).cost_usd) == ("nlp-sentiment-v1", 3.0)
    later = job(cost_usd=2.5, cost_before_usd=costs.before(version))
    trained(folder, {"resumed_at": "40"}, gpu_hours=1.8)
    for _again in range(2):
        costs.record(folder, version, later)
        assert recorded(folder).cost_usd == 5.5
    trained(folder, gpu_hours=1.0)  # trained anew: what another training has cost is not its own
    costs.record(folder, version, later)
    assert recorded(folder).cost_usd == 2.5


def test_a_server_of_ones_own_has_no_price_unless_its_owner_names_one(folder: TaskFolder) -> None:
    version, ssh = folder.version("v1"), job(type="remote_ssh", place="lin@gpu-server")
    trained(folder, gpu_hours=2.0)
    costs.record(folder, version, ssh)
    assert (recorded(folder).place, recorded(folder).cost_usd) == ("lin@gpu-server", None)
    assert gpus.own_price(GPU) is None  # a price of the packaged table is nobody's bill
    prices("gpus:\n  - name: L40S\n    price: {usd_per_hour: 9, seen: 2026-01-06, source: us}\n")
    costs.record(folder, version, ssh)
    assert recorded(folder).cost_usd is None
    prices("gpus:\n  - name: L4\n    price: {usd_per_hour: 1.5, seen: 2026-01-06, source: us}\n")
    costs.record(folder, version, ssh)
    assert recorded(folder).cost_usd == 3.0


def test_a_table_that_cannot_be_read_does_not_spoil_the_end_of_a_training(folder: TaskFolder) -> None:
    prices("gpus: [7\n")
    trained(folder, gpu_hours=2.0)
    costs.record(folder, folder.version("v1"), job(type="remote_ssh", place="lin@gpu-server"))
    assert recorded(folder).place == "lin@gpu-server"


def test_hours_count_for_each_gpu_of_each_stretch(folder: TaskFolder) -> None:
    version = folder.version("v1")
    recorder = Recorder(version, "sentiment", step=40, started=None, seconds=3600.0)
    cuda = Device("cuda", GPU, "bfloat16", None, memory_bytes=80 * 10**9)
    begun = LineageRun(state="running", seconds=1800.0, gpu_hours=0.5, cost_usd=1.0)
    spent = artefact.spent(begun, cuda, recorder, processes=4)
    recorder.end("completed")
    # Half an hour that a kill left unrecorded, by the four GPUs of now.
    assert spent["gpu_hours"] == pytest.approx(0.5 + 0.5 * 4, abs=0.01)
    assert spent["cost_usd"] == 1.0
    assert artefact.spent(begun, Device("cpu", "CPU", "float32", None), recorder, processes=4) == {}
