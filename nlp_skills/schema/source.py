"""The entries under `sources:` of data_source.yaml: one model a type of source.

Text settings may hold `${VAR}` or `${VAR:-default}`; they are filled in when the source is fetched, never before.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema.document import Model

SOURCE_NAME = re.compile(r"[^\W_][\w.-]*\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
# A port may come from the environment as everything else does.
Port = Annotated[int, Field(ge=1, le=65535)] | Annotated[str, Field(pattern=r"^\$\{\w+(:-\d+)?\}$")]


class _Source(Model):
    """What every source has. `mapping` names a task field and the source's column for it, or a JMESPath to it."""

    name: str | None = None
    mapping: dict[str, str] = Field(default_factory=dict)

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras of nlp-skills that fetching needs."""
        return ()

    @field_validator("name")
    @classmethod
    def _safe_name(cls, name: str | None) -> str | None:
        if name is not None and (not SOURCE_NAME.match(name) or ".." in name):
            raise ValueError(_("a source name is letters, digits, '-', '_' and '.', starting with a letter or digit"))
        return name


class FileImport(_Source):
    """Rows in files; `path` is relative to the task folder, or absolute, and may be a glob.

    `format` and compression follow the name where not given; `encoding` is looked for where not given.
    `sheet` names or numbers (from 1) a workbook's sheet; `records` is the JMESPath of the list in a JSON file.
    """

    type: Literal["file_import"]
    path: str
    format: Literal["csv", "tsv", "json", "jsonl", "parquet", "xlsx"] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | int | None = None
    records: str | None = None

    @property
    def extras(self) -> tuple[str, ...]:
        """See the base class."""
        beyond_core = self.format in ("parquet", "xlsx") or self.path.lower().endswith((".parquet", ".xlsx", ".zst"))
        return ("files",) if beyond_core else ()


class Database(_Source):
    """Rows of a query. `connection` is a SQLAlchemy URL; the long form names its parts instead.

    `snapshot_date` is bound to `:snapshot_date` in the query.
    """

    type: Literal["database"]
    connection: str | None = None
    driver: str | None = None
    host: str | None = None
    port: Port | None = None
    database: str | None = None
    user: str | None = None
    password: str | None = None
    options: dict[str, str] = Field(default_factory=dict)
    query: str
    snapshot_date: dt.date | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Database:
        if (self.connection is None) == (self.driver is None):
            raise ValueError(_("give either connection: URL, or driver: with host, database and so on"))
        return self

    @property
    def extras(self) -> tuple[str, ...]:
        """See the base class."""
        return ("mssql",) if (self.connection or self.driver or "").startswith("mssql") else ("data",)


class BearerAuth(Model):
    """`Authorization: Bearer TOKEN`."""

    type: Literal["bearer"]
    token: str


class BasicAuth(Model):
    """HTTP basic authentication."""

    type: Literal["basic"]
    user: str
    password: str


class ApiKeyAuth(Model):
    """A key in a header or in the query, under `name`."""

    type: Literal["api_key"]
    name: str = "X-API-Key"
    key: str
    place: Literal["header", "query"] = Field(default="header", alias="in")


Auth = Annotated[BearerAuth | BasicAuth | ApiKeyAuth, Field(discriminator="type")]


class OffsetPages(Model):
    """`?offset=0&limit=100`, `?offset=100&…` until a page is empty or shorter than another, or `total` is reached.

    `total` is the JMESPath of the number of all rows. With `in: body` a name may be a path such as `variables.offset`.
    """

    type: Literal["offset"]
    offset_param: str = "offset"
    limit_param: str = "limit"
    limit: Count = 100
    total: str | None = None
    place: Literal["query", "body"] = Field(default="query", alias="in")


class NumberedPages(Model):
    """`?page=1`, `?page=2` until a page is empty or 404; with `size`, also until one is shorter than another."""

    type: Literal["page"]
    page_param: str = "page"
    start: int = 1
    size_param: str | None = None
    size: Count | None = None
    place: Literal["query", "body"] = Field(default="query", alias="in")


class CursorPages(Model):
    """Each answer holds, at the JMESPath `cursor`, what the next request says in `param`; none ends it.

    With `in: body` `param` may be a path such as `variables.after`.
    """

    type: Literal["cursor"]
    cursor: str
    param: str
    place: Literal["query", "body"] = Field(default="query", alias="in")


class LinkPages(Model):
    """The next address stands in the `Link` header (rel=next), or in the answer at the JMESPath `path`."""

    type: Literal["link"]
    path: str | None = None


Pagination = Annotated[OffsetPages | NumberedPages | CursorPages | LinkPages, Field(discriminator="type")]


class ApiRequest(Model):
    """One of several requests to the same API; what it leaves out is the source's own."""

    path: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    body: dict[str, Any] | None = None
    variables: dict[str, Any] = Field(default_factory=dict)


