"""Rows of a SQL query, streamed and read-only, over any database SQLAlchemy has a driver for.

Passwords come from the environment (`${VAR}`) and never reach a message, a record or a hash.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nlp_skills import extras
from nlp_skills.data.sources import Fetching, cells
from nlp_skills.data.sources.settings import filled, line_of
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.source import Database
from nlp_skills.variables import Variables, is_confidential
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)


VERSION = 1


def fetch(source: Database, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The query's rows, in constant memory.

    Raises:
        Invalid: the query fails or gives no rows, or a variable of the connection is not set.
        Unavailable: no driver, no database, or it refuses us.
    """
    extras.need("data", "sqlalchemy")
    from sqlalchemy.exc import DBAPIError

    folder = fetching.folder
    url, secrets = _url(source, folder)
    engine = _engine(url, folder)
    try:
        connection = engine.connect()
    except (DBAPIError, OSError) as error:
        raise _no_connection(url, _words(error, secrets)) from error
    with contextlib.closing(connection):
        try:
            yield from _rows(connection, source, folder)
        except DBAPIError as error:
            raise _query_problem(source, folder, _words(error, secrets)) from error


def warnings(source: Database) -> list[str]:
    """A LIMIT without ORDER BY (the database may choose other rows every time); a password in the file."""
    found = []
    name = str(source.name)
    query = _QUOTED.sub(" ", source.query).upper()
    limited = re.search(r"\bLIMIT\b|\bFETCH\s+(FIRST|NEXT)\b|\bTOP\s*\(?\s*\d", query)
    if limited and not re.search(r"\bORDER\s+BY\b", query):
        found.append(_("source {name}: LIMIT without ORDER BY may fetch other rows next time", name=name))
    return found


def _rows(connection: Connection, source: Database, folder: TaskFolder) -> Iterator[dict[str, Any]]:
    _read_only(connection)
    # The driver gets the query as it is: ':' and '%' in it are not parameters.
    options = connection.execution_options(stream_results=True, max_row_buffer=1000, no_parameters=True)
    result = options.exec_driver_sql(source.query)
    if not result.returns_rows:
        raise _query_problem(source, folder, _("it returns no rows; write a SELECT"))
    columns = list(result.keys())
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise _query_problem(source, folder, _("it names the column {name} twice", name=repeated))
    count = 0
    for count, values in enumerate(result, 1):
        try:
            yield {name: cells.plain(value) for name, value in zip(columns, values, strict=True)}
        except ValueError as error:
            cause = _("row {number}: {reason}", number=count, reason=str(error))
            raise _query_problem(source, folder, cause) from error
    if not count:
        raise _query_problem(source, folder, _("it found no rows"))


def _read_only(connection: Connection) -> None:
    """SQLite is opened read-only; the servers are asked to refuse writing. We never commit either way."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    elif dialect in ("mysql", "mariadb"):
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.rollback()


def _url(source: Database, folder: TaskFolder) -> tuple[URL, Variables]:
    """The connection with its variables filled in, and what hides them again."""
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    found, secrets = filled(source, folder)
    if found.connection is None:
        port = None if found.port is None else int(found.port)
        url = URL.create(found.driver or "", found.user, found.password, found.host, port, found.database)
    else:
        try:
            url = make_url(found.connection)
        except ArgumentError as error:
            raise Invalid(
                _("connection is not a database URL"),
                file=folder.sources_path,
                line=line_of(source, folder, "connection"),
                mend=_("write it like sqlite:///data/raw/reviews.db or postgresql://user:${DB_PASSWORD}@host/name"),
            ) from error
        secrets.conceal(str(url.password or ""), name="password")
        for name, value in url.query.items():
            if is_confidential(name):
                secrets.conceal(str(value), name=name)
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)), secrets


def _engine(url: URL, folder: TaskFolder) -> Engine:
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        if url.get_backend_name() == "sqlite":
            opener = _sqlite_opener(url, folder)
            return create_engine("sqlite://", creator=opener, poolclass=NullPool)
        return create_engine(url, poolclass=NullPool)
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(error.name or "", error.name or "")
        raise Unavailable(
            _("no driver for {name} is installed", name=url.drivername),
            cause=_("not installed: {modules}", modules=str(error.name)),
            mend=f"{sys.executable} -m pip install '{package}'",
        ) from error
    except (NoSuchModuleError, ArgumentError) as error:
        raise Unavailable(
            _("databases of kind {name} are not known", name=url.drivername),
            mend=_("use sqlite, postgresql, mysql or another SQLAlchemy dialect that is installed"),
        ) from error


def _sqlite_opener(url: URL, folder: TaskFolder) -> Any:
    """Opens the file read-only; a file that is not there is an error and is not made."""
    path = (folder.root / (url.database or "")).resolve()
    if not path.is_file():
        raise Unavailable(
            _("the database is not there"),
            file=path,
            cause=_("a relative SQLite path starts at the task folder"),
            mend=_("put the file there, or correct connection: in data_source.yaml"),
        )
    return lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)


def _no_connection(url: URL, cause: str) -> Unavailable:
    return Unavailable(
        _("the database {name} cannot be reached", name=url.render_as_string(hide_password=True)),
        cause=cause,
        mend=_("check host, port, name and password, and that the server runs"),
    )


def _query_problem(source: Database, folder: TaskFolder, cause: str) -> Problem:
    return Invalid(
        _("the query of source {name} failed", name=str(source.name)),
        file=folder.sources_path,
        line=line_of(source, folder, "query"),
        cause=cause,
        mend=_("correct query: and try it with: nlp-skills data-source show"),
    )


def _words(error: Exception, secrets: Variables) -> str:
    """The driver's own words, first line, without anything secret."""
    return secrets.hide(str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0])
