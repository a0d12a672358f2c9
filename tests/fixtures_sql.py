"""Real PostgreSQL and MariaDB servers on free ports, started once, with a table of labelled Chinese reviews."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packages import program

PASSWORD = "p@ss:w/rd 密碼"
_THINGS = ("相機", "耳機", "鍵盤", "背包", "水壺", "檯燈", "雨傘", "手錶", "音箱", "書桌")
_SAID = {
    "positive": ("很好用", "品質超乎預期", "出貨快又完整", "家人都喜歡"),
    "neutral": ("普普通通", "和照片差不多", "沒有特別的感覺", "價格一般"),
    "negative": ("三天就壞了", "客服不回訊息", "顏色完全不對", "包裝破損"),
}
LABELS = tuple(_SAID)


def labelled(count: int) -> list[tuple[int, str, str, str]]:
    """(id, text, label, day), 30 days of January 2026 in turn."""
    return [
        (
            number,
            f"第{number}號訂單:這個{_THINGS[number % 10]}{_SAID[LABELS[number % 3]][number // 3 % 4]}。",
            LABELS[number % 3],
            f"2026-01-{number % 30 + 1:02d}",
        )
        for number in range(count)
    ]


class Server(NamedTuple):
    """A database server; `url` has user and password in it."""

    driver: str
    port: int
    user: str
    password: str
    database: str

    @property
    def url(self) -> str:
        from sqlalchemy import URL

        made = URL.create(self.driver, self.user, self.password, "127.0.0.1", self.port, self.database)
        return made.render_as_string(hide_password=False)

    def run(self, *statements: str, rows: tuple[str, list[tuple[Any, ...]]] | None = None) -> list[Any]:
        """Execute statements, then `rows` = (an INSERT, its values); the last statement's rows."""
        from sqlalchemy import NullPool, create_engine

        found: list[Any] = []
        names = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
        secret = {"password": self.password.encode("utf-8")} if self.driver == "mariadb" else {}
        url = self.url.replace(self.driver, names[self.driver], 1)
        engine = create_engine(url, poolclass=NullPool, connect_args=secret)
        with engine.begin() as connection:
            for statement in statements:
                result = connection.execution_options(no_parameters=True).exec_driver_sql(statement)
                found = list(result) if result.returns_rows else []
            if rows:
                connection.exec_driver_sql(*rows)
        return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def as_user(name: str) -> list[str]:
    """What goes before a command that root must not run."""
    return [] if os.geteuid() else ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]


def binary(name: str, package: str) -> str:
    """A server program, also where Debian keeps it off the PATH."""
    hidden = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(hidden[-1]) if hidden else program((name,), package)


def checked(command: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/tmp"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{command[:6]}: {done.stdout[-500:]}{done.stderr[-2000:]}"


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that the servers' own users may enter, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="nlp-sql-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql(server_folder: Path) -> Iterator[Server]:
    """PostgreSQL with passwords (SCRAM) and the table `reviews`."""
    if not sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        program(("psql",), "postgresql")
    data, port = server_folder / "pg", free_port()
    data.mkdir()
    secret = server_folder / "pg-password"
    secret.write_text(PASSWORD, encoding="utf-8")
    if not os.geteuid():
        shutil.chown(data, "postgres", "postgres")
        shutil.chown(secret, "postgres")
    user = as_user("postgres")
    init = ["-D", str(data), "-U", "nlp", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-A", "scram-sha-256"]
    checked([*user, binary("initdb", "postgresql"), *init, f"--pwfile={secret}"])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {data} -c fsync=off"
    control = [*user, binary("pg_ctl", "postgresql"), "-D", str(data), "-w", "-t", "60"]
    checked([*control, "-l", str(data / "log"), "-o", options, "start"])
    try:
        Server("postgresql", port, "nlp", PASSWORD, "postgres").run("SELECT 1")
        yield filled(Server("postgresql", port, "nlp", PASSWORD, "postgres"))
    finally:
        checked([*control, "-m", "immediate", "stop"])


@pytest.fixture(scope="session")
def mariadb(server_folder: Path) -> Iterator[Server]:
    """MariaDB with passwords and the table `reviews`."""
    server = program(("mariadbd", "mysqld"), "mariadb-server")
    data, port, socket_ = server_folder / "maria", free_port(), server_folder / "m.sock"
    data.mkdir()
    server_folder.chmod(0o777)
    if not os.geteuid():
        shutil.chown(data, "mysql", "mysql")
    user = as_user("mysql")
    auth = "--auth-root-authentication-method=normal"
    checked([*user, "mariadb-install-db", "--no-defaults", f"--datadir={data}", auth, "--skip-test-db"])
    arguments = [f"--datadir={data}", f"--port={port}", f"--socket={socket_}", "--bind-address=127.0.0.1"]
    with open(server_folder / "maria.log", "wb") as log:
        process = subprocess.Popen(
            [*user, server, "--no-defaults", *arguments, "--character-set-server=utf8mb4"], stdout=log, stderr=log
        )
    try:
        root = Server("mariadb", port, "root", "", "")
        _wait(root, process)
        root.run(
            "CREATE DATABASE shop CHARACTER SET utf8mb4",
            f"CREATE USER nlp@'%' IDENTIFIED BY '{PASSWORD}'",
            "GRANT ALL ON *.* TO nlp@'%'",
        )
        yield filled(Server("mariadb", port, "nlp", PASSWORD, "shop"))
    finally:
        process.terminate()
        process.wait(30)


def filled(server: Server) -> Server:
    """The server with 90 rows in `reviews`."""
    server.run(
        "CREATE TABLE reviews (id integer PRIMARY KEY, body text, label varchar(20), day date)",
        rows=("INSERT INTO reviews VALUES (%s, %s, %s, %s)", labelled(90)),
    )
    return server


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    from sqlalchemy.exc import OperationalError

    for _attempt in range(150):
        assert process.poll() is None, "the server ended"
        try:
            server.run("SELECT 1")
            return
        except OperationalError:
            time.sleep(0.2)
    pytest.fail("the server did not answer")
