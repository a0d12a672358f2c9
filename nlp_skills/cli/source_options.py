"""The options of `data-source add` and `edit`: one table for the flags and for the questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

KeyPath = tuple[str | int, ...]
Found = dict[KeyPath, Any]

KINDS = {
    "file_import": N_("a file: CSV, TSV, JSON, JSONL, Parquet, Excel"),
    "database": N_("a query: PostgreSQL, MySQL, SQLite, SQL Server"),
    "api": N_("a REST or GraphQL API"),
    "web_scrape": N_("web pages"),
    "llm_generated": N_("rows that a language model writes"),
    "huggingface": N_("a data set of the Hugging Face Hub"),
}


class Setting(NamedTuple):
    """A setting with an option of its own: for which type, its flag, its key, and how to ask for it.

    `form`: text, a number, a list (the option repeats), pairs (`KEY=VALUE`, repeats) or yes/no.
    """

    kind: str
    flag: str
    key: str
    question: str
    form: Literal["text", "number", "list", "pairs", "yes"] = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    asked: bool = True

    @property
    def name(self) -> str:
        """The option as a Python argument."""
        return self.flag.replace("-", "_")


SETTINGS = (
    Setting("file_import", "path", "path", N_("the file or glob, from the task folder or from here"), required=True),
    Setting(
        "file_import",
        "format",
        "format",
        N_("its format, when the name does not tell"),
        choices=("csv", "tsv", "json", "jsonl", "parquet", "xlsx"),
        asked=False,
    ),
    Setting("file_import", "encoding", "encoding", N_("its encoding; looked for when left out"), asked=False),
    Setting("file_import", "delimiter", "delimiter", N_("what separates columns"), asked=False),
    Setting("file_import", "sheet", "sheet", N_("the sheet of a workbook"), asked=False),
    Setting(
        "database",
        "connection",
        "connection",
        N_("a SQLAlchemy URL; ${VAR} is read from the environment"),
        required=True,
    ),
    Setting("database", "query", "query", N_("the SELECT, or @FILE that holds it"), required=True),
    Setting(
        "database", "snapshot-date", "snapshot_date", N_("the date that :snapshot_date in the query means"), asked=False
    ),
    Setting("api", "endpoint", "endpoint", N_("the address"), required=True),
    Setting("api", "param", "params", N_("a parameter of the address"), "pairs"),
    Setting("api", "header", "headers", N_("a header"), "pairs", asked=False),
    Setting("api", "graphql", "query", N_("a GraphQL query, or @FILE that holds it"), asked=False),
    Setting("api", "records", "records", N_("where the rows are in an answer, as JMESPath")),
    Setting("api", "bearer", "auth.token", N_("a bearer token, as ${VAR}")),
    Setting(
        "api",
        "pages",
        "pagination.type",
        N_("how it pages; its details by --set pagination.KEY=VALUE"),
        choices=("offset", "page", "cursor", "link"),
    ),
    Setting("web_scrape", "url", "urls", N_("a page to begin with"), "list", required=True),
    Setting("web_scrape", "select", "selectors", N_("a column and its CSS selector, or SELECTOR@ATTR"), "pairs"),
    Setting("web_scrape", "row", "row", N_("the CSS selector of what is one row")),
    Setting("web_scrape", "keyword", "keywords", N_("a word of which one must stand in the text"), "list"),
    Setting("web_scrape", "follow", "follow", N_("the CSS selector of links to follow"), asked=False),
    Setting("web_scrape", "depth", "depth", N_("how many links deep to go"), "number", asked=False),
    Setting("web_scrape", "render", "render", N_("draw the pages in a browser first"), "yes", asked=False),
    Setting(
        "llm_generated",
        "prompt",
        "prompt_template",
        N_("the prompt, or @FILE that holds it; {count} is the number"),
        required=True,
    ),
    Setting("llm_generated", "model", "model", N_("the model"), required=True),
    Setting("llm_generated", "count", "count", N_("rows for each prompt and variation"), "number", required=True),
    Setting(
        "llm_generated", "provider", "provider", N_("whose model it is"), choices=("openai", "anthropic", "google")
    ),
    Setting("llm_generated", "base-url", "base_url", N_("the address of an OpenAI-compatible server")),
    Setting("llm_generated", "review", "validation.require_review", N_("have a person look at the rows first"), "yes"),
    Setting("huggingface", "dataset", "dataset", N_("the data set, such as owner/name"), required=True),
    Setting("huggingface", "revision", "revision", N_("its commit, tag or branch; written down as a commit")),
    Setting("huggingface", "subset", "subset", N_("its configuration, where it has several"), asked=False),
    Setting("huggingface", "split", "split", N_("which of its splits"), asked=False),
)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Every setting's option, and `--mapping` and `--set`, for a command that passes them to `given`."""
    sets = N_("Any other setting, as in data_source.yaml: --set pagination.size=50; repeatable.")
    pairs = N_("A field's column, or a JMESPath to it; repeatable.")
    function = frame.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=sets)(function)
    function = frame.option("--mapping", "pairs", multiple=True, metavar="FIELD=COLUMN", help=pairs)(function)
    for setting in reversed(SETTINGS):
        function = _option(setting)(function)
    return function


