"""Connections to databases: opened read-only, closed without waiting, and their errors in words."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nlp_skills import extras
from nlp_skills.data.sources.settings import line_of
from nlp_skills.data.sources.sql import Sql
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.source import Database
from nlp_skills.variables import VARIABLE, Variables, is_confidential
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, CursorResult, Dialect, Engine
    from sqlalchemy.exc import DBAPIError

CONNECT_SECONDS = 10

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mssql": "mssql+mssqlpython",
    "sqlserver": "mssql+mssqlpython",
}
_EXTRAS = {"psycopg": "data", "pymysql": "data", "mssql_python": "mssql"}
_PACKAGES = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
# How each driver is told to give up waiting for an answer to the first word.
_TIMEOUTS = {"psycopg": "connect_timeout", "pymysql": "connect_timeout", "mssqlpython": "timeout"}
_REFUSED = re.compile(
    r"password authentication failed|no password supplied|Access denied for user|Login failed|role .* does not exist",
    re.IGNORECASE,
)
_NO_DATABASE = re.compile(
    r"database .* does not exist|Unknown database|Cannot open database|Access denied .* to database", re.IGNORECASE
)
_FIT_FOR_URL = re.compile(r"(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*\Z", re.ASCII)
_NO_LIBRARY = re.compile(r"Failed to load the driver")
_LINE = re.compile(r"^LINE (\d+):|at line (\d+)|\bLine (\d+)\b", re.MULTILINE)


def connect(source: Database, folder: TaskFolder, secrets: Variables) -> Connection:
    """A connection that reads only; `source` has its variables filled in.

    SQLite is opened read-only, PostgreSQL and MySQL refuse writing in this transaction; SQL Server has no such
    thing, and nothing is ever committed.

    Raises:
        Invalid: the connection is no URL.
        Unavailable: no driver, no database, or it refuses us.
    """
    from sqlalchemy.exc import DBAPIError

    url = url_of(source, folder, secrets)
    engine = _engine(url, folder)
    try:
        connection = engine.connect()
        dialect = engine.dialect.name
        if dialect == "postgresql":
            return connection.execution_options(postgresql_readonly=True)
        if dialect in ("mysql", "mariadb"):
            _let_think(connection)
            connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            connection.rollback()
            connection.exec_driver_sql("START TRANSACTION READ ONLY")
    except (DBAPIError, OSError) as error:
        raise _no_connection(url, words(error, secrets)) from error
    return connection


def filled_url(url: str, secrets: Variables) -> str:
    """A connection with its variables filled in; a user or password that no URL could hold as it is gets encoded."""
    head, at, tail = url.partition("@")
    scheme, mark, user = head.partition("://")
    if not at or not mark:
        return secrets.fill(url)
    user = VARIABLE.sub(lambda found: _encoded(secrets.fill(found[0])), user)
    return f"{secrets.fill(scheme)}://{user}@{secrets.fill(tail)}"


def _encoded(value: str) -> str:
    """Whoever has encoded it already meant it so."""
    return value if _FIT_FOR_URL.match(value) else quote(value, safe="")


def _let_think(connection: Connection) -> None:
    """Only the greeting was urgent: PyMySQL's one time-out for reading would stop a long query too."""
    driver: Any = connection.connection.dbapi_connection
    if connection.dialect.driver == "pymysql" and "read_timeout" in _arguments(connection.engine.url):
        driver._read_timeout = None


def url_of(source: Database, folder: TaskFolder, secrets: Variables) -> URL:
    """The connection of either form as a URL; whatever is secret in it is hidden from now on.

    Raises:
        Invalid: it is no URL.
    """
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if source.connection is None:
        port = None if source.port is None else int(source.port)
        driver, options = source.driver or "", source.options
        url = URL.create(driver, source.user, source.password, source.host, port, source.database, options)
    else:
        try:
            url = make_url(source.connection)
        except (ArgumentError, ValueError) as error:
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
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def bound(query: Sql, date: dt.date, dialect: Dialect) -> tuple[str, Any]:
    """The query and its parameters with `:snapshot_date` as this database's driver takes it."""
    style = dialect.paramstyle
    marker = {"qmark": "?", "format": "%s", "named": ":snapshot_date"}.get(style, "%(snapshot_date)s")

    def escaped(text: str) -> str:
        return text.replace("%", "%%") if "%" in marker else text

    written, count = query.with_marker(marker, escaped)
    # SQLite has no dates: it compares text.
    value = date.isoformat() if dialect.name == "sqlite" else date
    return written, ((value,) * count if style in ("qmark", "format") else {"snapshot_date": value})


