"""What vLLM is given. vLLM itself wants a GPU and is not part of the tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import LABELS

from nlp_skills import extras
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation.answering import vllm
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling
from nlp_skills.workspace.folder import TaskFolder

LABEL = {"type": "string", "enum": list(LABELS)}


@pytest.mark.skipif(extras.installed("vllm"), reason="vLLM is installed")
def test_without_vllm_it_says_how_to_get_it(make_task: Callable[..., Path]) -> None:
    with pytest.raises(Unavailable, match="vLLM is not installed") as caught:
        vllm.open(TaskFolder.at(make_task()))
    assert "pip install vllm" in str(caught.value.mend)


def adapter(path: Path, **settings: Any) -> Path:
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(settings))
    return path


def test_an_adapter_gets_room_for_its_rank(tmp_path: Path) -> None:
    whole = vllm.engine_arguments("bfloat16", tmp_path / "base", None)
    assert (whole["model"], whole["dtype"]) == (str(tmp_path / "base"), "bfloat16")
    assert "enable_lora" not in whole
    assert "trust_remote_code" not in whole
    small = vllm.engine_arguments("float16", tmp_path / "base", adapter(tmp_path / "small", r=8))
    assert (small["enable_lora"], small["max_lora_rank"]) == (True, 8)
    assert vllm.lora_rank(adapter(tmp_path / "odd", r=24, rank_pattern={"q_proj": 40})) == 64
    with pytest.raises(Invalid, match="rank 1024"):
        vllm.lora_rank(adapter(tmp_path / "huge", r=1024))


def test_answers_are_constrained_as_the_task_says() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=40, seed=3)
    bare = OutputFormat.model_validate({"type": "text", "schema": {"label": LABEL}})
    found = vllm.sampling_arguments(sampling, bare)
    assert found["structured_outputs"] == {"choice": list(LABELS)}
    assert (found["temperature"], found["top_p"], found["max_tokens"], found["seed"]) == (0.5, 0.9, 40, 3)
    record = OutputFormat.model_validate({"schema": {"label": LABEL, "count": {"type": "integer"}}})
    form = vllm.constraint(record)
    assert form is not None
    assert form["json"]["required"] == ["label", "count"]
    assert form["json"]["additionalProperties"] is False
    number = OutputFormat.model_validate({"type": "text", "schema": {"count": {"type": "integer"}}})
    assert vllm.constraint(number) == {"json": {"type": "integer"}}
    free = OutputFormat.model_validate({"type": "text", "schema": {"summary": {"type": "string"}}})
    assert "structured_outputs" not in vllm.sampling_arguments(sampling, free)
    assert "structured_outputs" not in vllm.sampling_arguments(sampling, None)


def test_an_answers_likelihood_is_that_of_its_own_tokens() -> None:
    def told(**logs: float) -> dict[int, Any]:
        return {int(name.removeprefix("t")): SimpleNamespace(logprob=log) for name, log in logs.items()}

    # As vLLM tells it: nothing of the first token, then each token's own and the likeliest one.
    ids = [7, 8, 5, 6]
    prompt = [None, told(t8=-3.0, t9=-0.1), told(t5=-0.5), told(t6=-0.25, t1=-0.2)]
    assert vllm.tail_log(prompt, ids, 2) == pytest.approx(-0.75)
    assert vllm.tail_log(prompt, ids, 3) == pytest.approx(-3.75)
