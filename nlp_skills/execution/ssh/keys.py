"""Which keys are shown to a server, in ssh's order. Nobody is ever asked for a password or a passphrase."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.auth_strategy import AuthSource, AuthStrategy, InMemoryPrivateKey, NoneAuth

from nlp_skills.execution.ssh import configuration


class Keys(AuthStrategy):  # type: ignore[misc]
    """Those that ~/.ssh/config names, those of the agent, the usual files.

    `locked` are files with a passphrase that no agent has taken off, `unreadable` those that are no keys, `offers`
    what the server lets in with.
    """

    def __init__(self, ssh_config: Any, fabric_config: Any, username: str) -> None:
        super().__init__(ssh_config=ssh_config)
        self.username = username
        self.locked: list[Path] = []
        self.unreadable: list[Path] = []
        self.offers: list[str] = []
        self.shown = 0

    def authenticate(self, transport: Any) -> Any:
        self._transport = transport
        try:
            return super().authenticate(transport)
        except paramiko.AuthenticationException as error:
            self.offers = next((list(one.result.allowed_types) for one in getattr(error, "result", [])
                                if isinstance(one.result, paramiko.BadAuthenticationType)), [])  # fmt: skip
            # paramiko takes a server that is gone for one that refuses; so does one that has had enough of wrong keys.
            refusals = [one for one in getattr(error, "result", [])
                        if isinstance(one.result, paramiko.AuthenticationException)]  # fmt: skip
            gone = [one for one in refusals if "transport shut down" in str(one.result)]
            if not [one for one in refusals if one not in gone and (not gone or not isinstance(one.source, NoneAuth))]:
                raise EOFError("the link broke while keys were shown") from error
            error.keys = self
            raise

    def get_sources(self) -> Iterator[AuthSource]:
        # Some servers let in whoever the network vouches for; the others say here what they take.
        yield NoneAuth(self.username)
        named = [Path(name).expanduser() for name in self.ssh_config.get("identityfile", [])]
        only = self.ssh_config.get("identitiesonly", "no").lower() == "yes"
        held, shown = _agents(self.ssh_config.get("identityagent", "SSH_AUTH_SOCK")), set()
        wanted = {blob for path in named or configuration.usual_keys() if (blob := _public(path))}
        for key in held:
            if key.asbytes() in wanted:
                shown.add(key.asbytes())
                yield self._of(key)
        yield from self._files(named, shown)
        for key in held:
            if not only and key.asbytes() not in shown:
                shown.add(key.asbytes())
                yield self._of(key)
        if not named:
            yield from self._files(configuration.usual_keys(), shown)

    def _files(self, paths: list[Path], shown: set[bytes]) -> Iterator[AuthSource]:
        for path in paths:
            if (_public(path) or b"") in shown:
                continue
            try:
                key = paramiko.PKey.from_path(path)
            except FileNotFoundError:
                continue
            except (TypeError, paramiko.PasswordRequiredException):
                self.locked.append(path)
            except (ValueError, OSError, paramiko.SSHException, paramiko.UnknownKeyType):
                self.unreadable.append(path)
            else:
                shown.add(key.asbytes())
                yield self._of(key)

    def _of(self, key: Any) -> AuthSource:
        self.shown += 1
        return InMemoryPrivateKey(self.username, key)


def _agents(named: str) -> list[Any]:
    """What an SSH agent holds; nothing where there is none. `named` is its socket, or the variable that says it."""
    if named == "none":
        return []
    socket = os.environ.get(named.lstrip("$")) if named.lstrip("$").isidentifier() else named
    usual = os.environ.get("SSH_AUTH_SOCK")
    try:
        # The one place that paramiko looks in.
        os.environ["SSH_AUTH_SOCK"] = socket or ""
        return list(paramiko.Agent().get_keys())
    except (paramiko.SSHException, OSError):
        return []
    finally:
        os.environ.pop("SSH_AUTH_SOCK", None)
        if usual is not None:
            os.environ["SSH_AUTH_SOCK"] = usual


def _public(path: Path) -> bytes | None:
    """The public half of a key, from the file beside it, by which an agent's keys are told."""
    try:
        words = path.with_name(f"{path.name}.pub").read_text(encoding="utf-8", errors="replace").split()
        return bytes(paramiko.PublicBlob.from_string(" ".join(words[:2])).key_blob)
    except (OSError, ValueError, IndexError):
        return None
