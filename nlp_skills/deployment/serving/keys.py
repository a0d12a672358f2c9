"""Who may call the API: keys, kept as hashes, and what is allowed without one.

A key is 32 random bytes, so a plain hash of it tells nobody anything: there is no list of likely keys to try, which is
what slow hashes for passwords are made against. All known hashes are compared, each in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nlp_skills import files
from nlp_skills.deployment.serving import answering
from nlp_skills.deployment.serving.answering import ASGI, Receive, Scope, Send
from nlp_skills.deployment.serving.reading import Refused
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder

# For containers, which have no task folder to keep a file in: keys with commas between.
VARIABLE, ADMIN_VARIABLE = "NLP_SKILLS_API_KEYS", "NLP_SKILLS_ADMIN_KEYS"
_PREFIX = "nlps_"
_NAME = re.compile(r"[\w.-]{1,64}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# Set by proxies: whoever they speak for is not on this machine.
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


@dataclass(frozen=True)
class Key:
    """A key that is known by its hash. `admin`: it may switch versions too."""

    name: str
    sha256: str
    admin: bool = False
    created: str | None = None


def place(folder: TaskFolder) -> Path:
    """Where a task's keys are."""
    return folder.state / "keys.json"


def add(path: Path, name: str, *, admin: bool = False) -> str:
    """Make a key; it is told this once, and only its hash is kept.

    Raises:
        Usage: the name cannot be one, or is taken.
        Unavailable: the file cannot be written.
    """
    if not _NAME.match(name):
        raise Usage(_("a key's name is letters, digits, '-', '_' and '.'; at most 64"))
    known = listed(path)
    if any(key.name == name for key in known):
        raise Usage(
            _("there is a key called {name} already", name=name),
            mend=_("choose another name, or remove that one first"),
        )
    told = _PREFIX + secrets.token_urlsafe(32)
    _save(path, [*known, Key(name, _hash(told), admin, files.now().isoformat())])
    return told


def remove(path: Path, name: str) -> None:
    """Let a key be known no more.

    Raises:
        Usage: there is none of that name.
    """
    known = listed(path)
    left = [key for key in known if key.name != name]
    if len(left) == len(known):
        names = ", ".join(key.name for key in known) or _("none")
        raise Usage(_("there is no key called {name}", name=name), cause=_("keys here: {names}", names=names))
    _save(path, left)


def listed(path: Path) -> list[Key]:
    """The keys of a file; none where it is not there.

    Raises:
        Invalid: it is not one of ours.
    """
    if not path.is_file():
        return []
    found = files.read_json(path)
    try:
        known = [
            Key(str(key["name"]), str(key["sha256"]), key.get("admin") is True, key.get("created"))
            for key in found["keys"]
        ]
        for key in known:
            if not _SHA256.match(key.sha256):
                raise ValueError(key.name)
        return known
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        mend = _("remove it and make the keys anew")
        raise Invalid(_("this is not a file of API keys"), file=path, mend=mend) from error


