"""SkyPilot's program `sky`: the only module that talks to it, by its command line and its JSON.

It lives in an environment of its own, since its packages and ours ask for different versions of the same ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.task import Execution

# Of the one release whose command line was read.
VERSION = (0, 14)
ANSWER_SECONDS = 180.0
_DOWN_SECONDS = 900.0
_SERVER_SECONDS = 3.0
_SHOWN_LINES = 8
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# A job in one of these has not come to an end.
GOING = ("INIT", "PENDING", "SETTING_UP", "RUNNING")


@dataclass(frozen=True)
class Ran:
    """What a command of sky did."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last lines, without colours."""
        text = _COLOUR.sub("", f"{self.out}\n{self.err}")
        return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-_SHOWN_LINES:])[:2000]


def install_command(provider: str | None) -> str:
    """How to get it, with what it needs for one provider."""
    extra = f"[{provider.partition('/')[0]}]" if provider else ""
    return f'uv tool install "skypilot{extra}>=0.14,<0.15"'


def check(provider: str | None) -> None:
    """Refuse to go on without the program, or with one of another release.

    Raises:
        Unavailable: with how to install it.
    """
    if shutil.which("sky") is None:
        raise Unavailable(
            _("this needs SkyPilot, and there is no program {name}", name="sky"),
            cause=_("it rents the machine, and lives in an environment of its own"),
            mend=install_command(provider),
        )
    said = _run(["--version"]).out.strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) != VERSION:
        raise Unavailable(
            _("another SkyPilot is installed than the one we know"),
            cause=said[:200] or _("it does not say which"),
            mend=install_command(provider),
        )


def launch(root: Path, file: Path, cluster: str, name: str, given: Mapping[str, str]) -> None:
    """Rent the machines and start the file's run as the job `name`; returns when the job is handed in.

    Called again for a cluster that is being made, it goes on with it.

    Raises:
        Unavailable: SkyPilot could not, with its last words.
    """
    ran = _run(launch_command(file, cluster, name, given), cwd=root, timeout=None)
    if ran.code:
        raise _failed(_("SkyPilot could not rent {cluster}", cluster=cluster), ran)


def launch_command(file: Path, cluster: str, name: str, given: Mapping[str, str]) -> list[str]:
    """What `launch` tells sky."""
    envs = [word for key, value in given.items() for word in ("--env", f"{key}={value}")]
    return ["launch", "--yes", "--detach-run", "--cluster", cluster, "--name", name, *envs, str(file)]


def state_command(cluster: str) -> list[str]:
    """What `state` asks."""
    return ["status", "--refresh", cluster, "--output", "json"]


def queue_command(cluster: str) -> list[str]:
    """What `job` asks."""
    return ["queue", cluster, "--output", "json"]


def log_command(cluster: str, number: int) -> list[str]:
    """What `log` asks."""
    return ["logs", "--no-follow", "--tail", "20", cluster, str(number)]


def down_command(cluster: str) -> list[str]:
    """What `down` tells sky."""
    return ["down", "--yes", cluster]


def price_command(wanted: Execution) -> list[str]:
    """What `usd_per_hour` asks."""
    gpu = wanted.gpu or ""
    counted = gpu if ":" in gpu else f"{gpu}:1"
    return ["gpus", "list", counted, "--infra", str(wanted.provider), "--output", "json"]


def state(cluster: str) -> str | None:
    """UP, INIT, STOPPED …, asked of the provider itself; None where there is no such cluster.

    Asking also makes sky write how SSH finds the cluster.

    Raises:
        Unavailable: SkyPilot does not answer.
    """
    records = _answer(state_command(cluster))
    found = [record for record in records if record.get("name") == cluster] if isinstance(records, list) else []
    return str(found[0]["status"]) if found else None


def job(cluster: str, name: str) -> dict[str, Any] | None:
    """The last job of this name in the cluster's queue: its number and status; None where it has none.

    Raises:
        Unavailable: SkyPilot does not answer.
    """
    queue = _answer(queue_command(cluster))
    jobs = queue.get(cluster, []) if isinstance(queue, dict) else []
    found = [one for one in jobs if one.get("job_name") == name]
    return max(found, key=lambda one: int(one["job_id"]), default=None)


def log(cluster: str, number: int) -> str:
    """The last lines of a job's log; empty where they cannot be had."""
    return _run(log_command(cluster, number)).said


def down(cluster: str) -> None:
    """Give the machines back. One that is gone already is no error.

    Raises:
        Unavailable: SkyPilot could not: the machines may still be there, and cost.
    """
    ran = _run(down_command(cluster), timeout=_DOWN_SECONDS)
    if ran.code:
        raise _failed(
            _("SkyPilot could not give {cluster} back; it may still cost money", cluster=cluster),
            ran,
            mend=_("give it back by hand: sky down {cluster}", cluster=cluster),
        )


def usd_per_hour(wanted: Execution) -> float | None:
    """The lowest price of all machines together, by SkyPilot's catalogue; None where it has none or cannot be had."""
    if wanted.gpu is None:
        return None
    try:
        offers = _answer(price_command(wanted))
    except Unavailable:
        return None
    key = "spot_price" if wanted.spot else "price"
    listed = [offer for each in offers.values() for offer in each] if isinstance(offers, dict) else []
    prices = [offer[key] for offer in listed if isinstance(offer.get(key), int | float) and offer[key] > 0]
    return round(min(prices) * wanted.nodes, 4) if prices else None


def _answer(arguments: Sequence[str]) -> Any:
    """The JSON that a command prints, after whatever it says before."""
    ran = _run(arguments)
    if ran.code and "Connection refused" in ran.err:
        # sky starts a server of its own with its first command, and may ask it before it listens.
        time.sleep(_SERVER_SECONDS)
        ran = _run(arguments)
    lines = _COLOUR.sub("", ran.out).splitlines()
    for at, line in enumerate(lines):
        if line[:1] in ("[", "{"):
            try:
                return json.loads("\n".join(lines[at:]))
            except ValueError:
                continue
    raise _failed(_("SkyPilot does not answer"), ran)


def _failed(message: str, ran: Ran, mend: str | None = None) -> Unavailable:
    return Unavailable(
        message,
        cause=ran.said or _("it ended with exit code {code}", code=ran.code),
        mend=mend or _("see what it may use: sky check"),
    )


def _run(arguments: Sequence[str], *, cwd: Path | None = None, timeout: float | None = ANSWER_SECONDS) -> Ran:
    environment = {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1", **os.environ}
    try:
        done = subprocess.run(
            ["sky", *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unavailable(
            _("this needs SkyPilot, and there is no program {name}", name="sky"), mend=install_command(None)
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            _("SkyPilot does not answer"),
            cause=_("waited {seconds:.0f} s", seconds=timeout or 0),
            mend=_("see whether its own server answers: sky api status"),
        ) from error
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
