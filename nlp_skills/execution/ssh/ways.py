"""A command as the way to a server (ProxyCommand), noticed when it ends."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import tempfile
from typing import Any

import fabric
from paramiko.ssh_exception import ProxyCommandFailure

from nlp_skills.execution.ssh import refusals


class Link(fabric.Connection):  # type: ignore[misc]
    """Fabric's link, with our own way by a command: paramiko's reads on and on from one that has ended."""

    def open_gateway(self) -> Any:
        return Command(self.gateway) if isinstance(self.gateway, str) else super().open_gateway()


class Command:
    """A program that speaks with the server, in the shape of a socket, as far as paramiko uses one."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.timeout: float | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- it lives as long as this does
        self._process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
        )

    def send(self, content: bytes) -> int:
        assert self._process.stdin is not None
        try:
            return self._process.stdin.write(content) or 0
        except OSError as error:
            raise self._failed() from error

    def recv(self, size: int) -> bytes:
        assert self._process.stdout is not None
        try:
            if not select.select([self._process.stdout], [], [], self.timeout)[0]:
                raise TimeoutError
            found = os.read(self._process.stdout.fileno(), size)
        except ValueError as error:  # closed meanwhile
            raise self._failed() from error
        if not found:
            raise self._failed()
        return found

    def _failed(self) -> ProxyCommandFailure:
        said = ""
        if not self._said.closed:
            self._said.seek(0)
            said = refusals.last_line(self._said.read().decode("utf-8", "replace"))
        return ProxyCommandFailure(self.command, said or "it ended")

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    @property
    def _closed(self) -> bool:
        """As paramiko asks a socket."""
        return self._process.poll() is not None

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            assert stream is not None
            stream.close()