def _save(path: Path, keys: Sequence[Key]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Before anything is in it, so that nobody else ever reads it.
    if not path.exists():
        path.touch(mode=0o600)
    files.write_json(path, {"keys": [vars(key) for key in keys]})


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Keys:
    """The keys of a gateway; its file is read again when it changes."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.keys_file
        self._fixed = [*_from(VARIABLE, admin=False), *_from(ADMIN_VARIABLE, admin=True)]
        self._read: list[Key] = []
        self._stamp: tuple[int, int] | None = None

    @property
    def all(self) -> list[Key]:
        """Those of the environment and those of the file.

        Raises:
            Invalid: the file is not one of ours.
        """
        stamp = self._now()
        if stamp != self._stamp:
            self._read = listed(self.path) if self.path is not None else []
            self._stamp = stamp
        return [*self._fixed, *self._read]

    def of(self, told: str | None) -> Key | None:
        """The key that was told; None where it is none of them."""
        digest, found = _hash(told or ""), None
        for key in self.all:
            # Every one is compared, so that the time taken tells nothing.
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat() if self.path is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino) if found is not None else None


def _from(variable: str, *, admin: bool) -> list[Key]:
    told = [part.strip() for part in os.environ.get(variable, "").split(",")]
    return [Key(f"{variable}-{number}", _hash(key), admin) for number, key in enumerate(filter(None, told), 1)]


def refuse_open(settings: Settings, keys: Keys) -> None:
    """Refuse to serve others what nobody guards.

    Raises:
        Invalid: it listens beyond this machine and there is no key; or serves administration there without one for it.
    """
    make = _("make one: nlp-skills serve-key add TASK NAME; or set {variable}", variable=VARIABLE)
    if not settings.loopback and not keys.all:
        raise Invalid(_("the API would be open to everyone who reaches {host}", host=settings.host), mend=make)
    if settings.admin_anywhere and not any(key.admin for key in keys.all):
        mend = _("make one: nlp-skills serve-key add TASK NAME --admin; or set {variable}", variable=ADMIN_VARIABLE)
        raise Invalid(_("administration would be open to everyone who has a key"), mend=mend)


class Guard:
    """Before everything that asks or changes something: keys, and pages of other sites that a browser has open."""

    def __init__(self, app: ASGI, settings: Settings, keys: Keys) -> None:
        self.app, self.settings, self.keys = app, settings, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in answering.HEALTH:
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Refused as refused:
            headers = {"www-authenticate": "Bearer"} if refused.status == 401 else None
            await answering.refuse(scope, send, refused, headers)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        known = self.keys.all
        told = _told(scope)
        key = self.keys.of(told) if told else None
        # Where there are no keys, whatever a client sends is none: OpenAI's cannot be without.
        if told and key is None and known:
            raise Refused(401, "unknown_key", _("this API key is not known"))
        self._refuse_site(scope, guarded=bool(known))
        if scope["path"] in answering.ADMIN:
            self._check_admin(scope, key, known)
        elif known and key is None:
            raise Refused(401, "key_missing", _("an API key is needed"), _("send it as Authorization: Bearer KEY"))
        if key is not None:
            scope.setdefault("state", {})["key"] = key.name

    def _check_admin(self, scope: Scope, key: Key | None, known: Sequence[Key]) -> None:
        if not self.settings.admin_anywhere and not _from_here(scope):
            raise Refused(403, "not_from_here", _("administration is served on the gateway's own machine only"))
        if any(one.admin for one in known):
            if key is None:
                raise Refused(401, "key_missing", _("an administrator's API key is needed"))
            if not key.admin:
                raise Refused(403, "not_admin", _("this API key may not administrate"))
        elif known and key is None:
            raise Refused(401, "key_missing", _("an API key is needed"))

    def _refuse_site(self, scope: Scope, *, guarded: bool) -> None:
        """A page of another site, in a browser on this machine, must not reach what is open to this machine."""
        host = answering.header(scope, b"host") or ""
        if self.settings.loopback and not guarded and not _ours(host, self.settings):
            raise Refused(
                403, "host", _("the gateway is not called that"), _("use {address}", address=self.settings.address)
            )
        origin = answering.header(scope, b"origin")
        if origin and origin not in self.settings.cors_origins and urlsplit(origin).netloc != host:
            raise Refused(403, "origin", _("pages of this site may not call the gateway"), _("allow it: --cors ORIGIN"))


def _told(scope: Scope) -> str | None:
    given = answering.header(scope, b"authorization") or ""
    scheme, _space, key = given.partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else answering.header(scope, b"x-api-key")


def _ours(host: str, settings: Settings) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and (name in _LOOPBACK or name == settings.host)


def _from_here(scope: Scope) -> bool:
    client: Any = scope.get("client")
    return bool(client) and client[0] in _LOOPBACK and not any(answering.header(scope, name) for name in _FORWARDED)
