"""The gate of exports: passed by what answers as the version did, and failed by planted faults, with what is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, write_rows

from nlp_skills import files
from nlp_skills.deployment import export, parity
from nlp_skills.deployment.export import records
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import model, predictions, subject
from nlp_skills.evaluation.answering import llamacpp
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.schema import yaml
from nlp_skills.schema.deployment import Export
from nlp_skills.workspace.folder import TaskFolder


def test_what_was_exported_well_passes_and_is_recorded(exported: TaskFolder) -> None:
    checks = {check.subject: check for check in exported.version("v2").parity()}

    assert set(checks) == {"merged", "q8_0", "q4_k_m"}
    assert {check.engine for check in checks.values()} == {"transformers", "llama.cpp"}
    for name, check in checks.items():
        assert check.verdict == "met"
        assert check.prompts is not None
        assert check.prompts.asked == check.prompts.equal_text == check.prompts.equal_ids == 32
        assert check.answers is not None
        assert check.answers.rows == 72
        assert check.answers.metric == "macro_f1"
        assert check.answers.before == pytest.approx(exported.version("v2").results().metrics["macro_f1"])  # type: ignore[union-attr]
        assert check.answers.drop == pytest.approx(check.answers.before - check.answers.after)
        known = export.current(exported, exported.version("v2"), name)
        assert known is not None
        assert check.sha256 == known.sha256
        parity.refuse(check, exported.version("v2"))
    # Merging in 32 bits changes no answer.
    assert checks["merged"].answers is not None
    assert checks["merged"].answers.changed == 0


def test_the_table_shows_every_form(
    exported: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp, "open", _never)

    ran = cli("export", "sentiment", "v2", "--merged", "--gguf", "q8_0", "--gguf", "q4_k_m")

    assert ran.code == 0, ran.err
    for name in ("merged", "q8_0", "q4_k_m"):
        (line,) = (line for line in ran.out.splitlines() if line.startswith(f"│ {name}"))
        assert "32/32, 32/32" in line
        assert "0.0 (0.0 to 0.0)" in line
        assert line.rstrip("│ ").endswith("met")


def test_another_chat_template_in_the_file_fails_and_is_shown(exported: TaskFolder, cli: Callable[..., Ran]) -> None:
    planted = _planted(exported, lambda path: _replace(path, b"'<|im_start|>assistant\n", b"'<|im_start|>assistent\n"))

    check = parity.of_export(exported, exported.version("v2"), planted)

    assert check.verdict == "not_met"
    assert check.prompts is not None
    assert (check.prompts.equal_text, check.prompts.equal_ids, check.prompts.asked) == (0, 0, 32)
    assert check.prompts.first is not None
    assert check.prompts.first.row == 1
    assert "assistant" in check.prompts.first.ours
    assert "assistent" in check.prompts.first.theirs
    assert "\n" not in check.prompts.first.theirs
    # Prompt and answer do not even fit together there, so that no answer can be asked for.
    assert check.answers is None
    with pytest.raises(Invalid, match="0 are the same in text") as raised:
        parity.refuse(check, exported.version("v2"), overrule="or: --force")
    assert "assistent" in str(raised.value.cause)
    assert str(raised.value.mend).endswith("or: --force")

    ran = cli("export", "sentiment", "v2", "--gguf", "q8_0")
    assert ran.code == 1
    assert "NOT MET" in ran.out
    assert "assistent" in ran.err
    assert cli("export", "sentiment", "v2", "--gguf", "q8_0", "--json").json["ok"] is False


def test_a_damaged_model_fails_by_what_it_lost(exported: TaskFolder) -> None:
    planted = _planted(exported, _without_norm)

    check = parity.of_export(exported, exported.version("v2"), planted)

    assert check.verdict == "not_met"
    assert check.prompts is not None
    assert check.prompts.equal_ids == check.prompts.asked
    kept = check.answers
    assert kept is not None
    # All answers are the same one: a third of them is right.
    assert kept.changed == 48
    assert kept.after < 0.2 < 0.9 < kept.before
    assert kept.drop == pytest.approx(kept.before - kept.after)
    assert kept.interval is not None
    assert 0.5 < kept.interval[0] < kept.drop < kept.interval[1]
    with pytest.raises(Invalid, match="Macro-F1 fell from") as raised:
        parity.refuse(check, exported.version("v2"))
    assert f"{kept.after:.4f}" in raised.value.message

    # How much may be lost is the task's to say, and nothing is asked again for it.
    yaml.change(exported.task_path, {("deploy",): {"max_drop": 1.0}})
    assert parity.of_export(exported, exported.version("v2"), planted).verdict == "met"
    assert exported.version("v2").parity()[-1].verdict == "met"


def test_bytes_that_were_not_exported_are_not_asked(exported: TaskFolder) -> None:
    made = export.current(exported, exported.version("v2"), "q8_0")
    assert made is not None
    _without_norm(exported.root / made.path)

    with pytest.raises(Invalid, match="not the file that was exported"):
        parity.of_export(exported, exported.version("v2"), made, again=True)


def test_without_an_evaluation_there_is_no_measure(
    exported: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported.version("v2").results_path.unlink()

    ran = cli("export", "sentiment", "v2", "--gguf", "q8_0", "--again")

    assert ran.code == 1
    assert "nlp-skills evaluate sentiment --version v2" in ran.err
    assert cli("export", "sentiment", "v2", "--gguf", "q8_0", "--no-parity").code == 0

    # Other test rows than the version was made with are no measure either.
    write_rows(exported.split("test"), [{"text": "Order 1: this case is plain.", "label": "neutral"}])
    assert cli("export", "sentiment", "v2", "--gguf", "q8_0").code == 1


def test_the_same_text_in_other_tokens_is_another_prompt(exported: TaskFolder) -> None:
    chosen = subject.choose(exported, "v2")
    tokenizer = model.tokenizer(exported, chosen.info)

    def spelled(text: str) -> list[int]:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        return [*ids[:5], *ids[6:]]

    found = parity.prompts(chosen, lambda messages: chosen.renderer.prompt_after(tokenizer, messages), spelled, 8)

    assert (found.asked, found.equal_text, found.equal_ids) == (8, 8, 0)
    assert found.first is not None
    assert "from place 6 on" in found.first.ours
    assert found.first.ours != found.first.theirs


def test_answers_given_elsewhere_are_held_against_the_version(exported: TaskFolder) -> None:
    chosen = subject.choose(exported, "v2")
    before = predictions.load(chosen.version.predictions_path)
    given = [Answer(row["predicted"]) for row in before]

    same = parity.answers(chosen, given, 0.02)
    assert (same.drop, same.changed, same.rows) == (0.0, 0, 72)

    wrong = [Answer(None), *given[1:]]
    one = parity.answers(chosen, wrong, 0.02)
    assert one.changed == 1
    assert 0 < one.drop < 0.02
    with pytest.raises(Invalid, match="of 72 test rows 71"):
        parity.answers(chosen, given[1:], 0.02)


def test_row_text_cannot_leave_its_line(exported: TaskFolder) -> None:
    chosen = subject.choose(exported, "v2")

    found = parity.prompts(chosen, lambda _messages: "\x1b[2J\n\u202e" * 500, lambda _text: [], 1)

    assert found.first is not None
    shown = found.first.theirs
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\n" not in shown
    assert len(shown) < 200


def _planted(folder: TaskFolder, fault: Callable[[Path], None]) -> Export:
    """The q8_0 file with a fault, recorded as if it had been exported so."""
    version = folder.version("v2")
    made = export.current(folder, version, "q8_0")
    assert made is not None
    path = folder.root / made.path
    fault(path)
    sha256 = files.sha256_file(path)
    return records.put(folder, version, made.model_copy(update={"sha256": sha256, "made": files.now()}), None)


def _replace(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert len(old) == len(new)
    assert old in content
    path.write_bytes(content.replace(old, new))


def _without_norm(path: Path) -> None:
    """The last norm's weights are nought, and so is every logit."""
    import gguf

    reader = gguf.GGUFReader(path, "r+")
    (norm,) = (tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    norm.data[:] = 0
    reader.data.flush()  # type: ignore[attr-defined]


def _never(*_arguments: object, **_named: object) -> object:
    raise AssertionError("nothing was to be asked")
