"""How to ask the model, on its card: the prompt to the letter, and the commands of the engines people have."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nlp_skills import files
from nlp_skills.i18n import _
from nlp_skills.schema.task import PLACEHOLDER
from nlp_skills.schema.version import ModelInfo

if TYPE_CHECKING:
    from nlp_skills.deployment.huggingface.card import Told

_TOKENS = 64


def sections(told: Told) -> Iterator[str]:
    """The prompt, then transformers, vLLM and Ollama."""
    yield "## " + _("How to ask it")
    yield from _prompt(told.going.info)
    yield "### transformers"
    yield _code("python", _transformers(told))
    yield "### vLLM"
    yield _code("sh", _vllm(told))
    yield _("Then, to its address with /v1/chat/completions:")
    yield _code("json", json.dumps(_request(told), ensure_ascii=False, indent=2))
    yield "### Ollama"
    yield from _ollama(told)


def _prompt(info: ModelInfo) -> Iterator[str]:
    yield _("The prompt is one message of the user; {fields} are filled in, and nothing else is changed:",
            fields=", ".join(f"`{{{name}}}`" for name in _fields(info)))  # fmt: skip
    yield _code("text", _template(info))
    if info.system_prompt:
        yield _("Before it goes this system message:")
        yield _code("text", info.system_prompt)
    if info.chat_template_kwargs:
        yield _("The chat template is given these settings; with others the model reads a prompt it never saw:")
        yield _code("json", json.dumps(info.chat_template_kwargs, ensure_ascii=False))
    if info.chat_template is not None:
        yield _("The chat template is not the base model's own; it is in chat_template.jinja here.")
    schema = json.dumps(info.output_format.json_schema(), ensure_ascii=False, indent=2)
    if info.output_format.type == "json":
        yield _("The answer is one JSON object by this schema:")
        yield _code("json", schema)
    else:
        yield _("The answer is the bare value of the one property in this schema:")
        yield _code("json", schema)


def _template(info: ModelInfo) -> str:
    """As it is rendered: without the line break that a file's last line ends with."""
    return info.input_template.rstrip("\n")


def _text(text: str) -> str:
    """A text in Python."""
    return json.dumps(text, ensure_ascii=False)


def _fields(info: ModelInfo) -> list[str]:
    return list(dict.fromkeys(PLACEHOLDER.findall(info.input_template)))


