"""The pages under Reference, made from what they describe: the commands, the schemas, the catalogue and its topics.

The site gets them while it is built (`site_hooks.py`), so that none can be out of date. Run as a program, this writes
the same pages into a folder, to be read without a site: `python docs/make_reference.py FOLDER`.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from nlp_skills import i18n
from nlp_skills.cli import frame
from nlp_skills.cli.main import COMMANDS, cli

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
KNOWLEDGE = ROOT / "nlp_skills" / "knowledge"
RULES = ROOT / "nlp_skills" / "coach" / "rules.yaml"
WORDS: dict[str, dict[str, str]] = {
    lang: yaml.safe_load((DOCS / "words" / f"{lang}.yaml").read_text(encoding="utf-8")) for lang in i18n.LANGUAGES
}
# The schemas speak English; each of their descriptions is said again here, beside what it was made from.
SAID: dict[str, dict[str, str]] = yaml.safe_load((DOCS / "words" / "documents.zh-TW.yaml").read_text(encoding="utf-8"))
# By what a reader wants to do. A command that stands nowhere here has no place in the navigation, and stops the build.
GROUPS = {
    "begin": ["recommend", "knowledge", "demo", "setup", "doctor"],
    "tasks": ["new-task", "tasks", "use", "status", "plan", "archive", "unarchive"],
    "data": ["data-source", "regenerate", "validate", "audit", "review", "augment", "convert", "data"],
    "training": [
        "generate", "preflight", "estimate", "train", "runs", "logs", "stop", "resume", "learning-curve", "remote",
    ],
    "evaluation": ["evaluate", "errors", "diagnose", "report", "dashboard"],
    "versions": ["new-version", "promote", "history", "compare", "lineage", "rollback", "reproduce", "cleanup", "du"],
    "deployment": ["export", "deploy", "deployments", "undeploy", "predict", "serve", "serve-key"],
}  # fmt: skip


def pages(lang: str) -> dict[str, str]:
    """Every page of the reference in one language, as Markdown by its path.

    Raises:
        ValueError: a command stands in no group, or a topic has the name of another page.
    """
    if homeless := sorted(set(COMMANDS) - {name for names in GROUPS.values() for name in names}):
        raise ValueError(f"docs/make_reference.py: commands in no group: {', '.join(homeless)}")
    before = os.environ.get("LANGUAGE")
    i18n.set_language(lang)
    frame._translate_click()
    try:
        found = [("reference/index.md", _overview(lang)), *_commands(lang), *_documents(lang), *_knowledge(lang)]
    finally:
        i18n.set_language(None)
        os.environ.pop("LANGUAGE", None) if before is None else os.environ.update(LANGUAGE=before)
    made = dict(found)
    if len(made) < len(found):
        raise ValueError(f"two pages have the same path: {sorted(path for path, _text in found)}")
    return made


def nav(lang: str) -> list[Any]:
    """The same pages as they stand in the navigation."""
    words = WORDS[lang]
    groups = [
        {words[group]: [{name: f"reference/commands/{name}.md"} for name in names if name in COMMANDS]}
        for group, names in GROUPS.items()
    ]
    knowledge = [path for path, _text in _knowledge(lang)]
    entries: list[Any] = ["reference/index.md", {words["commands"]: ["reference/commands/index.md", *groups]}]
    entries.append({words["documents"]: [path for path, _text in _documents(lang)]})
    if knowledge:
        entries.append({words["knowledge"]: knowledge})
    return [*entries, "reference/environment.md"]


def _overview(lang: str) -> str:
    return f"# {WORDS[lang]['reference']}\n\n{WORDS[lang]['reference_says']}\n"


# Commands


def _commands(lang: str) -> Iterator[tuple[str, str]]:
    words = WORDS[lang]
    root = click.Context(cli, info_name="nlp-skills")
    index = [f"# {words['commands']}", words["commands_say"]]
    for group, names in GROUPS.items():
        rows = [(f"[`{name}`]({name}.md)", _plain(_command(root, name))) for name in names if name in COMMANDS]
        index += [f"## {words[group]}", _table((words["command"], words["what"]), rows)]
    index += [f"## {words['exit_codes']} {{ #exit-codes }}", words["exit_codes_say"]]
    yield "reference/commands/index.md", "\n\n".join(index) + "\n"
    for name in COMMANDS:
        yield f"reference/commands/{name}.md", "\n\n".join(_command_page(root, name, lang)) + "\n"


def _command(context: click.Context, name: str) -> click.Command:
    group = context.command
    assert isinstance(group, click.Group)
    found = group.get_command(context, name)
    assert found is not None, name
    return found


def _plain(command: click.Command) -> str:
    return _text(command.get_short_help_str(1000))


def _command_page(root: click.Context, name: str, lang: str) -> Iterator[str]:
    words = WORDS[lang]
    command = _command(root, name)
    yield f"# nlp-skills {name}"
    context = click.Context(command, info_name=name, parent=root)
    if not isinstance(command, click.Group):
        yield from _one_command(command, context, words, level=2)
    else:
        yield _text(i18n._(command.help or ""))
        for inner in command.list_commands(context):
            yield f"## {name} {inner}"
            found = _command(context, inner)
            yield from _one_command(found, click.Context(found, info_name=inner, parent=context), words, level=3)
    yield words["exit_codes_line"]


def _one_command(command: click.Command, context: click.Context, words: dict[str, str], level: int) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield _text(i18n._(command.help or ""))
    yield f"```text\n{usage}\n```"
    if examples := getattr(command, "examples", ()):
        yield f"{'#' * level} {words['examples']} {{ #{_slug(context)}-examples }}"
        yield "```console\n" + "\n".join(examples) + "\n```"
    yield f"{'#' * level} {words['options']} {{ #{_slug(context)}-options }}"
    by_kind: dict[str | None, list[tuple[str, str]]] = {}
    for param in command.get_params(context):
        if isinstance(param, click.Option) and (record := param.get_help_record(context)):
            # Click makes --help once for each command, in the language of that moment.
            says = record[1] if param.name != "help" else i18n._("Show this message and exit.")
            by_kind.setdefault(getattr(param, "group", None), []).append((f"`{record[0]}`", _text(says)))
    yield _table((words["option"], words["what"]), by_kind.pop(None))
    for kind, rows in by_kind.items():
        yield words["options_for"].format(type=f"`{kind}`")
        yield _table((words["option"], words["what"]), rows)


def _slug(context: click.Context) -> str:
    return context.command_path.replace(" ", "-").removeprefix("nlp-skills-")


# Documents


def _documents(lang: str) -> Iterator[tuple[str, str]]:
    words = WORDS[lang]
    schemas = {path.name.partition(".")[0]: json.loads(path.read_text()) for path in (ROOT / "schemas").glob("*.json")}
    order = sorted(schemas, key=lambda name: (name not in _WRITTEN_BY_PEOPLE, name))
    rows = [
        (f"[`{name}`]({name}.md)", _described(schemas[name], lang).split("\n")[0], words[f"by_{_author(name)}"])
        for name in order
    ]
    heading = (words["document"], words["what"], words["written_by"])
    yield (
        "reference/documents/index.md",
        f"# {words['documents']}\n\n{words['documents_say']}\n\n{_table(heading, rows)}\n",
    )
    for name in order:
        yield f"reference/documents/{name}.md", "\n\n".join(_document(name, schemas[name], lang)) + "\n"


_WRITTEN_BY_PEOPLE = ("task_summary", "task", "data_source", "config")


def _author(name: str) -> str:
    return "people" if name in _WRITTEN_BY_PEOPLE else "steps"


def fingerprint(description: str) -> str:
    """What documents.zh-TW.yaml knows an English description by."""
    return hashlib.sha256(description.encode()).hexdigest()[:8]


def _described(part: dict[str, Any], lang: str) -> str:
    description = str(part.get("description", ""))
    said = SAID.get(str(part.get("title")), {}) if lang == "zh-TW" else {}
    return _text(said["says"] if said.get("of") == fingerprint(description) else description)


def _document(name: str, schema: dict[str, Any], lang: str) -> Iterator[str]:
    words = WORDS[lang]
    yield f"# {name}"
    yield words["schema_line"].format(file=f"schemas/{name}.schema.json")
    yield _described(schema, lang)
    yield _fields(schema, words)
    for title, part in schema.get("$defs", {}).items():
        yield f"## {title}"
        yield _described(part, lang)
        yield _fields(part, words)


def _fields(schema: dict[str, Any], words: dict[str, str]) -> str:
    required = schema.get("required", [])
    rows = []
    for key, field in schema.get("properties", {}).items():
        default = words["required"] if key in required else _default(field)
        rows.append((f"`{key}`", _kind(field, words), default))
    return _table((words["key"], words["value"], words["default"]), rows) if rows else f"`{_kind(schema, words)}`"


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    return "" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _kind(field: dict[str, Any], words: dict[str, str]) -> str:
    """What a value may be, in words: types, choices and limits."""
    if "$ref" in field:
        title = field["$ref"].rpartition("/")[2]
        return f"[{title}](#{title.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'], ensure_ascii=False)}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if choices := field.get("anyOf") or field.get("oneOf"):
        return f" {words['or']} ".join(_kind(choice, words) for choice in choices if choice.get("type") != "null")
    if field.get("type") == "array":
        inner = _kind(field["items"], words) if field.get("items") else words["anything"]
        return f"{words['list_of']} {inner}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"{words['mapping_to']} {_kind(field['additionalProperties'], words)}"
    name = words.get(f"type_{field.get('type')}", words["anything"])
    limits = [sign + str(field[key]) for key, sign in _LIMITS.items() if key in field]
    if "pattern" in field:
        limits.append(f"`{field['pattern']}`")
    return f"{name} ({', '.join(limits)})" if limits else name


_LIMITS = {
    "minimum": "≥ ", "exclusiveMinimum": "&gt; ", "maximum": "≤ ", "exclusiveMaximum": "&lt; ",
    "minLength": "≥ ", "maxLength": "≤ ",
}  # fmt: skip


# Knowledge


def topics(lang: str) -> list[Path]:
    """The topics of the knowledge in one language."""
    return sorted((KNOWLEDGE / "topics" / lang).glob("*.md"))


def _knowledge(lang: str) -> Iterator[tuple[str, str]]:
    words = WORDS[lang]
    yield (
        "reference/knowledge/index.md",
        "\n\n".join([f"# {words['knowledge']}", words["knowledge_says"], *_topic_list(lang)]) + "\n",
    )
    if (KNOWLEDGE / "models.yaml").is_file():
        yield "reference/knowledge/catalogue.md", "\n\n".join(_models(words)) + "\n"
    yield "reference/knowledge/rules.md", "\n\n".join(_rules(lang)) + "\n"
    for path in topics(lang):
        yield f"reference/knowledge/{path.name}", path.read_text(encoding="utf-8")


def _rules(lang: str) -> Iterator[str]:
    words = WORDS[lang]
    yield f"# {words['rules']}"
    yield words["rules_say"]
    for section, entries in yaml.safe_load(RULES.read_text(encoding="utf-8")).items():
        named = entries if isinstance(entries, list) else [{"id": name, **entry} for name, entry in entries.items()]
        rows = [
            (f"`{entry['id']}`", _says(entry, lang), _text(f"{entry['source']}, {entry['as_of']}")) for entry in named
        ]
        yield f"## {words[f'rules_{section}']} {{ #{section} }}"
        yield _table((words["rule"], words["what_it_says"], words["source"]), rows)


def _says(entry: dict[str, Any], lang: str) -> str:
    """The reason of a rule as the user is told it; of one without, its figures."""
    if "why" in entry:
        chosen = ", ".join(f"`{name}`" for name in entry.get("choose", []))
        return _text(entry["why"][lang]) + (f": {chosen}" if chosen else "")
    return ", ".join(f"`{key}: {entry[key]}`" for key in entry if key not in ("id", "source", "as_of"))


def _topic_list(lang: str) -> Iterator[str]:
    found = [(path.name, path.read_text(encoding="utf-8")) for path in topics(lang)]
    if found:
        yield "\n".join(f"- [{text.split(chr(10))[0].lstrip('# ')}]({name})" for name, text in found)


def _models(words: dict[str, str]) -> Iterator[str]:
    from nlp_skills.knowledge import catalogue

    yield f"# {words['models']}"
    yield words["models_say"]
    listed = catalogue.Table.load(catalogue.PACKAGED).models  # not what the builder of the site has added
    for family in dict.fromkeys(model.family for model in listed):
        yield f"## {family}"
        rows = [
            (
                f"`{model.name}`",
                _count(model.parameters) + (f" ({_count(model.active)} {words['active']})" if model.active else ""),
                f"{model.context:,}",
                _text(model.licence),
                words[f"thinking_{model.thinking}"],
                f"[{model.as_of}]({model.source})" if model.source.startswith("http") else _text(str(model.as_of)),
            )
            for model in listed
            if model.family == family
        ]
        heading = ("model", "parameters", "context", "licence", "thinking", "looked_up")
        yield _table([words[word] for word in heading], rows)


def _count(number: int | None) -> str:
    number = number or 0
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.0f} M"


# Markdown


def _text(text: str) -> str:
    """Text of ours as Markdown that shows it as it is; what stands in backticks stays code."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_\[\]|])", r"\\\1", html.escape(text, quote=False))


def _table(columns: Any, rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def main() -> None:
    """Write the pages of both languages into a folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/reference")
    for lang in i18n.LANGUAGES:
        for path, text in pages(lang).items():
            target = folder / lang / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    print(folder)


if __name__ == "__main__":
    main()
