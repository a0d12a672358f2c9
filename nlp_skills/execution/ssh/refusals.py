"""What goes wrong on a link, in words: why, and what to do about it."""

from __future__ import annotations

import base64
import hashlib
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlp_skills.errors import Unavailable
from nlp_skills.execution.ssh import configuration
from nlp_skills.i18n import _


class Unreachable(Unavailable):
    """The link broke or could not be made; trying again may help. What runs over there goes on."""


def unreachable(host: str, error: BaseException) -> Unreachable:
    """The link broke, or could not be made."""
    if isinstance(error, socket.gaierror):
        words, mend = _("no machine of that name"), _("check host in task.yaml and ~/.ssh/config")
    elif isinstance(error, TimeoutError):
        words, mend = _("it does not answer in time"), _("check the network and the VPN, then run the command again")
    elif type(error).__name__ == "NoValidConnectionsError" or isinstance(error, ConnectionRefusedError):
        words, mend = _("nothing answers at its port"), _("check that sshd runs there, and the port")
    else:
        words = _plain(error) or _("the link broke")
        mend = _("check the network and the VPN, then run the command again")
    return Unreachable(_("{host} cannot be reached", host=host), cause=words, mend=mend)


def not_led_on(host: str, gateway: str, error: Any) -> Unreachable:
    """A jump host answers, and does not lead on."""
    return Unreachable(
        _("{host} cannot be reached", host=host),
        cause=_("{gateway} does not lead there: {error}", gateway=gateway, error=getattr(error, "text", str(error))),
        mend=_("check its name and port as {gateway} sees them, and that sshd runs there", gateway=gateway),
    )


def unknown_key(hostname: str, key: Any, line: str, path: Path) -> Unavailable:
    """A host whose key is not known: with the command that makes exactly this key known."""
    # Some editors leave the last line without an end; two lines in one would be none.
    missing = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    command = f"printf '%s\\n' {shlex.quote(line)} >> {_shell_path(path)}"
    if missing:
        command = f"echo >> {_shell_path(path)} && {command}"
    if not path.parent.is_dir():
        command = f"mkdir -m 700 -p {_shell_path(path.parent)} && {command}"
    kind = key.get_name()
    own = f"/etc/ssh/ssh_host_{next((name for name in ('ed25519', 'ecdsa') if name in kind), 'rsa')}_key.pub"
    return Unavailable(
        _("the key of {host} is not known here", host=hostname),
        cause=_("it shows {kind} {fingerprint}", kind=kind, fingerprint=fingerprint(key.asbytes())),
        mend=_("compare it with the server's own (ssh-keygen -lf {own} there); if it is the same: {command}",
               own=own, command=command),
    )  # fmt: skip


def _shell_path(path: Path) -> str:
    return (
        f"~/{shlex.quote(str(path.relative_to(Path.home())))}"
        if path.is_relative_to(Path.home())
        else shlex.quote(str(path))
    )


def fingerprint(key: bytes) -> str:
    """As ssh-keygen shows it: SHA256:…"""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def another_key(host: str, hostname: str, port: int, error: Any, files: Sequence[Path]) -> Unavailable:
    """A host that shows another key than the one that is known."""
    shown, known = fingerprint(error.key.asbytes()), fingerprint(error.expected_key.asbytes())
    name = hostname if port == 22 else f"[{hostname}]:{port}"
    command = f"ssh-keygen -f {_shell_path(files[0])} -R {shlex.quote(name)}"
    return Unavailable(
        _("the key of {host} has changed", host=host),
        cause=_("known: {known}; it shows: {shown}; another machine may be answering", known=known, shown=shown),
        mend=_("ask whoever runs it; if it was set up anew: {command}", command=command),
    )


def not_let_in(host: str, target: str, user: str, error: Any) -> Unavailable:
    """Every key was refused, or there is none to show."""
    keys = getattr(error, "keys", None)
    causes = [_("user {user}; keys shown: {count}", user=user, count=keys.shown if keys else 0)]
    locked = [str(path) for path in keys.locked] if keys else []
    if locked:
        causes.append(_("with a passphrase that no SSH agent has taken off: {paths}", paths=", ".join(locked)))
    if keys and keys.unreadable:
        unreadable = ", ".join(str(path) for path in keys.unreadable)
        causes.append(_("not readable as a key: {paths}", paths=unreadable))
    if keys and keys.offers and "publickey" not in keys.offers:
        causes.append(_("it takes no keys, only: {offers}", offers=", ".join(keys.offers)))
    if locked:
        mend = _("give the agent the key: ssh-add {path}", path=shlex.quote(locked[0]))
    elif keys and not keys.shown and not configuration.usual_keys():
        mend = _("make a key, and bring it there: ssh-keygen -t ed25519 && ssh-copy-id {target}", target=target)
    else:
        mend = _("check the user's name; bring your key there: ssh-copy-id {target}", target=target)
    return Unavailable(_("{host} does not let us in", host=host), cause="; ".join(causes), mend=mend)


def second_factor(host: str) -> Unavailable:
    """The key was good, and something else is wanted too."""
    return Unavailable(
        _("{host} wants more than a key", host=host),
        cause=_("it asks for a second factor, which a program that runs by itself cannot give"),
        mend=_("ask whoever runs it for a way in with a key alone"),
    )


def no_shell(host: str, target: str, said: str) -> Unavailable:
    """The login shell there ran nothing of what it was given."""
    return Unavailable(
        _("{host} lets us in, and runs no programs", host=host),
        cause=last_line(said) or _("its login shell ended without a word"),
        mend=_("the user there needs a login shell such as bash that runs what ssh gives it; try: ssh {target} true",
               target=target),
    )  # fmt: skip


def no_file_transfer(host: str, error: BaseException) -> Unavailable:
    """No SFTP there, or a shell that speaks on its line."""
    return Unavailable(
        _("{host} does not transfer files", host=host),
        cause=_("SFTP does not begin: {error}", error=_plain(error) or type(error).__name__),
        mend=_("enable it there (in sshd_config: Subsystem sftp internal-sftp), and let ~/.bashrc there print nothing "
               "where no terminal is"),
    )  # fmt: skip


def refused_there(host: str, error: BaseException) -> Unavailable:
    """The link stands; what was asked for over it failed."""
    return Unavailable(
        _("{host} could not do its part", host=host),
        cause=_plain(error) or type(error).__name__,
        mend=_("see what is there: nlp-skills remote check"),
    )


def no_answer(host: str, code: int, said: str) -> Unavailable:
    """Our program over there ended without an answer."""
    ended = _("a signal ended it; perhaps the memory there ran out") if code == -1 else ""
    return Unavailable(
        _("our program could not run on {host}", host=host),
        cause=last_line(said) or ended or _("it ended with exit code {code}", code=code),
        mend=_("see what is there: nlp-skills remote check"),
    )


def last_line(said: str) -> str:
    """The last thing said, short, and without what a terminal would obey."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1][:300]) if lines else ""


def _plain(error: BaseException) -> str:
    """An error's own words, without its Python."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return last_line(str(error)).rstrip(".")
