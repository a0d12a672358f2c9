"""One renderer: the same row gives the same tokens wherever it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.schema.task import OutputFormat

LABEL = OutputFormat.model_validate({"type": "text", "schema": {"label": {"type": "string", "enum": ["yes", "no"]}}})
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def json_format(**properties: Any) -> OutputFormat:
    return OutputFormat.model_validate({"type": "json", "schema": properties})


@pytest.fixture
def tokenizer(tiny_base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


def test_values_are_filled_in_once_and_never_read_again() -> None:
    renderer = Renderer("{entity}: {text}\n", LABEL, system_prompt="Judge.")
    row = {"entity": "{text} \\1 {0}", "text": "{entity} {{x}}", "label": "yes"}
    assert renderer.messages(row) == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": "{text} \\1 {0}: {entity} {{x}}"},
    ]


def test_braces_that_are_no_field_stay() -> None:
    assert Renderer('Like {"a": 1}: {text}', LABEL).messages({"text": "t"})[0]["content"] == 'Like {"a": 1}: t'


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Invalid, match="entity"):
        Renderer("{entity}", LABEL).messages({"text": "t"})
    with pytest.raises(Invalid, match="label"):
        Renderer("{text}", LABEL).answer({"text": "t"})


def test_a_json_answer_keeps_the_schemas_order_and_its_characters() -> None:
    renderer = Renderer("{text}", json_format(sentiment={"enum": ["正面", "負面"]}, score={"type": "number"}))
    assert renderer.answer({"score": 1.5, "sentiment": "正面", "extra": 1}) == '{"sentiment": "正面", "score": 1.5}'


def test_an_answer_is_read_back_or_refused() -> None:
    renderer = Renderer("{text}", json_format(sentiment={"enum": ["正面", "負面"]}))
    row = {"sentiment": "負面"}
    assert renderer.parse(f"\n {renderer.answer(row)} ") == row
    for wrong in ('{"sentiment": "中立"}', "負面", "[]", '{"other": 1}', "", "{"):
        assert renderer.parse(wrong) is None
    assert Renderer("{text}", LABEL).parse(" yes\n") == {"label": "yes"}
    assert Renderer("{text}", LABEL).parse("maybe") is None


def test_a_bare_number_is_read_back() -> None:
    stars = OutputFormat.model_validate({"type": "text", "schema": {"stars": {"type": "integer"}}})
    renderer = Renderer("{text}", stars)
    assert renderer.answer({"stars": 4}) == "4"
    assert renderer.parse("4") == {"stars": 4}
    assert renderer.parse("four") is None


def test_the_completion_ends_with_the_end_of_turn(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    prompt, completion = Renderer("{text}", LABEL).texts(tokenizer, {"text": "hello", "label": "yes"})
    assert prompt == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert completion == "yes<|im_end|>"


def test_another_answer_can_be_scored_in_place_of_the_rows_own(tokenizer: Any) -> None:
    renderer = Renderer("{text}", LABEL)
    row = {"text": "hello", "label": "yes"}
    prompt, completion = renderer.ids(tokenizer, row, answer="no")
    assert prompt == renderer.ids(tokenizer, row)[0]
    assert tokenizer.decode(completion).startswith("no")


def test_training_sees_the_prompt_that_inference_sends(tokenizer: Any) -> None:
    renderer = Renderer("{text}", LABEL)
    row = {"text": "hello", "label": "yes"}
    prompt, _completion = renderer.ids(tokenizer, row)
    sent = tokenizer(renderer.prompt_text(tokenizer, {"text": "hello"}), add_special_tokens=False)["input_ids"]
    assert prompt == sent


def test_template_settings_reach_the_template(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and not thinking %}<skip>{% endif %}"
        "{{ m.content }}[end]\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% if not thinking %}<skip>{% endif %}{% endif %}"
    )
    row = {"text": "t", "label": "yes"}
    assert Renderer("{text}", LABEL).texts(tokenizer, row)[0].endswith("[assistant]<skip>")
    thinking = Renderer("{text}", LABEL, chat_template_kwargs={"thinking": True})
    assert thinking.texts(tokenizer, row)[0].endswith("[assistant]")


def test_a_template_that_changes_the_prompt_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages | length }}" + CHATML
    with pytest.raises(Invalid, match="not the beginning") as caught:
        Renderer("{text}", LABEL).texts(tokenizer, {"text": "t", "label": "yes"})
    assert caught.value.mend


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(Invalid, match="no chat template"):
        Renderer("{text}", LABEL).texts(tokenizer, {"text": "t", "label": "yes"})


def test_a_template_that_refuses_a_system_message_says_so(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(Invalid) as caught:
        Renderer("{text}", LABEL, system_prompt="s").texts(tokenizer, {"text": "t", "label": "yes"})
    assert caught.value.cause == "no system role"
