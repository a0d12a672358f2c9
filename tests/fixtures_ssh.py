"""A real OpenSSH server on loopback, and a link to it that can be cut, frozen and mended."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import pwd
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_sql import free_port
from packages import program


class Link:
    """A port of this machine that leads to another one, until it is cut.

    `cut` ends every connection and refuses new ones; `freeze` lets them be, and nothing passes; `mend` ends both.
    `limit` cuts it by itself after so many more bytes.
    """

    def __init__(self, to: int) -> None:
        self.to, self.up, self.frozen = to, True, False
        self.passed = 0
        self.limit: int | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.up = False
        with self._lock:
            for pair in self._pairs:
                for one in pair:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        self.frozen = True

    def mend(self) -> None:
        self.up, self.frozen, self.limit = True, False, None

    def close(self) -> None:
        self.cut()
        # Whoever waits in accept() is woken; left there, it may take what comes for the next link of the same number.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _address = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        if not self.up:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.to))
        except OSError:
            near.close()
            return
        with self._lock:
            self._pairs.add((near, far))
        try:
            self._pass_on(near, far)
        except OSError:
            pass
        finally:
            with self._lock:
                self._pairs.discard((near, far))
            near.close()
            far.close()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        while self.up:
            if self.frozen:
                time.sleep(0.02)
                continue
            for one in select.select([near, far], [], [], 0.2)[0]:
                found = one.recv(1 << 16)
                if not found or not self.up:
                    return
                (far if one is near else near).sendall(found)
                self.passed += len(found)
                if self.limit is not None:
                    self.limit -= len(found)
                    if self.limit <= 0:
                        self.cut()


class Sshd:
    """The server: its port, its key as known_hosts wants it, and the key that is let in.

    `settings` are added to sshd_config, or leave out what is there: `Subsystem=None`.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.settings = folder, settings
        self.port = free_port()
        self.key = folder / "id_ed25519"
        # What starts it, such as `unshare`.
        self.under: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        _keygen(self.key)
        self.new_host_key()

    def new_host_key(self) -> None:
        (self.folder / "host_key").unlink(missing_ok=True)
        (self.folder / "host_key.pub").unlink(missing_ok=True)
        _keygen(self.folder / "host_key")

    def start(self) -> None:
        settings: dict[str, object] = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            # The second is for users who cannot read where the tests are.
            "AuthorizedKeysFile": f"{self.key}.pub .ssh/authorized_keys",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "MaxStartups": "100",
            "MaxSessions": "100",
            "Subsystem": "sftp internal-sftp",
        }
        path = self.folder / "sshd_config"
        if not os.geteuid():
            # The file is in a folder of root's, and sshd reads it as whoever logs in.
            settings["AuthorizedKeysCommand"] = f"/bin/cat {self.key}.pub"
            settings["AuthorizedKeysCommandUser"] = "root"
        if _release() >= (9, 8):
            # It would shut out whoever was refused a few times, which is what tests are about.
            settings["PerSourcePenalties"] = "no"
        settings.update(self.settings)
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items() if value is not None))
        if not os.geteuid():
            Path("/run/sshd").mkdir(exist_ok=True)
        command = [
            *self.under,
            program(("/usr/sbin/sshd", "sshd"), "openssh-server"),
            "-D",
            "-f",
            str(path),
            "-E",
            str(self.folder / "log"),
        ]
        self._process = subprocess.Popen(command)
        for _attempt in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        raise AssertionError("sshd does not answer")

    def stop(self) -> None:
        """End the server; sessions that it has open go on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def known(self, port: int | None = None) -> str:
        """The line of known_hosts by which it is known at a port."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{port or self.port} {kind} {key}\n"


def _release() -> tuple[int, int]:
    """Of OpenSSH here; its server and its client come together."""
    said = subprocess.run([program(("ssh",), "openssh-client"), "-V"], capture_output=True, text=True, check=True)
    major, _dot, rest = said.stderr.partition("OpenSSH_")[2].partition(".")
    return int(major), int("".join(itertools.takewhile(str.isdigit, rest)))


def _keygen(path: Path) -> None:
    command = [program(("ssh-keygen",), "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="session")
def sshd_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


class Far:
    """The server as one test sees it: known to this test's home, reached through a link of its own.

    The user there is who runs the tests, whose home there is the real one: `workdir` keeps a test's files in its own.
    """

    def __init__(self, server: Sshd, home: Path, workdir: Path) -> None:
        self.server, self.home, self.workdir = server, home, workdir
        self.link = Link(server.port)
        self.ssh = home / ".ssh"
        self.ssh.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(server.key, self.ssh / "id_ed25519")
        self.known = self.ssh / "known_hosts"
        with self.known.open("a") as known:
            known.write(server.known(self.link.port) + server.known())

    @property
    def host(self) -> str:
        """As `execution.host` names it."""
        return f"{getpass.getuser()}@127.0.0.1:{self.link.port}"


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environments that tests have made on the server, which bear their hashes for names."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def far(sshd_of_session: Sshd, tmp_path: Path, environments: Path) -> Iterator[Far]:
    """The session's server. A test that changes or stops it takes one of its own: `Sshd(tmp_path)`."""
    found = Far(sshd_of_session, tmp_path / "home", tmp_path / "far")
    yield found
    found.link.close()
    if list(found.workdir.glob("envs/*/ready.json")):
        for path in [*found.workdir.glob("envs/*"), *found.workdir.glob("code/*-*")]:
            if not (kept := environments / path.relative_to(found.workdir)).exists():
                shutil.copytree(path, kept, symlinks=True)


@pytest.fixture
def furnished(far: Far, environments: Path) -> Far:
    """`far` with the environments that earlier tests have made there, for tests that are not about making them."""
    if any(environments.iterdir()):
        shutil.copytree(environments, far.workdir, symlinks=True)
    return far


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Far]]:
    """Servers of a test's own, which it may change and stop: `serve("name", Setting=value)`."""
    made: list[Far] = []

    def start(name: str = "own", **settings: object) -> Far:
        server = Sshd(tmp_path / name, **settings)
        server.start()
        made.append(Far(server, tmp_path / "home", tmp_path / name / "far"))
        return made[-1]

    yield start
    for one in made:
        one.link.close()
        one.server.stop()


STRANGER = "nlpfar"


@pytest.fixture(scope="session")
def stranger() -> Iterator[pwd.struct_passwd]:
    """A user of this machine with a home, no password and nothing in it. Needs root."""
    if os.geteuid():
        pytest.skip("only root can make a user")
    name = f"{STRANGER}{os.getpid()}"
    subprocess.run(["useradd", "--password", "*", "--create-home", "--shell", "/bin/bash", name], check=True)
    yield pwd.getpwnam(name)
    subprocess.run(["pkill", "-KILL", "-u", name], check=False)
    # Whoever removes a user keeps all others from making one; a home of gigabytes takes its time.
    subprocess.run(["rm", "-rf", "--one-file-system", f"/home/{name}"], check=False)
    subprocess.run(["userdel", "--force", name], check=False, capture_output=True)
