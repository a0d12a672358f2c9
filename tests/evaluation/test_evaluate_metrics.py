"""Our metrics as modules of the `evaluate` library: loaded by path, offline, with the figures of the libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu
from sklearn.metrics import f1_score

from nlp_skills import errors, metrics

SCRIPT = """
import json, sys
import evaluate
from nlp_skills import metrics

found = {}
for name, given in json.load(sys.stdin).items():
    found[name] = evaluate.load(metrics.path(name)).compute(**given)
print(json.dumps(found))
"""


def test_every_metric_loads_without_a_network_and_computes_as_its_library(tmp_path: Path) -> None:
    labels = {"predictions": ["a", "b", "a", "c"], "references": ["a", "b", "b", "c"]}
    right, said = ["今天天氣很好", "我們走吧"], ["今天天氣好", "我們走"]
    ann = json.dumps({"entities": [{"text": "Ann", "type": "PER"}]})
    asked = {
        "classification": {**labels, "intervals": True},
        "multi_label": {"predictions": [["a"], []], "references": [["a"], ["a", "b"]], "labels": ["a", "b"]},
        "texts": {"predictions": said, "references": right, "language": "zh"},
        "entities": {"predictions": [ann, "no JSON"], "references": [ann, ann], "texts": ["Ann left", "Ann came"]},
        "fields": {"predictions": ['{"age": 3}', "[]"], "references": ['{"age": 3}', '{"age": 4}']},
    }
    # An address that nothing answers on: whoever asks the hub for a metric fails here.
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=os.environ | nowhere,
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert set(found) == set(metrics.NAMES)
    macro = f1_score(labels["references"], labels["predictions"], average="macro")
    assert found["classification"]["macro_f1"] == pytest.approx(macro, abs=1e-9)
    low, high = found["classification"]["intervals"]["accuracy"]
    assert low < 0.75 < high
    assert found["multi_label"]["micro_f1"] == pytest.approx(1 / 2)
    bleu = sacrebleu.corpus_bleu(said, [right], tokenize="zh").score / 100
    assert found["texts"]["bleu"] == pytest.approx(bleu, abs=1e-9)
    assert (found["entities"]["entity_recall"], found["entities"]["parse_rate"]) == (1 / 2, 1 / 2)
    assert found["fields"]["field_f1"] == pytest.approx(2 / 3)


def test_a_metric_we_do_not_have_is_named_with_those_we_have() -> None:
    with pytest.raises(errors.Usage, match="there is no metric bleu") as refused:
        metrics.path("bleu")
    assert "texts" in str(refused.value.mend)
