"""The Modelfile of a version: how long a prompt may be, where an answer ends, and what it was trained to be told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.render import Renderer, tokenise
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.ollama import templates
from nlp_skills.deployment.ollama.modelfile import Modelfile
from nlp_skills.evaluation import model
from nlp_skills.evaluation.subject import Subject
from nlp_skills.schema.deployment import Export

FOLDER = "models/ollama"
# Prompts are counted in tokens for the longest texts only; among them is the one of the most tokens, or near it.
_COUNTED = 200
_LEAST_CONTEXT = 2048


def place(going: Going) -> Path:
    """The folder of a version's Modelfile."""
    return files.inside(going.folder.root, f"{FOLDER}/{going.model_name}")


def modelfile(going: Going, chosen: Subject, export: Export, *, template: bool) -> Modelfile:
    """What a server is told of a version.

    Raises:
        Invalid: a prompt template is wanted, and none is known that says the same.
        Unavailable: the training extra or the base model is missing.
    """
    tokenizer = model.tokenizer(going.folder, going.info)
    settings = chosen.sampling
    return Modelfile(
        gguf=Path(os.path.relpath(files.inside(going.folder.root, export.path), place(going))).as_posix(),
        parameters={
            "num_ctx": _context(going, chosen, tokenizer),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        },
        stop=_stops(going, chosen.renderer, tokenizer),
        system=going.info.system_prompt or None,
        template=templates.of(chosen.renderer, tokenizer) if template else None,
    )


def _context(going: Going, chosen: Subject, tokenizer: Any) -> int:
    """Room for the longest row there is and its answer: a power of two, and no more than the model reads."""
    prompts: set[str] = set()
    for split in ("train", "valid", "test"):
        path = going.folder.split(split)
        if path.is_file():
            rows = (row for row in lines.read(path) if all(field in row for field in chosen.fields))
            prompts |= {chosen.renderer.messages(row)[-1]["content"] for row in rows}
            prompts = set(sorted(prompts, key=lambda text: -len(text.encode()))[:_COUNTED])
    texts = (chosen.renderer.prompt_after(tokenizer, chosen.renderer.conversation(prompt)) for prompt in prompts)
    needed = max((len(tokenise(tokenizer, text)) for text in texts), default=0) + chosen.sampling.max_new_tokens
    wanted = max(_LEAST_CONTEXT, 1 << (needed - 1).bit_length())
    known = _settings(going, "config.json")
    read = known.get("max_position_embeddings") or (known.get("text_config") or {}).get("max_position_embeddings")
    return min(wanted, int(read)) if read else wanted


def _stops(going: Going, renderer: Renderer, tokenizer: Any) -> tuple[str, ...]:
    """Every token that an answer may end with: the tokenizer's, the model's own, and the one its template puts."""
    listed = _settings(going, "generation_config.json").get("eos_token_id")
    ids = listed if isinstance(listed, list) else [listed]
    texts = [tokenizer.eos_token, *(tokenizer.convert_ids_to_tokens(one) for one in ids if isinstance(one, int))]
    _prompt, completion = renderer.texts_after(tokenizer, "?", "!")
    texts += [text for text in tokenizer.get_added_vocab() if completion.removeprefix("!") == text]
    return tuple(dict.fromkeys(text for text in texts if text))


def _settings(going: Going, name: str) -> dict[str, Any]:
    """A file of settings beside the whole model, or beside the base model."""
    from nlp_skills.training import base_model

    path = going.version.merged / name
    if not path.is_file():
        located = base_model.locate(
            going.info.base_model, root=going.folder.root, revision=going.info.base_model_revision
        )
        path = Path(located) / name
    found = files.read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


README = """\
# {title}

Version {version} of {task}, for [Ollama](https://ollama.com). The weights are `{gguf}`, seen from this folder.

With a server on this machine, in this folder:

    ollama create {name} -f Modelfile
    ollama run {name} "..."

Elsewhere: copy the GGUF file beside the Modelfile and change its first line to `FROM ./{file}`.

Ask it with temperature 0 and one user message, which is this template with its fields filled in:

{prompt}
{thinking}"""
_THINKING = """
It was trained without thinking: send `"think": false` with every request.
"""


def write(going: Going, told: Modelfile, name: str) -> Path:
    """Write Modelfile and README.md, and give the folder.

    Raises:
        Invalid: a text cannot be written into a Modelfile.
        Unavailable: the disk is full or the folder cannot be written.
    """
    folder = place(going)
    readme = README.format(
        title=going.model_name,
        version=going.version.name,
        task=going.task.task_name,
        gguf=told.gguf,
        file=Path(told.gguf).name,
        name=name,
        prompt="\n".join(f"    {line}".rstrip() for line in going.info.input_template.splitlines()),
        thinking="" if thinks(going) is None else _THINKING,
    )
    for path, text in ((folder / "Modelfile", told.text()), (folder / "README.md", readme)):
        if not path.is_file() or path.read_bytes() != text.encode():
            files.write_text(path, text)
    return folder


def thinks(going: Going) -> bool | None:
    """What a request says of thinking: False where the version was trained without, else nothing."""
    return False if going.info.chat_template_kwargs.get("enable_thinking") is False else None
