"""The link to a server: Fabric's, with ~/.ssh/config, agents, keys and jump hosts, and with keys of hosts checked.

Whatever goes wrong on it is said with its cause and mend. What a command says is never taken for code, and what it
is given goes through `shlex`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nlp_skills import extras
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.execution.ssh import configuration, refusals
from nlp_skills.execution.ssh.refusals import Unreachable as Unreachable
from nlp_skills.i18n import _
from nlp_skills.schema.task import HOST

if TYPE_CHECKING:
    import fabric
    import paramiko

CONNECT_SECONDS = 20.0
# A link that is silent for so long while an answer is due is taken for broken.
ANSWER_SECONDS = 60.0
# How often an answer is due, whatever else goes on.
BEAT_SECONDS = 15.0

# Said there before a program says anything: what stands before it is the login shell's own.
_MARK = "@nlp-skills-begins@"


@dataclass(frozen=True)
class Ran:
    """What a program over there did; `code` is -1 where a signal ended it."""

    code: int
    out: str
    err: str


class Connection:
    """A link to `host` (user@server:port, or a name of ~/.ssh/config). Opened by `with`, or by its first use.

    `first_seen` is for a machine that was rented a minute ago, whose key nobody can know yet: a file of known hosts in
    which the first key that it shows is kept. From then on it is that one or none.

    Raises, in every method:
        Unreachable: the server does not answer, or the link broke.
        Unavailable: it does, and refuses us; or its key is unknown or another one than before.
    """

    def __init__(self, host: str, *, first_seen: Path | None = None) -> None:
        extras.need("remote", "fabric")
        if not HOST.match(host):
            raise Unavailable(
                _("{host} is not a host", host=host[:80]),
                mend=_("a host is user@server, server, user@server:port, or a name of ~/.ssh/config"),
            )
        self.host = host
        self.first_seen = first_seen
        self._fabric: fabric.Connection | None = None
        self._settings: IO[str] | None = None
        self._silent = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        link, self._fabric = self._fabric, None
        for hop in reversed(_hops(link)) if link is not None else ():
            with contextlib.suppress(Exception):
                hop.client.close()
        if self._settings is not None:
            self._settings.close()
            self._settings = None

    def run(self, argv: Sequence[str], *, given: bytes = b"", timeout: float | None = None) -> Ran:
        """Run a program, give it `given` on standard input, and wait for its end.

        `timeout`: seconds that it may be silent (ANSWER_SECONDS). A link that broke is noticed before that.
        """
        with self.named():
            channel = self._open().open_session(timeout=ANSWER_SECONDS)
            channel.settimeout(ANSWER_SECONDS if timeout is None else timeout)
            channel.exec_command(f"printf '\\n%s\\n' '{_MARK}'; {shlex.join(argv)}")
            ran = _talk(channel, given)
        before, mark, out = ran.out.partition(f"\n{_MARK}\n")
        if not mark:
            raise refusals.no_shell(self.host, _for_ssh(self._made()), f"{before}\n{ran.err}")
        return Ran(ran.code, out, ran.err)

    def sftp(self) -> paramiko.SFTPClient:
        """A session for files; used within `named`, its errors are in words too."""
        with self.named():
            transport = self._open()
            import paramiko

            try:
                session = paramiko.SFTPClient.from_transport(transport)
            except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
                if transport.is_active():
                    raise refusals.no_file_transfer(self.host, error) from error
                raise
            assert session is not None
            session.get_channel().settimeout(ANSWER_SECONDS)
            return session

    @property
    def options(self) -> dict[str, Any]:
        """What ~/.ssh/config and the host's name come to: name (as it finds it), hostname, port, user."""
        link = self._made()
        return {"name": link.original_host, "hostname": link.host, "port": link.port, "user": link.user}

    def ssh_command(self) -> list[str]:
        """The program `ssh`, up to the name of the host (`options["name"]`): the same place, keys and policy.

        It holds as long as this link is not closed.
        """
        link = self._made()
        if self._settings is None:
            policy = {
                "StrictHostKeyChecking": "accept-new" if self.first_seen else "yes",
                "BatchMode": "yes",
                "ForwardAgent": "no",
                "ForwardX11": "no",
                "PermitLocalCommand": "no",
                "ConnectTimeout": str(int(CONNECT_SECONDS)),
                "ServerAliveInterval": str(int(BEAT_SECONDS)),
                "ServerAliveCountMax": str(max(1, int(ANSWER_SECONDS / BEAT_SECONDS))),
                "LogLevel": "ERROR",
            }
            if self.first_seen:
                policy["UserKnownHostsFile"] = f'"{self.first_seen}"'
            # Gone when it is closed, or with this object.
            self._settings = tempfile.NamedTemporaryFile(  # noqa: SIM115
                "w", prefix="nlp-skills-ssh-", errors="surrogateescape"
            )
            self._settings.write(configuration.for_programs(policy, known_hosts()))
            self._settings.flush()
        return ["ssh", "-F", self._settings.name, "-p", str(link.port), "-l", link.user]

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Within it, errors of the link become problems."""
        import paramiko

        try:
            yield
        except Problem:
            raise
        except (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError) as error:
            alive = self._fabric is not None and self._fabric.is_connected
            of_the_request = isinstance(error, OSError | paramiko.SFTPError | paramiko.ChannelException)
            if alive and of_the_request and not isinstance(error, TimeoutError):
                raise refusals.refused_there(self.host, error) from error
            silent = self._silent or "Timeout" in str(error)
            self.close()
            raise refusals.unreachable(self.host, TimeoutError() if silent else error) from error

    def _made(self) -> fabric.Connection:
        if self._fabric is None:
            import fabric
            import paramiko

            # What goes wrong in its threads is said by whoever waits for them.
            logging.getLogger("paramiko").addHandler(logging.NullHandler())
            try:
                settings = paramiko.SSHConfig.from_text(configuration.text())
                self._fabric = _link(fabric, self.host, settings)
            except (paramiko.SSHException, paramiko.ConfigParseError, ValueError, KeyError) as error:
                raise configuration.unreadable(configuration.user_folder() / "config", str(error)) from error
        return self._fabric

    def _open(self) -> paramiko.Transport:
        link = self._made()
        if not link.is_connected:
            self._silent = False
            for hop in _hops(link):
                self._open_hop(hop, last=hop is link)
            assert link.transport is not None
            threading.Thread(target=self._beat, args=(link.transport,), daemon=True).start()
        assert link.transport is not None
        return link.transport

    def _open_hop(self, hop: fabric.Connection, *, last: bool) -> None:
        import paramiko

        name = self.host if last else _("{host}, on the way to {last},", host=hop.original_host, last=self.host)
        first_seen = self.first_seen if last else None
        _check_keys(hop, first_seen)
        # Waits of paramiko's own that it leaves without a limit, or with one of an hour, where they are not given.
        hop.connect_kwargs.update(
            banner_timeout=CONNECT_SECONDS, auth_timeout=CONNECT_SECONDS, channel_timeout=CONNECT_SECONDS
        )
        try:
            hop.open()
        except paramiko.BadHostKeyException as error:
            raise refusals.another_key(name, hop.host, hop.port, error, _files_of(hop, first_seen)) from error
        except paramiko.AuthenticationException as error:
            raise refusals.not_let_in(name, _for_ssh(hop), str(hop.user), error) from error
        except paramiko.ChannelException as error:
            raise refusals.not_led_on(name, hop.gateway.original_host, error) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise refusals.unreachable(name, error) from error
        if not hop.transport.is_authenticated():
            raise refusals.second_factor(name)
        with contextlib.suppress(OSError, AttributeError):  # through a jump host or a command there is no socket
            # A question is a few small packets; held back until the last one is acknowledged they take 40 ms more.
            hop.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _beat(self, transport: paramiko.Transport) -> None:
        """Close a link on which nobody answers: whoever waits for something on it wakes up then."""
        heard = _listening(transport)
        threading.Thread(target=_ask_on_and_on, args=(transport,), daemon=True).start()
        while transport.is_active():
            time.sleep(min(1.0, ANSWER_SECONDS / 4))
            # Whatever comes is a sign of life: on a slow line an answer waits behind what is being sent.
            if heard() > BEAT_SECONDS + ANSWER_SECONDS:
                self._give_up(transport)

    def _give_up(self, transport: paramiko.Transport) -> None:
        self._silent = True
        transport.close()


def _listening(transport: Any) -> Callable[[], float]:
    """How many seconds ago something last came over a link."""
    last, read = [time.monotonic()], transport.packetizer.read_message

    def listened() -> Any:
        found = read()
        last[0] = time.monotonic()
        return found

    transport.packetizer.read_message = listened
    return lambda: time.monotonic() - last[0]


def _ask_on_and_on(transport: paramiko.Transport) -> None:
    """Have the server say something now and then: it answers what it does not know, too."""
    while transport.is_active():
        with contextlib.suppress(Exception):
            transport.global_request("keepalive@openssh.com", wait=True)
        time.sleep(BEAT_SECONDS)


def _link(fabric: Any, host: str, settings: paramiko.SSHConfig) -> fabric.Connection:
    from nlp_skills.execution.ssh.keys import Keys
    from nlp_skills.execution.ssh.ways import Link

    user, _at, place = host.rpartition("@")
    name, port = place, ""
    if place.startswith("["):
        name, _bracket, port = place[1:].partition("]")
    elif ":" in place:
        name, _colon, port = place.partition(":")
    port = port.lstrip(":")
    overrides = {"timeouts": {"connect": int(CONNECT_SECONDS)}, "authentication": {"strategy_class": Keys}}
    config = fabric.Config(ssh_config=settings, lazy=True, overrides=overrides)
    direct = {"gateway": False} if settings.lookup(name).get("proxyjump", "").lower() == "none" else {}
    return Link(name, user=user or None, port=int(port) if port else None, config=config, forward_agent=False, **direct)


def _for_ssh(link: fabric.Connection) -> str:
    """The host as the program ssh and its like take it."""
    port = [] if link.port == int(link.ssh_config.get("port", 22)) else ["-p", str(link.port)]
    return shlex.join([*port, f"{link.user}@{link.original_host}"])


def _hops(link: fabric.Connection) -> list[fabric.Connection]:
    """The hosts on the way, in the order in which they are met; the last is the one we want."""
    found = [link]
    while (before := found[0].gateway or None) is not None and not isinstance(before, str):
        found.insert(0, before)
    return found


def _talk(channel: Any, given: bytes) -> Ran:
    complained: list[bytes] = []

    def listen() -> None:
        with contextlib.suppress(OSError):
            while found := channel.recv_stderr(1 << 15):
                complained.append(found)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    if given:
        # A program that ends without reading says why by itself.
        with contextlib.suppress(OSError):
            channel.sendall(given)
    with contextlib.suppress(OSError):
        channel.shutdown_write()
    said = bytearray()
    while found := channel.recv(1 << 15):
        said += found
    if not channel.status_event.wait(channel.gettimeout()):
        raise TimeoutError
    listener.join(channel.gettimeout())
    if channel.exit_status == -1 and not channel.get_transport().is_active():
        raise EOFError("the link broke before the program's end was heard of")
    return Ran(channel.exit_status, said.decode("utf-8", "replace"), b"".join(complained).decode("utf-8", "replace"))


def known_hosts() -> list[Path]:
    """The files in which hosts' keys are looked for."""
    return [configuration.user_folder() / "known_hosts", Path("/etc/ssh/ssh_known_hosts")]


def _files_of(link: fabric.Connection, first_seen: Path | None) -> list[Path]:
    """Those for one host: ~/.ssh/config may name others."""
    if first_seen is not None:
        return [first_seen]
    named = shlex.split(link.ssh_config.get("userknownhostsfile", ""))
    return [Path(name).expanduser() for name in named] + known_hosts()[1:] if named else known_hosts()


def _check_keys(link: fabric.Connection, first_seen: Path | None) -> None:
    """Fabric would take any key of a host that it has not met; nobody could tell then who answers."""
    files = _files_of(link, first_seen)
    for path in files:
        if path.is_file():
            link.client.load_system_host_keys(str(path))
    link.client.set_missing_host_key_policy(_Unknown(files[0], keep=first_seen is not None))


class _Unknown:
    """paramiko's policy for a host without a known key: refuse, and say how to accept exactly this one."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path, self.keep = path, keep

    def missing_host_key(self, _client: Any, hostname: str, key: Any) -> None:
        line = f"{hostname} {key.get_name()} {key.get_base64()}"
        if not self.keep:
            raise refusals.unknown_key(hostname, key, line, self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")


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
        raise refusals.no_answer(host, ran.code, ran.err.strip() or ran.out.strip())
    return found