def _transformers(told: Told) -> str:
    info, place = told.going.info, told.place
    at = f"{_text(place.repo)}, revision={_text(place.revision)}"
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if info.quantization and not told.forms.whole:
        lines[0] = "from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig"
    if told.forms.whole:
        lines += [f"tokenizer = AutoTokenizer.from_pretrained({at})",
                  f"model = AutoModelForCausalLM.from_pretrained({at})"]  # fmt: skip
    else:
        lines = ["from peft import PeftModel", *lines, *_with_adapter(told, at)]
    lines = ["import re", "", *lines]
    lines += [
        "",
        f"template = {_text(_template(info))}",
        f"row = {json.dumps(dict.fromkeys(_fields(info), '…'), ensure_ascii=False)}",
        'prompt = re.sub(r"\\{([^\\W\\d]\\w*)\\}", lambda field: row[field[1]], template)',
        f"messages = [{_system(info)}" + '{"role": "user", "content": prompt}]',
        "inputs = tokenizer.apply_chat_template(",
        f'    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True{_kwargs(info)}',
        ")",
        f"answer = model.generate(**inputs, max_new_tokens={_tokens(told)}, do_sample=False)",
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "\n".join(lines)


def _with_adapter(told: Told, at: str) -> list[str]:
    info, base = told.going.info, told.base
    where = _text(base.address)
    if _pinned(told):
        where += f", revision={_text(str(info.base_model_revision))}"
    elsewhere = _("the base model is not on the Hub under this name: its folder has to be here")
    comment = [] if base.on_hub else [f"# {elsewhere}"]
    loaded = where
    if info.quantization:
        loaded += ', quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")'
    tokenizer = [f"tokenizer = AutoTokenizer.from_pretrained({where})"]
    if info.chat_template is not None:
        tokenizer = [
            "from huggingface_hub import hf_hub_download",
            *tokenizer,
            f'template = hf_hub_download({_text(told.place.repo)}, "chat_template.jinja", '
            f"revision={_text(told.place.revision)})",
            'tokenizer.chat_template = open(template, encoding="utf-8").read()',
        ]
    return [*comment, *tokenizer, f"base = AutoModelForCausalLM.from_pretrained({loaded})",
            f"model = PeftModel.from_pretrained(base, {at})"]  # fmt: skip


def _pinned(told: Told) -> bool:
    return told.base.on_hub and told.going.info.base_model_revision is not None


def _system(info: ModelInfo) -> str:
    return f'{{"role": "system", "content": {_text(info.system_prompt)}}}, ' if info.system_prompt else ""


def _kwargs(info: ModelInfo) -> str:
    return f", **{info.chat_template_kwargs!r}" if info.chat_template_kwargs else ""


def _tokens(told: Told) -> int:
    asked = told.standing.results.asked if told.standing.results else None
    return asked.sampling.max_new_tokens if asked and asked.sampling else _TOKENS


def _vllm(told: Told) -> str:
    place, info = told.place, told.going.info
    template = " --chat-template ./model/chat_template.jinja" if info.chat_template is not None else ""
    download = f"hf download {place.repo} --revision {place.revision} --local-dir model"
    if told.forms.whole:
        if not template:
            return f"vllm serve {place.repo} --revision {place.revision} --served-model-name {_served(told)}"
        return f"{download}\nvllm serve ./model --served-model-name {_served(told)}{template}"
    config = told.going.version.config()
    rank = config.lora.r if config.lora else 16
    pinned = f" --revision {info.base_model_revision}" if _pinned(told) else ""
    served = f"vllm serve {_shell(told.base.address)}{pinned} --enable-lora --max-lora-rank {_rank(rank)}"
    return f"{download}\n{served} --lora-modules {_served(told)}=./model{template}"


def _rank(rank: int) -> int:
    """The next that vLLM knows."""
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)


def _served(told: Told) -> str:
    return _shell(told.going.model_name)


def _shell(text: str) -> str:
    return shlex.quote(text)


def _request(told: Told) -> dict[str, Any]:
    info = told.going.info
    system = [{"role": "system", "content": info.system_prompt}] if info.system_prompt else []
    request: dict[str, Any] = {
        "model": told.going.model_name,
        "messages": [*system, {"role": "user", "content": _template(info)}],
        "temperature": 0,
        "max_tokens": _tokens(told),
    }
    if info.chat_template_kwargs:
        request["chat_template_kwargs"] = info.chat_template_kwargs
    if info.output_format.type == "json":
        schema = {"name": "answer", "schema": info.output_format.json_schema()}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif info.output_format.labels and not info.output_format.multi_label:
        request["structured_outputs"] = {"choice": info.output_format.labels}
    return request


def _ollama(told: Told) -> Iterator[str]:
    place = told.place
    if not told.forms.ggufs:
        yield _("There is no GGUF file in this version, which Ollama needs. Who published it can add one: {command}",
                command=f"`nlp-skills deploy {told.going.task.task_name} {told.going.version.name} --to huggingface "
                        "--gguf q8_0 --retag`")  # fmt: skip
        return
    name = files.inside(told.going.folder.root, told.forms.ggufs[0].path).name
    yield _code(
        "sh",
        f"hf download {place.repo} {_shell(name)} --revision {place.revision} --local-dir .\n"
        f"printf 'FROM ./%s\\nPARAMETER temperature 0\\n' {_shell(name)} > Modelfile\n"
        f"ollama create {_served(told)} -f Modelfile",
    )


def _code(language: str, text: str) -> str:
    """A block; its fence is longer than any in the text, so that none closes it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"
