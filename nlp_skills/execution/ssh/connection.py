"""The link to a server: Fabric's, with ~/.ssh/config, agents, keys and jump hosts, and with keys of hosts checked.

Whatever goes wrong on it is said with its cause and mend. What a command says is never taken for code, and what it
is given goes through `shlex`.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import hashlib
import json
import shlex
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills import extras
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.i18n import _

if TYPE_CHECKING:
    import fabric
    import paramiko

CONNECT_SECONDS = 20.0
# A link that is silent for so long while an answer is due is taken for broken.
ANSWER_SECONDS = 60.0
_KEEPALIVE_SECONDS = 10


class Unreachable(Unavailable):
    """The link broke or could not be made; trying again may help. What runs over there goes on."""


@dataclass(frozen=True)
class Ran:
    """What a program over there did."""

    code: int
    out: str
    err: str


class Connection:
    """A link to `host` (user@server:port, or a name of ~/.ssh/config). Opened by `with`, or by its first use.

    Raises, in every method:
        Unreachable: the server does not answer, or the link broke.
        Unavailable: it does, and refuses us; or its key is unknown or another one than before.
    """

    def __init__(self, host: str) -> None:
        extras.need("remote", "fabric")
        self.host = host
        self._fabric: fabric.Connection | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        link, self._fabric = self._fabric, None
        if link is not None:
            with contextlib.suppress(Exception):
                link.close()

    def run(self, argv: Sequence[str], *, given: bytes = b"", timeout: float = ANSWER_SECONDS) -> Ran:
        """Run a program, give it `given` on standard input, and wait for its end."""
        with self._named():
            channel = self._open().open_session(timeout=ANSWER_SECONDS)
            channel.settimeout(timeout)
            channel.exec_command(shlex.join(argv))
            return _talk(channel, given)

    def sftp(self) -> paramiko.SFTPClient:
        """A session for files; used within `named`, its errors are in words too."""
        with self._named():
            self._open()
            assert self._fabric is not None
            session = self._fabric.sftp()
            channel = session.get_channel()
            assert channel is not None
            channel.settimeout(ANSWER_SECONDS)
            return session

    def named(self) -> contextlib.AbstractContextManager[None]:
        """Within it, errors of the link become problems."""
        return self._named()

    @property
    def options(self) -> dict[str, Any]:
        """What ~/.ssh/config and the host's name come to: hostname, port, user, identity files."""
        link = self._made()
        keys = link.connect_kwargs.get("key_filename") or []
        return {"hostname": link.host, "port": link.port, "user": link.user,
                "keys": [keys] if isinstance(keys, str) else list(keys)}  # fmt: skip

    def _made(self) -> fabric.Connection:
        if self._fabric is None:
            import fabric

            with self._named():
                self._fabric = fabric.Connection(self.host, connect_timeout=int(CONNECT_SECONDS))
        return self._fabric

    def _open(self) -> paramiko.Transport:
        link = self._made()
        if not link.is_connected:
            hop: Any = link
            while hop is not None and not isinstance(hop, str):
                _refuse_unknown_keys(hop)
                hop = hop.gateway or None
            # Two waits of paramiko's own that it leaves without a limit where they are not given.
            link.connect_kwargs.update(banner_timeout=CONNECT_SECONDS, auth_timeout=CONNECT_SECONDS)
            link.open()
            assert link.transport is not None
            link.transport.set_keepalive(_KEEPALIVE_SECONDS)
        assert link.transport is not None
        return link.transport

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        import paramiko

        try:
            yield
        except Problem:
            raise
        except paramiko.BadHostKeyException as error:
            raise _another_key(self.host, error) from error
        except paramiko.AuthenticationException as error:
            raise _not_let_in(self.host, error) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise _unreachable(self.host, error) from error


def _talk(channel: Any, given: bytes) -> Ran:
    if given:
        channel.sendall(given)
    channel.shutdown_write()
    with channel.makefile("rb") as out, channel.makefile_stderr("rb") as err:
        said, complained = out.read(), err.read()
    code = channel.recv_exit_status()
    if code == -1:
        raise EOFError("the link broke before the program's end was heard of")
    return Ran(code, said.decode("utf-8", "replace"), complained.decode("utf-8", "replace"))


def known_hosts() -> list[Path]:
    """The files in which hosts' keys are looked for."""
    return [Path.home() / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts")]


def _refuse_unknown_keys(link: fabric.Connection) -> None:
    """Fabric would take any key of a host that it has not met; nobody could tell then who answers."""
    for path in known_hosts():
        if path.is_file():
            link.client.load_system_host_keys(str(path))
    link.client.set_missing_host_key_policy(_Unknown())


class _Unknown:
    """paramiko's policy for a host without a known key: refuse, and say how to accept exactly this one."""

    def missing_host_key(self, _client: Any, hostname: str, key: Any) -> None:
        line = f"{hostname} {key.get_name()} {key.get_base64()}"
        raise Unavailable(
            _("the key of {host} is not known here", host=hostname),
            cause=_("it shows {kind} {fingerprint}", kind=key.get_name(), fingerprint=fingerprint(key.asbytes())),
            mend=_("compare it with the server's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there); "
                   "if it is the same: {command}", command=f"echo {shlex.quote(line)} >> ~/.ssh/known_hosts"),
        )  # fmt: skip


def fingerprint(key: bytes) -> str:
    """As ssh-keygen shows it: SHA256:…"""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _another_key(host: str, error: Any) -> Unavailable:
    shown, known = fingerprint(error.key.asbytes()), fingerprint(error.expected_key.asbytes())
    return Unavailable(
        _("the key of {host} has changed", host=host),
        cause=_("known: {known}; it shows: {shown}; another machine may be answering", known=known, shown=shown),
        mend=_("ask whoever runs it; if it was set up anew: {command}",
               command=f"ssh-keygen -R {shlex.quote(error.hostname)}"),
    )  # fmt: skip


def _not_let_in(host: str, error: Exception) -> Unavailable:
    return Unavailable(
        _("{host} does not let us in", host=host),
        cause=_("{error}; the user here is {user}", error=str(error).rstrip("."), user=getpass.getuser()),
        mend=_("check the user's name, and that ssh {host} works without a password: ssh-copy-id {host}, "
               "or ssh-add for a key with a passphrase", host=host),
    )  # fmt: skip


def _unreachable(host: str, error: BaseException) -> Unreachable:
    if isinstance(error, socket.gaierror):
        words, mend = _("no machine of that name"), _("check host in task.yaml and ~/.ssh/config")
    elif isinstance(error, TimeoutError):
        words, mend = _("it does not answer in time"), _("check the network and the VPN, then run the command again")
    elif type(error).__name__ == "NoValidConnectionsError" or isinstance(error, ConnectionRefusedError):
        words, mend = _("nothing answers at its port"), _("check that sshd runs there, and the port")
    else:
        words = str(error) or type(error).__name__
        mend = _("check the network and the VPN, then run the command again")
    return Unreachable(_("{host} cannot be reached", host=host), cause=words, mend=mend)


def answer(ran: Ran, host: str) -> dict[str, Any]:
    """What the agent answered.

    Raises:
        Unavailable: it could not run.
    """
    try:
        found = json.loads(ran.out)
    except ValueError:
        found = None
    if not isinstance(found, dict) or ran.code:
        said = (ran.err.strip() or ran.out.strip()).splitlines()
        raise Unavailable(
            _("our program could not run on {host}", host=host),
            cause=said[-1][:300] if said else _("it ended with exit code {code}", code=ran.code),
            mend=_("see what is there: nlp-skills remote check"),
        )
    return found
