"""What another program needs to run a gateway: a unit for systemd. Keys are in a file beside it, never in the unit."""

from __future__ import annotations

from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

UNIT, ENVIRONMENT = "nlp-skills-serve.service", "/etc/nlp-skills/serve.env"

_SHAPE = """\
[Unit]
Description=nlp-skills API
After=network.target

[Service]
Type=exec
User={user}
WorkingDirectory={folder}
EnvironmentFile=-{environment}
ExecStart={command}
Restart=on-failure
RestartSec=2
KillSignal=SIGINT
TimeoutStopSec=45
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writable}
PrivateTmp=yes
PrivateDevices={devices}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
CapabilityBoundingSet=

[Install]
WantedBy=multi-user.target
"""


def systemd(root: Path, program: Path, user: str, *, port: int = 8000, accelerator: bool = False) -> str:
    """A unit that serves the task in `root` with the program `nlp-skills` at `program`.

    Raises:
        Invalid: a path or the user holds what a unit cannot.
    """
    for told in (str(root), str(program), user):
        # A line break would begin a setting of its own.
        if not told.isprintable():
            raise Invalid(_("a unit cannot name {name}", name=ascii(told)), mend=_("rename the folder"))
    arguments = [str(program), "serve", str(root), "--port", str(port)]
    return _SHAPE.format(
        user=user.replace("%", "%%"),
        folder=str(root).replace("%", "%%"),
        environment=ENVIRONMENT,
        command=" ".join(_quoted(part).replace("$", "$$") for part in arguments),
        writable=_quoted(str(root)),
        devices="no" if accelerator else "yes",
    )


def write(out: Path, unit: str) -> Path:
    """Put a unit into a folder.

    Raises:
        Unavailable: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / UNIT, unit)
    return out / UNIT


def _quoted(part: str) -> str:
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
