"""What trains without a word and works badly, planted once each: refused, or said with its mend."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, write_rows
from fixtures_training import job_of

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.training import adapters, arguments, base_model, device, output_rows, pitfalls, preflight
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
CPU = device.Device("cpu", "cpu", "float32", None)


def found(folder: TaskFolder) -> dict[str, Any]:
    """What preflight finds, remarks aside, by code."""
    return {each.code: each for each in preflight.check(folder).findings if each.severity != "info"}


def copy_of(base: Path, to: Path, **texts: Callable[[str], str]) -> Path:
    """A copy of a model with texts of it changed: `template`, `tokenizer`."""
    shutil.copytree(base, to)
    names = {"template": "chat_template.jinja", "tokenizer": "tokenizer.json"}
    for which, change in texts.items():
        path = to / names[which]
        before = path.read_text(encoding="utf-8")
        path.write_text(change(before), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != before
    return to


def with_end_row(base: Path, to: Path, change: Callable[[Any, Any], Any]) -> Path:
    """A copy of a model whose row for the end-of-turn token is changed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, to)
    tensors = load_file(to / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    end = base_model.load_tokenizer(str(to)).eos_token_id
    table[end] = change(table, table[end].clone())
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize(
    "change",
    [
        lambda table, own: own * 0,
        lambda table, own: table[0] * 1.001,
        lambda table, own: own * 40,
        lambda table, own: table.mean(0) / 10,
    ],
    ids=["nothing", "as another's", "far too long", "hardly anything"],
)
def test_an_end_token_that_was_never_learnt_is_refused_for_adapters(
    change: Any, ready: Ready, tuned_base: Path, tmp_path: Path
) -> None:
    base = with_end_row(tuned_base, tmp_path / "base", change)
    refused = found(ready(base=base))["untrained_end"]
    assert refused.severity == "error"
    assert "<|im_end|>" in refused.message and "adapter: full" in refused.mend
    shutil.rmtree(tmp_path / "project" / "sentiment")
    assert found(ready(base=base, adapter="full", lora=None, learning_rate=1e-4)) == {}


def test_an_end_token_of_an_untied_output_layer_is_looked_up_there(
    ready: Ready, tuned_base: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tuned_base, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["lm_head.weight"][base_model.load_tokenizer(str(base)).eos_token_id] = 0
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    assert "untrained_end" in found(ready(base=base))


@pytest.mark.real_model
def test_of_real_weights_only_the_tokens_no_text_had_are_called_unlearnt(smollm2: str) -> None:
    tokenizer = base_model.load_tokenizer(smollm2)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    with output_rows.opened(Path(base_model.locate(smollm2))) as rows:
        assert rows is not None and rows.count == len(tokenizer)
        unlearnt = [
            token for token in (*range(20), *range(20, rows.count, 500)) if output_rows.untrained(rows, token, special)
        ]
    names = tokenizer.convert_ids_to_tokens(unlearnt)
    assert "<jupyter_code>" in names and "<|im_end|>" not in names
    assert all(name.startswith("<") and name.endswith(">") for name in names)


def test_a_template_that_leaves_out_the_system_prompt_is_refused(
    ready: Ready, tuned_base: Path, tmp_path: Path
) -> None:
    base = copy_of(
        tuned_base,
        tmp_path / "base",
        template=lambda text: "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + text,
    )
    assert found(ready(base=base)) == {}
    shutil.rmtree(tmp_path / "project" / "sentiment")
    refused = found(ready(base=base, system_prompt="You are strict."))
    assert list(refused) == ["system_dropped"]


def test_a_template_that_writes_the_turn_and_not_what_is_in_it_is_refused(
    ready: Ready, tuned_base: Path, tmp_path: Path
) -> None:
    silent = copy_of(
        tuned_base,
        tmp_path / "silent",
        template=lambda text: text.replace("{% generation %}{{ message['content'] + ", "{% generation %}{{ "),
    )
    assert "answer_dropped" in found(ready(base=silent))
    shutil.rmtree(tmp_path / "project" / "sentiment")
    deaf = copy_of(
        tuned_base,
        tmp_path / "deaf",
        template=lambda text: text.replace("{% else %}{{ message['content'] + ", "{% else %}{{ "),
    )
    assert "prompt_dropped" in found(ready(base=deaf))


def test_a_template_that_learns_to_write_empty_thoughts_is_pointed_out(
    ready: Ready, tuned_base: Path, tmp_path: Path
) -> None:
    import trl

    qwen3 = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    base = copy_of(tuned_base, tmp_path / "base", template=lambda _text: qwen3)
    said = found(ready(base=base))
    assert list(said) == ["empty_thoughts"] and said["empty_thoughts"].severity == "warning"
    assert "enable_thinking: false" in said["empty_thoughts"].mend
    shutil.rmtree(tmp_path / "project" / "sentiment")
    assert found(ready(base=base, chat_template_kwargs={"enable_thinking": False})) == {}


def test_a_template_that_dates_its_prompts_is_pointed_out(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    dated = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today: {{ date_string }}\n"
    )
    base = copy_of(tuned_base, tmp_path / "base", template=lambda text: dated + text)
    assert list(found(ready(base=base))) == ["todays_date"]
    shutil.rmtree(tmp_path / "project" / "sentiment")
    assert found(ready(base=base, chat_template_kwargs={"date_string": "01 Jan 2026"})) == {}


def test_a_token_the_model_has_no_weights_for_is_refused_where_rows_use_it(
    ready: Ready, tuned_base: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    base = shutil.copytree(tuned_base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<refund>"])
    tokenizer.save_pretrained(base)
    folder = ready(base=base)
    assert found(folder) == {}, "a token that no row has does no harm"
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    write_rows(folder.split("train"), [{**rows[0], "text": "They gave a <refund>."}, *rows[1:]])
    refused = found(folder)["unknown_token"]
    assert "<refund>" in refused.message and refused.file == str(base)


@pytest.mark.parametrize("name", ["modules_to_save", "trainable_token_indices", "learning_rat"])
def test_what_would_make_an_adapter_that_does_not_load_again_is_not_passed_through(name: str, ready: Ready) -> None:
    folder = ready(extra={name: ["embed_tokens"]})
    refused = found(folder)["extra"]
    assert name in refused.message and refused.file == str(folder.version("v1").config_path)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("lora: {init: pissa_niter_4}", "init"),
        ("lora: {init: loftq}", "init"),
        ("lora: {target_modules: [q_proj, lm_head]}", "lm_head"),
        ("lora: {modules_to_save: [lm_head]}", "modules_to_save"),
        ("learning_rate: 1.0", "learning_rate"),
    ],
)
def test_settings_of_no_use_are_refused_with_file_and_line(
    setting: str, word: str, ready: Ready, cli: Callable[..., Ran]
) -> None:
    path = ready().version("v1").config_path
    kept = [line for line in path.read_text().splitlines() if not line.startswith((" ", "lora:", "learning_rate:"))]
    path.write_text("\n".join([*kept, setting]) + "\n")
    ran = cli("preflight", path.parents[2])
    assert ran.code == 1 and word in ran.err
    assert f"versions/v1/config.yaml:{len(kept) + 1}" in ran.err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"learning_rate": 0.1}, "lower learning_rate"),
        ({"learning_rate": 1e-6}, "raise learning_rate"),
        ({"learning_rate": 1e-3, "adapter": "full", "lora": None}, "lower learning_rate"),
    ],
)
def test_an_unusual_learning_rate_is_pointed_out_with_the_usual_ones(
    settings: dict[str, Any], expected: str, ready: Ready
) -> None:
    said = found(ready(**settings))["learning_rate"]
    assert said.severity == "warning" and expected in said.mend
    assert re.search(r"usual is \S+ to \S+", said.message) and "TRL" in said.cause


