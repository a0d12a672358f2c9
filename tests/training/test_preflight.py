"""Every mistake that would train well and work badly is planted once, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, reviews, write_rows

from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.schema import yaml
from nlp_skills.training import base_model, preflight
from nlp_skills.training.encode import Encoded, encode, keeps_loss
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]


def with_template(base: Path, to: Path, change: Callable[[str], str]) -> Path:
    """A copy of a model whose chat template is changed."""
    shutil.copytree(base, to)
    template = to / "chat_template.jinja"
    changed = change(template.read_text())
    assert changed != template.read_text()
    template.write_text(changed)
    return to


def codes(folder: TaskFolder) -> set[str]:
    checked = preflight.check(folder)
    assert not checked.ok
    return {finding.code for finding in checked.findings if finding.severity == "error"}


def test_a_good_task_passes_and_shows_what_is_learnt(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready()
    ran = cli("preflight", folder.root)
    assert (ran.code, ran.err) == (0, "")
    first = json.loads(folder.split("train").read_text().splitlines()[0])
    assert f"<|im_start|>assistant\\n⟦{first['label']}<|im_end|>⟧" in ran.out
    assert first["text"] in ran.out.rpartition("⟦")[0]
    assert "train: rows 48" in ran.out


def test_json_has_the_same_and_counts_tokens(ready: Ready, cli: Callable[..., Ran]) -> None:
    answer = cli("preflight", ready().root, "--json").json
    assert answer["ok"] is True
    lengths = answer["lengths"]["train"]
    assert lengths["rows"] == 48
    assert 0 < lengths["loss_tokens"] < lengths["tokens"]
    assert lengths["min"] <= lengths["median"] <= lengths["p95"] <= lengths["max"]


def test_what_is_trained_is_what_inference_renders(ready: Ready) -> None:
    folder = ready()
    tokenizer = base_model.load_tokenizer(folder.version("v1").config().base_model)
    renderer = Renderer.of(folder.task(), folder.version("v1").config())
    row = {"text": "It <broke> {label} 壞了", "label": "negative"}
    encoded = encode(tokenizer, renderer, row)
    asked = tokenizer.apply_chat_template(renderer.messages(row), add_generation_prompt=True, return_dict=False)
    assert encoded.prompt == asked
    assert tokenizer.decode(encoded.completion) == "negative<|im_end|>"
    assert encoded.labels == [-100] * len(asked) + encoded.completion


def test_rows_over_max_length_are_refused_not_cut(ready: Ready) -> None:
    folder = ready(max_length=30)
    checked = preflight.check(folder)
    (long,) = [finding for finding in checked.findings if finding.file == str(folder.split("train"))]
    assert (long.code, long.count, long.line) == ("too_long", 48, 1)
    assert long.mend is not None and "allow_truncation" in long.mend


def test_with_consent_the_middle_of_the_prompt_goes_and_the_answer_stays(ready: Ready) -> None:
    folder = ready(max_length=30, allow_truncation=True)
    checked = preflight.check(folder)
    assert checked.ok
    assert {finding.code for finding in checked.findings} == {"cut"}
    whole = preflight.check(_same_with(folder, max_length=128)).encoded["train"]
    for cut, row in zip(checked.encoded["train"], whole, strict=True):
        assert len(cut) == 30
        assert cut.completion == row.completion
        assert cut.prompt[:5] == row.prompt[:5] and cut.prompt[-5:] == row.prompt[-5:]


def _same_with(folder: TaskFolder, **settings: Any) -> TaskFolder:
    yaml.change(folder.version("v1").config_path, {(name,): value for name, value in settings.items()})
    return folder


def test_an_answer_is_never_cut(ready: Ready) -> None:
    folder = ready(max_length=8, allow_truncation=True)
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    label = "a label that is much longer than eight tokens"
    path = (*("output_format", "schema", "label", "enum"), 3)
    yaml.change(folder.task_path, {path: label})
    write_rows(folder.split("train"), [{**rows[0], "label": label}, *rows[1:]])
    assert codes(folder) == {"answer_too_long"}


def test_a_template_that_forgets_the_end_of_turn_is_refused(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    base = with_template(
        tuned_base,
        tmp_path / "base",
        lambda t: t.replace("message['content'] + '<|im_end|>' }}", "message['content'] }}"),
    )
    assert codes(ready(base=base)) == {"no_end"}


def test_a_template_that_drops_the_answer_is_refused(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    base = with_template(
        tuned_base,
        tmp_path / "base",
        lambda t: t.replace("{{ message['content'] + '<|im_end|>' }}{% endgeneration %}", "{% endgeneration %}"),
    )
    assert codes(ready(base=base)) == {"no_loss"}


def test_a_prompt_that_changes_before_an_answer_is_refused(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    base = with_template(
        tuned_base,
        tmp_path / "base",
        lambda t: t.replace("<|im_start|>assistant\n' }}{% endif", "<|im_start|>assistant\n<think>' }}{% endif"),
    )
    checked = preflight.check(ready(base=base))
    assert {(finding.code, finding.count) for finding in checked.findings} == {
        ("not_rendered", 48),
        ("not_rendered", 12),
    }
    assert checked.problem().mend


def test_no_chat_template_is_refused(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tuned_base, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    checked = preflight.check(ready(base=base))
    assert not checked.ok
    assert "chat template" in checked.problem().message


def test_two_begin_of_text_tokens_are_refused(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    base = with_template(tuned_base, tmp_path / "base", lambda t: "<|endoftext|><|endoftext|>" + t)
    settings = base / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "bos_token": "<|endoftext|>"}))
    assert codes(ready(base=base)) == {"double_bos"}


def test_turn_marks_in_a_text_are_pointed_out(ready: Ready) -> None:
    folder = ready()
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    rows[4]["text"] += " <|im_end|>"
    write_rows(folder.split("train"), rows)
    checked = preflight.check(folder)
    assert checked.ok
    assert [(f.code, f.line, f.count) for f in checked.findings] == [("special_tokens", 5, 1)]


def test_a_collator_that_masks_padding_by_its_id_is_caught(ready: Ready) -> None:
    from transformers import DataCollatorForLanguageModeling as MasksPadding
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as KeepsLabels

    tokenizer = base_model.load_tokenizer(ready().version("v1").config().base_model)
    tokenizer.pad_token = tokenizer.eos_token
    end = tokenizer.eos_token_id
    rows = [Encoded(1, [5, 6, 7], [8, end]), Encoded(2, [5], [8, 9, end])]
    masks = MasksPadding(tokenizer, mlm=False)
    assert not keeps_loss(lambda batch: masks([{"input_ids": row["input_ids"]} for row in batch]), rows)
    assert keeps_loss(KeepsLabels(pad_token_id=end), rows)


def test_labels_outside_the_schema_are_refused(ready: Ready) -> None:
    folder = ready()
    with open(folder.split("train"), "a", encoding="utf-8") as stream:
        stream.write('{"text": "so so", "label": "meh"}\n')
    checked = preflight.check(folder)
    assert checked.problem().line == 49
    assert codes(folder) == {"unknown_label"}


def test_test_rows_in_train_are_refused(ready: Ready) -> None:
    folder = ready()
    stolen = folder.split("test").read_text().splitlines()[0]
    with open(folder.split("train"), "a", encoding="utf-8") as stream:
        stream.write(stolen + "\n")
    checked = preflight.check(folder)
    assert not checked.ok


def test_a_refusal_exits_with_1_and_names_file_line_and_mend(ready: Ready, cli: Callable[..., Ran]) -> None:
    ran = cli("preflight", ready(max_length=30).root)
    assert ran.code == 1
    assert "data/train.jsonl:1: rows longer than max_length 30: 48" in ran.err
    assert "mend:" in ran.err


def test_no_configuration_names_the_command_that_makes_it(make_task: Callable[..., Path]) -> None:
    with pytest.raises(Invalid) as refused:
        preflight.check(TaskFolder.at(make_task()))
    assert refused.value.mend == "make it with: nlp-skills generate sentiment"


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("task.yaml", {("execution",): {"type": "remote_ssh", "host": "gpu"}}, "trained on gpu, not here"),
    ],
)
def test_what_this_machine_is_not_to_do_is_said(ready: Ready, file: str, change: Any, word: str) -> None:
    folder = ready()
    yaml.change(folder.root / file, change)
    with pytest.raises(Unavailable, match=word) as refused:
        preflight.check(folder)
    assert refused.value.mend
    assert refused.value.file == str(folder.root / file)


def test_lines_that_are_blank_do_not_shift_the_others(ready: Ready) -> None:
    folder = ready(max_length=60)
    rows = reviews(3)
    rows[2]["text"] += " indeed" * 40
    lines = [json.dumps(row) for row in rows]
    folder.split("train").write_text("\n\n".join(lines) + "\n")
    (long,) = [finding for finding in preflight.check(folder).findings if finding.code == "too_long"]
    assert long.line == 5
