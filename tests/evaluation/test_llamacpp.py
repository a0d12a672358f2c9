"""A GGUF file asked through llama.cpp: the same answers and likelihoods as transformers gives on the same weights."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from conftest import LABELS, reviews
from gguf_files import as_gguf

from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation.answering import llamacpp
from nlp_skills.evaluation.answering.llamacpp import LlamaCpp
from nlp_skills.evaluation.answering.scorer import Question
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling

LABEL = {"type": "string", "enum": list(LABELS)}
BARE = OutputFormat.model_validate({"type": "text", "schema": {"label": LABEL}})
RECORD = OutputFormat.model_validate({"schema": {"label": LABEL, "urgent": {"type": "boolean"}}})


@pytest.fixture(scope="module")
def tuned_gguf(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_gguf(tuned_base, tmp_path_factory.mktemp("gguf") / "tuned.gguf")


@pytest.fixture(scope="module")
def scorer(tuned_gguf: Path) -> Iterator[LlamaCpp]:
    opened = llamacpp.open(tuned_gguf, parallel=2, context=256, threads=1)
    yield opened
    opened.close()


def asked(count: int = 6) -> list[Question]:
    rows = reviews(count, start=400)
    return [
        Question(number, [{"role": "user", "content": tiny.QUESTION.format(text=row["text"])}])
        for number, row in enumerate(rows)
    ]


def by_transformers(model: Path, question: Question, answer: str) -> float:
    """The plain loop: the answer's and the turn's end's log-probability, one row and answer at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    prompt = tokenizer.apply_chat_template(question.messages, add_generation_prompt=True, return_dict=False)
    tail = tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logs = network(torch.tensor([prompt + tail])).logits.log_softmax(-1)[0]
    return sum(float(logs[len(prompt) - 1 + place, token]) for place, token in enumerate(tail))


def test_likelihoods_are_those_of_transformers(scorer: LlamaCpp, tuned_base: Path) -> None:
    questions = asked(3)
    found = sorted(scorer.likelihood(questions, LABELS), key=lambda likely: likely.row)
    assert [likely.row for likely in found] == [0, 1, 2]
    for likely, question in zip(found, questions, strict=True):
        plain = [by_transformers(tuned_base, question, label) for label in LABELS]
        assert likely.logs == pytest.approx(plain, abs=0.02)
        assert sum(math.exp(log) for log in likely.logs) <= 1.0001
        assert likely.seconds > 0
    assert len({likely.prompt_sha256 for likely in found}) == 3


def test_answers_are_those_of_the_likeliest_labels(scorer: LlamaCpp) -> None:
    questions, sampling = asked(), Sampling(max_new_tokens=12)
    likeliest = {
        likely.row: LABELS[likely.logs.index(max(likely.logs))] for likely in scorer.likelihood(questions, LABELS)
    }
    free = {said.row: said for said in scorer.generate(questions, sampling, None)}
    assert {row: said.text for row, said in free.items()} == likeliest
    assert [likeliest[row] for row in range(6)] == [row["label"] for row in reviews(6, start=400)]
    assert not any(said.cut for said in free.values())
    # The same prompt, and the probability of the same text, whichever way it is asked.
    for likely in scorer.likelihood(questions, LABELS):
        assert free[likely.row].prompt_sha256 == likely.prompt_sha256
        assert free[likely.row].probability == pytest.approx(math.exp(max(likely.logs)), abs=0.01)


def test_a_schema_is_kept_to_and_a_limit_is_told(scorer: LlamaCpp) -> None:
    questions, sampling = asked(2), Sampling(max_new_tokens=60)
    # What the model was taught to say needs no schema; what it was not is the schema's doing.
    for said in scorer.generate(questions, sampling, BARE):
        assert said.text in LABELS
        assert said.bent is False
    for said in scorer.generate(questions, sampling, RECORD):
        assert said.bent is True
        answer = json.loads(said.text)
        assert answer["label"] in LABELS
        # White space as in training: free, this model would go on with line breaks until it is cut.
        assert said.text == json.dumps({"label": answer["label"], "urgent": answer["urgent"]})
    cut = list(scorer.generate(questions, Sampling(max_new_tokens=1), RECORD))
    assert all(said.cut for said in cut)


def test_a_row_that_is_too_long_is_named_and_the_others_are_kept(scorer: LlamaCpp) -> None:
    long = Question(6, [{"role": "user", "content": "long " * 400}])
    kept: list[int] = []
    with pytest.raises(Invalid, match="refuses a row") as caught:
        kept.extend(said.row for said in scorer.generate([*asked(2), long], Sampling(max_new_tokens=4), None))
    assert sorted(kept) == [0, 1]
    assert "row 7" in str(caught.value.cause)
    assert "context" in str(caught.value.cause)


def test_bad_files_are_named(tmp_path: Path, tuned_gguf: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read") as caught:
        llamacpp.open(tmp_path / "missing.gguf")
    assert str(caught.value.file).endswith("missing.gguf")
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    with pytest.raises(Invalid, match="not a GGUF file"):
        llamacpp.open(tmp_path / "page.gguf")
    (tmp_path / "half.gguf").write_bytes(tuned_gguf.read_bytes()[:200_000])
    with pytest.raises(Invalid, match="cannot load") as caught:
        llamacpp.open(tmp_path / "half.gguf")
    assert caught.value.cause


def test_the_server_is_gone_with_its_scorer(tuned_gguf: Path) -> None:
    opened = llamacpp.open(tuned_gguf, parallel=1, context=256, threads=1)
    opened.close()
    assert opened.server.process.poll() is not None
    dying = llamacpp.open(tuned_gguf, parallel=1, context=256, threads=1)
    dying.server.process.kill()
    dying.server.process.wait()
    with pytest.raises(Unavailable, match="stopped"):
        list(dying.generate(asked(1), Sampling(max_new_tokens=2), None))
    dying.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_server_is_gone_with_our_process(tuned_gguf: Path, how: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from nlp_skills.evaluation.answering import llamacpp;"
        f"s = llamacpp.open(Path({str(tuned_gguf)!r}), parallel=1, context=256, threads=1);"
        "print(s.server.process.pid, flush=True); time.sleep(60)"
    )
    ours = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pid = int(ours.stdout.readline())
    ours.send_signal(how)
    ours.wait(20)
    assert _ends(pid)


def _ends(pid: int) -> bool:
    for _try in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False