class Api(_Source):
    """Rows of a REST or GraphQL API.

    `records` is the JMESPath of the list of rows in an answer; without it the answer is the list, or holds
    exactly one. `rate_limit` is in requests a second, `timeout` in seconds. A GraphQL source has `query`.
    """

    type: Literal["api"]
    endpoint: str
    method: Literal["GET", "POST"] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] | None = None
    query: str | None = None
    variables: dict[str, Any] = Field(default_factory=dict)
    requests: list[ApiRequest] = Field(default_factory=list)
    auth: Auth | None = None
    pagination: Pagination | None = None
    records: str | None = None
    max_pages: Count = 1000
    max_rows: Count | None = None
    rate_limit: Positive | None = None
    timeout: Positive = 30

    @model_validator(mode="after")
    def _one_body(self) -> Api:
        if self.query is not None and (self.body is not None or self.method == "GET"):
            raise ValueError(_("query: is GraphQL, which is posted; leave out body: and method:"))
        if self.body is not None and self.method == "GET":
            raise ValueError(_("a GET request has no body; use params:, or method: POST"))
        return self

    @property
    def extras(self) -> tuple[str, ...]:
        """See the base class."""
        return ("web",)


class WebScrape(_Source):
    """Rows taken from web pages; robots.txt is obeyed.

    `selectors` name a column and its CSS selector, `SELECTOR@ATTRIBUTE` takes an attribute; with `row` they
    look inside each element that matches it. Without selectors a page gives its main text. Pages without any
    of `keywords` are passed over. `rate_limit` is in requests a second, `timeout` in seconds. `follow` is the
    CSS selector of links to go to, within the site and `depth` steps. `render` draws pages in a browser first.
    """

    type: Literal["web_scrape"]
    urls: Annotated[list[str], Field(min_length=1)]
    selectors: dict[str, str] = Field(default_factory=dict)
    row: str | None = None
    keywords: list[str] = Field(default_factory=list)
    rate_limit: Positive = 1.0
    follow: str | None = None
    depth: Annotated[int, Field(ge=0)] = 0
    max_pages: Count = 100
    render: bool = False
    wait_for: str | None = None
    encoding: str | None = None
    user_agent: str | None = None
    timeout: Positive = 30

    @model_validator(mode="after")
    def _row_needs_selectors(self) -> WebScrape:
        if self.row is not None and not self.selectors:
            raise ValueError(_("row: needs selectors: for what to take from each row"))
        if self.wait_for is not None and not self.render:
            raise ValueError(_("wait_for: needs render: true"))
        return self

    @property
    def extras(self) -> tuple[str, ...]:
        """See the base class."""
        return ("browser",) if self.render else ("web",)


class Price(Model):
    """What a model costs, in US dollars for a million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class LlmSettings(Model):
    """Which model is asked, and how. Without `base_url` the provider's own address is used.

    `max_cost` is in US dollars: asking stops before it is passed. `concurrency` is how many requests run at once.
    """

    model: str
    provider: Literal["openai", "anthropic", "google"] = "openai"
    base_url: str | None = None
    api_key: str | None = None
    system_prompt: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Count = 2048
    seed: int | None = 42
    timeout: Positive = 120
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    price: Price | None = None
    max_cost: Positive | None = None


class Review(Model):
    """Whether a person looks at generated rows before they count.

    `review_sample` is the share of rows that must be looked at; the others follow when at least `accept_rate` of
    those was accepted (edited ones count as accepted), else everything must be looked at.
    """

    require_review: bool = False
    review_sample: Share = 1.0
    accept_rate: Share = 0.9


class LlmGenerated(_Source, LlmSettings):
    """Rows a language model writes: `count` for each of `prompt_template` (one or several) × `variations`.

    A template may use `{count}` (the rows asked for in one request) and the keys of the variations; keys that it does
    not use are told below it, and a key that is a field of the task has the same value in every row.
    `batch_size` rows are asked for at a time, with `examples` of the earlier ones shown, and a row is refused
    when its similarity to an earlier one reaches `near` (Jaccard similarity of character 3-grams).
    """

    type: Literal["llm_generated"]
    prompt_template: str | Annotated[list[str], Field(min_length=1)]
    variations: list[dict[str, str | int | float]] = Field(default_factory=list)
    count: Count
    batch_size: Annotated[int, Field(ge=1, le=100)] = 10
    examples: Annotated[int, Field(ge=0)] = 5
    near: Share = 0.8
    validation: Review = Field(default_factory=Review)

    @property
    def extras(self) -> tuple[str, ...]:
        """See the base class."""
        return ("llm",)

    @property
    def prompt_templates(self) -> list[str]:
        """The templates as a list."""
        return [self.prompt_template] if isinstance(self.prompt_template, str) else self.prompt_template


class HuggingFace(_Source):
    """A data set of the Hugging Face Hub at a pinned revision (a commit, or a tag that stands for one)."""

    type: Literal["huggingface"]
    dataset: str
    revision: str
    subset: str | None = None
    split: str = "train"
    token: str | None = None
    max_rows: Count | None = None

    @property
    def extras(self) -> tuple[str, ...]:
        """See the base class."""
        return ("hub",)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which cannot move."""
        return bool(_COMMIT.match(self.revision))


Source = Annotated[
    FileImport | Database | Api | WebScrape | LlmGenerated | HuggingFace,
    Field(discriminator="type"),
]