def of_kind(kind: str) -> list[Setting]:
    """The settings of one type of source."""
    return [setting for setting in SETTINGS if setting.kind == kind]


def given(kind: str, values: Mapping[str, Any], pairs: Sequence[str], sets: Sequence[str]) -> Found:
    """What the options say, by key path.

    Raises:
        click.UsageError: an option of another type of source, or a pair without `=`.
    """
    found: Found = {}
    for setting in SETTINGS:
        value = values.get(setting.name)
        if value in (None, (), False):
            continue
        if setting.kind != kind:
            raise click.UsageError(_("--{name} is not for sources of type {type}", name=setting.flag, type=kind))
        found.update(placed(setting, value))
    for key, value in frame.settings(sets).items():
        found[tuple(key.split("."))] = value
    for field, column in _pairs(pairs, "FIELD=COLUMN").items():
        found["mapping", field] = column
    return found


def placed(setting: Setting, value: Any) -> Found:
    """A setting's answer by its key path; a token brings the kind of authentication along."""
    path = tuple(setting.key.split("."))
    if setting.form == "pairs":
        return {path: _pairs(value, "KEY=VALUE")}
    extra: Found = {("auth", "type"): "bearer"} if setting.key == "auth.token" else {}
    return {**extra, path: list(value) if setting.form == "list" else _from_file(value)}


def nested(found: Mapping[KeyPath, Any]) -> dict[str, Any]:
    """Key paths as nested mappings."""
    whole: dict[str, Any] = {}
    for path, value in found.items():
        *parents, last = (str(key) for key in path)
        place = whole
        for key in parents:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise click.UsageError(_("{key} is set twice", key=key))
        if last in place:
            raise click.UsageError(_("{key} is set twice", key=".".join([*parents, last])))
        place[last] = value
    return whole


def _option(setting: Setting) -> Callable[[Any], Any]:
    kinds: dict[str, dict[str, Any]] = {
        "text": {"type": click.Choice(setting.choices) if setting.choices else str},
        "number": {"type": int},
        "list": {"multiple": True},
        "pairs": {"multiple": True, "metavar": "KEY=VALUE"},
        "yes": {"is_flag": True},
    }
    form = kinds[setting.form]
    return frame.option(f"--{setting.flag}", setting.name, help=setting.question, group=setting.kind, **form)


def _pairs(pairs: Sequence[str], form: str) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    wrong = next((pair for pair, parts in zip(pairs, split, strict=True) if not (parts[0] and parts[2])), None)
    if wrong is not None:
        raise click.UsageError(_("{pair} is not {form}", pair=wrong, form=form))
    return {name: value for name, _equals, value in split}


def _from_file(value: Any) -> Any:
    """`@FILE` stands for what is in the file."""
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    path = Path(value[1:])
    try:
        return path.read_text(encoding="utf-8").strip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(_("{path} cannot be read: {reason}", path=str(path), reason=str(error))) from error