def abandon(connection: Connection, result: CursorResult[Any]) -> None:
    """Close in the middle of a result."""
    cursor: Any = result.cursor
    if connection.dialect.driver == "pymysql" and cursor is not None:
        # It would read all of the rest first, and has no public way to be told not to.
        if pending := cursor._result:
            pending.unbuffered_active = False
        connection.invalidate()
    result.close()


def words(error: Exception, secrets: Variables) -> str:
    """The driver's own words, first line, without anything secret."""
    said = getattr(error, "orig", None) or error
    if len(said.args) > 1 and isinstance(said.args[0], int):
        said = " ".join(f"{said.args[1]} ({said.args[0]})".split())
    return secrets.hide(str(said).strip().split("\n", 1)[0])


def lost(error: DBAPIError) -> bool:
    """Whether the connection broke, as opposed to a query that is wrong."""
    return error.connection_invalidated


def error_line(error: DBAPIError) -> int | None:
    """The line of the query that the server complains of, from 1."""
    found = _LINE.search(str(error.orig))
    return next(int(group) for group in found.groups() if group) if found else None


def _engine(url: URL, folder: TaskFolder) -> Engine:
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        if url.get_backend_name() == "sqlite":
            opener = _sqlite_opener(url, folder)
            return create_engine("sqlite://", creator=opener, poolclass=NullPool)
        return create_engine(url, poolclass=NullPool, connect_args=_arguments(url))
    except ModuleNotFoundError as error:
        raise _no_driver(url, error.name or "") from error
    except (NoSuchModuleError, ArgumentError) as error:
        raise Unavailable(
            _("databases of kind {name} are not known", name=url.drivername),
            mend=_("use sqlite, postgresql, mysql, mssql or another SQLAlchemy dialect that is installed"),
        ) from error


def _arguments(url: URL) -> dict[str, Any]:
    """What the driver is told beside the URL."""
    driver = url.get_driver_name()
    name = _TIMEOUTS.get(driver)
    found: dict[str, Any] = {name: CONNECT_SECONDS} if name and name not in url.query else {}
    if driver == "pymysql":
        found |= {} if "read_timeout" in url.query else {"read_timeout": CONNECT_SECONDS}
        # It would write the password as Latin-1.
        found |= {"password": str(url.password).encode("utf-8")} if url.password else {}
    return found


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


def _no_driver(url: URL, module: str) -> Unavailable:
    package = _PACKAGES.get(module, module)
    known = _EXTRAS.get(module)
    return Unavailable(
        _("no driver for {name} is installed", name=url.drivername),
        cause=_("not installed: {modules}", modules=module),
        mend=extras.install_command(known) if known else f"{sys.executable} -m pip install '{package}'",
    )


def _no_connection(url: URL, cause: str) -> Unavailable:
    shown = url.set(query={}).render_as_string(hide_password=True)
    if _REFUSED.search(cause) and not _NO_DATABASE.search(cause):
        message = _("the database {name} refuses this user", name=shown)
        mend = _("check user and password; a password belongs in the environment or .env: ${DB_PASSWORD}")
    elif _NO_DATABASE.search(cause):
        message = _("the server has no database {name} for us", name=str(url.database))
        mend = _("check the database's name, and that this user may read it")
    elif _NO_LIBRARY.search(cause):
        message = _("the driver of {name} lacks a library of the system", name=url.drivername)
        mend = "sudo apt-get install libltdl7 libgssapi-krb5-2"
    else:
        message = _("the database {name} cannot be reached", name=shown)
        mend = _("check host and port, and that the server runs and lets us through")
    return Unavailable(message, cause=cause, mend=mend)
