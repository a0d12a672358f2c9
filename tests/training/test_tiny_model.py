"""The model under every test is the same bytes each time, and the tuned one knows its task."""

from __future__ import annotations

from pathlib import Path

import tiny
from conftest import LABELS, reviews


def test_the_tiny_model_is_built_the_same_way_twice(tiny_base: Path, tmp_path: Path) -> None:
    again = tiny.build(tmp_path / "again")
    names = sorted(path.name for path in tiny_base.iterdir())
    assert "chat_template.jinja" in names
    assert [path for path in names if (again / path).read_bytes() != (tiny_base / path).read_bytes()] == []


def test_the_tuned_model_answers_unseen_reviews(tuned_base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fast, model = AutoTokenizer.from_pretrained(tuned_base), AutoModelForCausalLM.from_pretrained(tuned_base)
    right = 0
    for row in reviews(30, start=1200):
        prompt = [{"role": "user", "content": tiny.QUESTION.format(text=row["text"])}]
        asked = fast.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt")
        with torch.no_grad():
            answer = model.generate(**asked, max_new_tokens=6, do_sample=False)
        right += fast.decode(answer[0, asked["input_ids"].shape[1] :]) == row["label"] + "<|im_end|>"
    assert right >= 27


def test_labels_are_more_than_one_token(tiny_base: Path) -> None:
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(tiny_base)
    assert {len(fast(label)["input_ids"]) for label in LABELS} == {2, 3}
