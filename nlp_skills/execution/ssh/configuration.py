"""~/.ssh/config and the system's, as one text for both who read it: Fabric, and the programs ssh and rsync.

Fabric knows no Include, and the programs look into the password file's home, whatever HOME says; so the included files
stand in their places here, and `~` is written out.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _

_DEEPEST = 16
_SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+)")
_PATHS = re.compile(
    r"(\s*(?:IdentityFile|CertificateFile|IdentityAgent|UserKnownHostsFile)(?:\s*=\s*|\s+)\"?)~/", re.IGNORECASE
)
_USUAL_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


def user_folder() -> Path:
    """Where the user's configuration, keys and known hosts are."""
    return Path.home() / ".ssh"


def text() -> str:
    """The user's settings, then the system's: of two, the first one counts."""
    found = []
    for path, base in ((user_folder() / "config", user_folder()), (Path("/etc/ssh/ssh_config"), Path("/etc/ssh"))):
        found += ["Host *", *_lines(path, base, 0)]
    return "".join(f"{line}\n" for line in found)


def _lines(path: Path, base: Path, depth: int) -> Iterator[str]:
    if not path.is_file():
        return
    try:
        said = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    block = "Host *"
    for line in said:
        setting = _SETTING.match(line)
        name = setting.group(1).lower() if setting and not line.lstrip().startswith("#") else ""
        if setting and name == "include" and depth < _DEEPEST:
            yield from _included(setting.group(2), base, depth)
            # Whatever blocks are in there, the lines below belong to the one that the Include stands in.
            yield block
            continue
        if name in ("host", "match"):
            block = line.strip()
        yield _PATHS.sub(lambda start: f"{start.group(1)}{Path.home()}/", line)


def _included(words: str, base: Path, depth: int) -> Iterator[str]:
    for word in shlex.split(words, comments=True):
        for name in sorted(glob.glob(str(base / Path(word).expanduser()))):  # noqa: PTH207 -- the pattern may be absolute
            yield from _lines(Path(name), base, depth + 1)


def unreadable(path: Path, cause: str) -> Unavailable:
    """The refusal of a configuration that nobody can read."""
    return Unavailable(
        _("the SSH settings cannot be read"),
        file=path,
        cause=cause,
        mend=_("correct the file; see what ssh makes of it: ssh -G HOST"),
    )


def usual_keys() -> list[Path]:
    """The keys that are tried where nothing names others."""
    return [path for name in _USUAL_KEYS if (path := user_folder() / name).is_file()]


def for_programs(policy: dict[str, str], known: list[Path]) -> str:
    """The file that `ssh -F` is given: our policy first, so that it counts, then what the user says."""
    forced = [f"{name} {value}" for name, value in policy.items()]
    last = [f"UserKnownHostsFile {' '.join(_quoted(path) for path in known)}"]
    last += [f"IdentityFile {_quoted(path)}" for path in usual_keys()]
    return "\n".join(["Host *", *forced, text(), "Host *", *last, ""])


def _quoted(path: Path) -> str:
    return f'"{path}"'