def test_too_few_steps_and_too_large_batches_are_pointed_out(ready: Ready, tmp_path: Path) -> None:
    assert list(found(ready(train=24, epochs=1))) == ["few_steps"]
    shutil.rmtree(tmp_path / "project" / "sentiment")
    assert list(found(ready(train=24, batch_size=16, gradient_accumulation=2))) == ["large_batch"]


def test_no_row_at_all_is_an_error_in_words(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready()
    folder.split("train").write_text("")
    ran = cli("train", folder.root)
    assert ran.code == 1 and "Traceback" not in ran.err and "mend:" in ran.err
    assert folder.task().status == "configuring"


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_the_precision_follows_the_machine(name: str, ready: Ready) -> None:
    refused = found(ready(extra={name: True}))["extra"]
    assert refused.severity == "error" and "precision" in refused.cause and refused.line


@pytest.fixture
def of_trl(tiny_base: Path, tmp_path: Path) -> Any:
    """TRL's trainer as it comes, given three rows of which one is too long."""
    import trl
    from datasets import Dataset

    rows = [{"prompt": "word " * size, "completion": "yes"} for size in (2, 3, 60)]
    settings = trl.SFTConfig(
        output_dir=str(tmp_path),
        max_length=32,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        activation_checkpointing=False,
    )
    return trl.SFTTrainer(
        model=base_model.load_model(str(tiny_base), CPU),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=base_model.load_tokenizer(str(tiny_base)),
    )


def test_rows_that_the_trainer_throws_away_are_counted(of_trl: Any, tmp_path: Path) -> None:
    """TRL cuts at max_length and drops what has no loss left, without a word."""
    with pytest.raises(Invalid, match="2 of 3"):
        pitfalls.built(of_trl, 3, tmp_path / "config.yaml")


def test_weights_too_coarse_for_small_steps_are_refused(of_trl: Any, tmp_path: Path) -> None:
    import torch

    pitfalls.built(of_trl, 2, tmp_path / "config.yaml")
    of_trl.model.to(torch.bfloat16)
    with pytest.raises(Invalid, match="bfloat16"):
        pitfalls.built(of_trl, 2, tmp_path / "config.yaml")


@pytest.fixture
def padless(tuned_base: Path, tmp_path: Path) -> Iterator[Path]:
    """A base model whose tokenizer has no pad token."""
    base = shutil.copytree(tuned_base, tmp_path / "padless")
    path = base / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    yield base


def test_without_a_pad_token_the_end_is_padding_and_still_learnt(ready: Ready, padless: Path) -> None:
    folder = ready(base=padless)
    checked = preflight.check(folder)
    assert checked.ok
    tokenizer = base_model.load_tokenizer(str(padless))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    from nlp_skills.training.methods import sft

    config = folder.version("v1").config()
    rows = sft.dataset(checked.encoded["train"][:5], config)
    made = sft.trainer_class(config)(
        model=base_model.load_model(str(padless), CPU),
        args=arguments.made(job_of(config, folder.root), CPU, log_every=1, validate=False, checkpointing=False),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapters.settings(config),
    )
    labels = made.data_collator([rows[index] for index in range(5)])["labels"]
    assert [(row == tokenizer.eos_token_id).sum().item() for row in labels] == [1] * 5


def test_a_tokenizer_without_an_end_is_refused(tuned_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tuned_base, tmp_path / "base")
    path = base / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["eos_token"]
    path.write_text(json.dumps(settings))
    with pytest.raises(Exception, match="no end token") as refused:
        base_model.load_tokenizer(str(base))
    assert refused.value.file == str(path) and refused.value.mend  # type: ignore[attr-defined]


@pytest.fixture
def bare(tuned_base: Path, tmp_path: Path) -> Path:
    """A base model without a chat template, whose tokenizer knows no turn marks."""
    base = copy_of(tuned_base, tmp_path / "bare", tokenizer=lambda text: text.replace("<|im_start|>", "<|other|>"))
    (base / "chat_template.jinja").unlink()
    return base


def test_without_a_chat_template_one_is_offered(ready: Ready, bare: Path, cli: Callable[..., Ran]) -> None:
    folder = ready(base=bare)
    ran = cli("preflight", folder.root)
    assert ran.code == 1 and ran.err.count("error:") == 1
    assert "versions/v1/config.yaml" in ran.err and "chat_template: plain" in ran.err


def test_the_plain_template_is_recorded_and_asked_with(ready: Ready, bare: Path, cli: Callable[..., Ran]) -> None:
    from nlp_skills.evaluation import model

    folder = ready(base=bare, chat_template="plain", system_prompt="Be brief.")
    ran = cli("preflight", folder.root)
    assert ran.code == 0, ran.err
    label = json.loads(folder.split("train").read_text().splitlines()[0])["label"]
    assert "Instruction:\\nBe brief." in ran.out and f"Answer:\\n⟦{label}<|im_end|>⟧" in ran.out
    assert cli("train", folder.root).code == 0
    info = folder.version("v1").model_info()
    assert info is not None and info.chat_template is not None and "Answer:" in info.chat_template

    # What config.yaml says by now is not what the model was trained with.
    path = folder.version("v1").config_path
    yaml.change(path, {("chat_template",): None, ("system_prompt",): "Be long.", ("chat_template_kwargs",): {"a": 1}})
    loaded = model.load(folder)
    (first, *_rest) = (json.loads(line) for line in folder.split("test").read_text().splitlines())
    asked = loaded.renderer.prompt_text(loaded.tokenizer, first)
    assert asked.startswith("Instruction:\nBe brief.\n\nQuestion:\n") and asked.endswith("Answer:\n")
    assert loaded.renderer.chat_template_kwargs == {}


def test_turn_marks_the_tokenizer_does_not_know_are_refused(ready: Ready, bare: Path, cli: Callable[..., Ran]) -> None:
    ran = cli("preflight", ready(base=bare, chat_template="chatml").root)
    assert ran.code == 1 and "<|im_start|>" in ran.err and "chat_template: plain" in ran.err


def test_chatml_is_what_a_chatml_model_has_itself(ready: Ready) -> None:
    folder = ready()
    own = preflight.check(folder).encoded["train"]
    yaml.change(folder.version("v1").config_path, {("chat_template",): "chatml"})
    assert [row.ids for row in preflight.check(folder).encoded["train"]] == [row.ids for row in own]


def test_a_template_of_the_task_is_read_there_and_nowhere_else(
    ready: Ready, bare: Path, cli: Callable[..., Ran], tmp_path: Path
) -> None:
    folder = ready(base=bare, chat_template="ours.jinja")
    ran = cli("preflight", folder.root)
    assert ran.code == 1 and "ours.jinja" in ran.err and "plain, chatml" in ran.err
    text = "{% for m in messages %}{{ m.role + ' says ' + m.content + eos_token }}{% endfor %}"
    (folder.root / "ours.jinja").write_text(text + "{% if add_generation_prompt %}assistant says {% endif %}")
    assert cli("preflight", folder.root).code == 0
    (tmp_path / "elsewhere.jinja").write_text(text)
    yaml.change(folder.version("v1").config_path, {("chat_template",): "../../elsewhere.jinja"})
    ran = cli("preflight", folder.root)
    assert ran.code == 2 and "leaves the task folder" in ran.err


def test_another_text_in_the_template_is_another_training(ready: Ready, bare: Path) -> None:
    from nlp_skills.training import identity

    folder = ready(base=bare, chat_template="ours.jinja")
    config = Config.load(folder.version("v1").config_path)
    (folder.root / "ours.jinja").write_text("{{ messages }}")
    before = identity.of(folder, folder.task(), config)
    (folder.root / "ours.jinja").write_text("{{ messages }} ")
    after = identity.of(folder, folder.task(), config)
    assert {name for name in before if before[name] != after[name]} == {"chat_template ours.jinja"}
