"""Rows of a SQL query, streamed and read-only, over any database SQLAlchemy has a driver for.

Passwords come from the environment (`${VAR}`) and never reach a message, a record or a hash.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nlp_skills import extras
from nlp_skills.data.sources import cells
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import Database
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
# Where a secret may stand in a URL: before, itself, and what follows it.
_PASSWORD = re.compile(r"(://(?:\$\{[^}]*\}|[^:/@])*:)(.*)(@)")
_CONFIDENTIAL = r"[^=&?]*(?:pass|pwd|token|secret|key)[^=&]*"
_PARAMETER = re.compile(rf"([?&]{_CONFIDENTIAL}=)([^&]*)()", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)


def fetch(source: Database, folder: TaskFolder) -> Generator[dict[str, Any], None, None]:
    """The query's rows, in constant memory.

    Raises:
        Invalid: the query fails or gives no rows, or a variable of the connection is not set.
        Unavailable: no driver, no database, or it refuses us.
    """
    extras.need("data", "sqlalchemy")
    from sqlalchemy.exc import DBAPIError

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
    if _literal_password(source):
        found.append(_("source {name}: a password stands in the file; write ${{VAR}} and set it outside", name=name))
    return found


def _literal_password(source: Database) -> bool:
    written = [match[2] for pattern in (_PASSWORD, _PARAMETER) for match in pattern.finditer(source.connection or "")]
    return any(text and not _VARIABLE.search(text) for text in (source.password, *written))


def masked(source: Database) -> dict[str, Any]:
    """The settings as written, variables not expanded, a literal password hidden: for records and hashes."""
    settings = source.model_dump(mode="json", exclude_none=True, exclude={"password"})
    if source.connection is not None:
        settings["connection"] = _PARAMETER.sub(_hidden, _PASSWORD.sub(_hidden, source.connection))
    return settings


def _hidden(match: re.Match[str]) -> str:
    variable = _VARIABLE.fullmatch(match[2])
    # Of ${NAME:-default} the name stays: the default is a literal too.
    return f"{match[1]}${{{variable[1]}}}{match[3]}" if variable else f"{match[1]}***{match[3]}"


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


def _url(source: Database, folder: TaskFolder) -> tuple[URL, list[str]]:
    """The connection with its variables filled in, and every value that must not be shown."""
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    secrets: list[str] = []

    def fill(text: str | None, key: str) -> str | None:
        return None if text is None else _VARIABLE.sub(lambda match: _variable(match, key, secrets), text)

    def _variable(match: re.Match[str], key: str, secrets: list[str]) -> str:
        name, default = match.groups()
        value = os.environ.get(name) or default
        if value is None:
            raise _unset(source, folder, name, key)
        secrets.append(value)
        return value

    if source.connection is None:
        parts = {key: fill(getattr(source, key), key) for key in ("driver", "user", "password", "host", "database")}
        secrets.append(parts["password"] or "")
        driver = parts["driver"] or ""
        url = URL.create(driver, parts["user"], parts["password"], parts["host"], source.port, parts["database"])
    else:
        try:
            url = make_url(fill(source.connection, "connection") or "")
        except ArgumentError as error:
            raise Invalid(
                _("connection is not a database URL"),
                file=folder.sources_path,
                line=_line(source, folder, "connection"),
                mend=_("write it like sqlite:///data/raw/reviews.db or postgresql://user:${DB_PASSWORD}@host/name"),
            ) from error
        secrets.append(str(url.password or ""))
        secrets += [str(value) for name, value in url.query.items() if re.search(_CONFIDENTIAL, name, re.IGNORECASE)]
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)), [s for s in secrets if s]


def _unset(source: Database, folder: TaskFolder, variable: str, key: str) -> Invalid:
    return Invalid(
        _("the environment variable {name} is not set", name=variable),
        file=folder.sources_path,
        line=_line(source, folder, key),
        cause=_("{key} of source {name} needs it", key=key, name=str(source.name)),
        mend=_("set it in the shell, such as: export {name}=…", name=variable),
    )


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
        line=_line(source, folder, "query"),
        cause=cause,
        mend=_("correct query: and try it with: nlp-skills data-source show"),
    )


def _words(error: Exception, secrets: list[str]) -> str:
    """The driver's own words, first line, without anything secret."""
    text = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _line(source: Database, folder: TaskFolder, key: str) -> int | None:
    """Where `key` of this source stands in data_source.yaml; None for a source that is not in it yet."""
    names = [entry.name for entry in folder.sources().sources]
    if source.name not in names:
        return None
    at = ("sources", names.index(source.name))
    found = yaml.read(Path(folder.sources_path)).lines
    return found.get((*at, key)) or found.get((*at, "config", key)) or found.get(at)
