"""Rows of a SQL query, streamed and read-only, over any database SQLAlchemy has a driver for.

Passwords come from the environment (`${VAR}`) and never reach a message, a record or a hash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills import extras
from nlp_skills.data.sources import Fetching, cells
from nlp_skills.data.sources import connecting as to
from nlp_skills.data.sources.settings import filled, line_of
from nlp_skills.data.sources.sql import Sql
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.source import Database
from nlp_skills.variables import Variables
from nlp_skills.workspace import digests
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.exc import DBAPIError

VERSION = 2

_BUFFER = 1000


def fetch(source: Database, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The query's rows, in constant memory.

    Raises:
        Invalid: the query fails or gives no rows, or a variable of the connection is not set.
        Unavailable: no driver, no database, it refuses us, or the connection was lost.
    """
    extras.need("data", "sqlalchemy")
    from sqlalchemy.exc import DBAPIError

    found, secrets = _filled(source, fetching.folder)
    query = _Query(found, fetching.folder, secrets)
    query.check()
    with contextlib.closing(to.connect(found, fetching.folder, secrets)) as connection:
        fetching.record["database"] = connection.dialect.name
        if found.snapshot_date:
            fetching.record["snapshot_date"] = found.snapshot_date.isoformat()
        try:
            yield from query.rows(connection)
        except DBAPIError as error:
            raise query.refused(error) from error


def warnings(source: Database) -> list[str]:
    """An order that is not fixed, and a snapshot date that the query does not use."""
    found = []
    name = str(source.name)
    query = _sql(source)
    if query.limits_unordered:
        found.append(
            _("source {name}: LIMIT or TOP without ORDER BY takes other rows next time; add ORDER BY", name=name)
        )
    elif query.unordered:
        found.append(
            _("source {name}: without ORDER BY its rows come in any order, so that its raw file differs", name=name)
        )
    if source.snapshot_date is not None and not query.takes_snapshot_date:
        found.append(_("source {name}: the query does not use :snapshot_date", name=name))
    return found


def inputs(source: Database, folder: TaskFolder) -> dict[str, str]:
    """The file of a SQLite database, and what is written but not yet in it; nothing for a server.

    Raises:
        Invalid: a variable of the connection is not set, or it is no URL.
        Unavailable: SQLAlchemy is not installed.
    """
    found, secrets = _filled(source, folder)
    if "sqlite" not in f"{found.connection} {found.driver}".lower():
        return {}  # known without loading SQLAlchemy
    extras.need("data", "sqlalchemy")
    url = to.url_of(found, folder, secrets)
    if url.get_backend_name() != "sqlite" or not url.database:
        return {}
    names = (url.database, f"{url.database}-wal")
    present = [name for name in names if (folder.root / name).is_file() and (folder.root / name).stat().st_size]
    hashes = digests.of(folder, [folder.root / name for name in present])
    return {name: hashes[folder.root / name] for name in present if folder.root / name in hashes}


@dataclass
class _Query:
    """A source's query, and what is said when it fails."""

    source: Database
    folder: TaskFolder
    secrets: Variables
    count: int = 0

    def check(self) -> None:
        """Refuse what is no query before anything is asked."""
        query = _sql(self.source)
        if word := query.changing_word:
            raise self.problem(_("it begins with {word}; write a SELECT", word=word))
        if query.several_statements:
            raise self.problem(_("it is several statements; write one SELECT"))
        if self.source.snapshot_date is None and query.takes_snapshot_date:
            raise Invalid(
                _("the query of source {name} uses :snapshot_date, which is not set", name=str(self.source.name)),
                file=self.folder.sources_path,
                line=line_of(self.source, self.folder, "query"),
                mend=_("add snapshot_date: YYYY-MM-DD to the source"),
            )

    def rows(self, connection: Connection) -> Iterator[dict[str, Any]]:
        """Streamed; a reader that stops early leaves the rest on the server."""
        result = self._run(connection)
        ended = False
        try:
            columns = self._columns(result)
            for self.count, values in enumerate(result, 1):
                try:
                    yield {name: cells.plain(value) for name, value in zip(columns, values, strict=True)}
                except ValueError as error:
                    cause = _("row {number}: {reason}", number=self.count, reason=str(error))
                    raise self.problem(cause) from error
            ended = True
        finally:
            if not ended:
                to.abandon(connection, result)
        if not self.count:
            raise self.problem(_("it found no rows"))

    def _run(self, connection: Connection) -> CursorResult[Any]:
        options = connection.execution_options(stream_results=True, max_row_buffer=_BUFFER)
        query = _sql(self.source)
        if self.source.snapshot_date is None or not query.takes_snapshot_date:
            # The driver gets the query as it is: ':' and '%' in it are not parameters.
            return options.execution_options(no_parameters=True).exec_driver_sql(query.text)
        return options.exec_driver_sql(*to.bound(query, self.source.snapshot_date, connection.dialect))

    def _columns(self, result: CursorResult[Any]) -> list[str]:
        if not result.returns_rows:
            raise self.problem(_("it returns no rows; write a SELECT"))
        columns = list(result.keys())
        repeated = next((name for name in columns if columns.count(name) > 1), None)
        if repeated is not None:
            raise self.problem(_("it names the column {name} twice", name=repeated))
        return columns

    def refused(self, error: DBAPIError) -> Invalid | Unavailable:
        """What the database said to the query, or that it is gone."""
        words = to.words(error, self.secrets)
        if to.lost(error):
            return Unavailable(
                _("the connection to the database was lost"),
                cause=_("after {count} rows: {reason}", count=self.count, reason=words),
                mend=_("run this again; what was there before is as it was"),
            )
        return self.problem(words, line=self._line(to.error_line(error)))

    def problem(self, cause: str, line: int | None = None) -> Invalid:
        """The query is to blame."""
        return Invalid(
            _("the query of source {name} failed", name=str(self.source.name)),
            file=self.folder.sources_path,
            line=line or line_of(self.source, self.folder, "query"),
            cause=cause,
            mend=_("correct query: and try it with: nlp-skills data-source show"),
        )

    def _line(self, number: int | None) -> int | None:
        """A line of the query as one of data_source.yaml, where `query: |` keeps them apart."""
        at = line_of(self.source, self.folder, "query")
        if number is None or at is None:
            return None
        written = self.folder.sources_path.read_text(encoding="utf-8").split("\n")
        block = written[at - 1].partition("query:")[2].strip().startswith("|")
        return at + number if block else None


def _filled(source: Database, folder: TaskFolder) -> tuple[Database, Variables]:
    found, secrets = filled(source, folder)
    if source.connection is None:
        return found, secrets
    return found.model_copy(update={"connection": to.filled_url(source.connection, secrets)}), secrets


def _sql(source: Database) -> Sql:
    return Sql(source.query, mysql=(source.connection or source.driver or "").startswith(("mysql", "mariadb")))
