"""configs/sky/vN.yaml: what SkyPilot is told of a version, readable, and taken by `sky launch` without us as well.

It holds what does not change from one run to the next. What does (the job's name, the step, the price that was agreed
to) goes beside it on the command line, as `--env`. Everything is written by a YAML dumper; nothing is glued together.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Execution
from nlp_skills.workspace import mirror
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

if TYPE_CHECKING:
    from nlp_skills.scaffold.ledger import State

# Where the bucket is on a machine: outside of our own folder there, which is removed as a whole.
BUCKET = "~/nlp-skills-bucket"
MODELS = "~/nlp-skills-models"
IDLE_MINUTES = 30
DISK_GB = 256
# Which of SkyPilot's stores lies beside a provider's machines.
_STORES = {"aws": "s3", "gcp": "gcs", "azure": "azure", "ibm": "ibm", "oci": "oci", "nebius": "nebius"}
# What SkyPilot 0.14 says its clouds cannot do.
_NO_MOUNTS = {"hyperbolic", "runpod", "seeweb", "shadeform", "slurm", "vast", "verda", "yotta"}
_NO_AUTODOWN = {"hyperbolic", "primeintellect", "verda", "yotta"}
_SCHEMES = ("s3://", "gs://", "r2://", "nebius://", "oci://", "cos://", "cw://", "https://")
_VOLUME = "volume:"
IGNORED = """\
# What `sky launch` leaves at home.
.env
.env.*
.git
__pycache__
/.nlp-skills
/.venv
/models/checkpoints
/models/current
/versions/*/run
"""
_HEAD = """\
# The machine that {task} {version} is trained on, for SkyPilot. By hand, from the task's folder:
#
#     sky launch -c {cluster} configs/sky/{version}.yaml
#     sky down {cluster}
#
# or, recovered from spot losses by SkyPilot itself: sky jobs launch configs/sky/{version}.yaml
# It follows task.yaml until you change it; then it stays as it is, and the new text goes to {version}.yaml.new.
"""
_SETUP = """\
set -e
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
# The packages that pyproject.toml pins, and the nlp-skills of vendor/.
uv sync --no-dev
"""
_RUN = ".venv/bin/python -u -I -m nlp_skills.execution.cloud.node\n"
_ENVS = """\
# For the run, none of it secret. STEP is train or evaluate, ARGUMENTS its options as a JSON list. `nlp-skills train`
# gives JOB and USD_PER_HOUR (all nodes together) on the command line; without a price, budget_usd of task.yaml cannot
# be kept, and only max_hours ends the run.
"""


def path(version: VersionFolder) -> Path:
    """Where it is kept."""
    return version.task_root / "configs" / "sky" / f"{version.name}.yaml"


def cluster(folder: TaskFolder, version: VersionFolder) -> str:
    """What SkyPilot calls the machines of a version: a name that no other task's folder has."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{folder.root.name}-{version.name}".lower()).strip("-")[:28].strip("-")
    digest = hashlib.sha256(f"{mirror.origin(folder)} {version.name}".encode()).hexdigest()[:6]
    return "-".join(filter(None, ["nlp", words, digest]))


def text(folder: TaskFolder, version: VersionFolder, wanted: Execution) -> str:
    """The file.

    Raises:
        Invalid: the provider cannot do what is asked for.
    """
    refuse(folder, wanted)
    name, kept = cluster(folder, version), storage(folder, version, wanted)
    head = _HEAD.format(task=folder.root.name, version=version.name, cluster=name)
    parts = [
        head,
        yaml.dumps({"name": name}),
        "# The machine goes away by itself when it has had nothing to do for so long.\n",
        yaml.dumps({"resources": _resources(wanted)}),
        yaml.dumps({"num_nodes": wanted.nodes, "workdir": "."}),
        _outliving(wanted, kept),
        yaml.dumps(mounted) if (mounted := _mounted(folder, version, kept)) else "",
        _ENVS,
        yaml.dumps({"envs": _envs(folder, version, wanted, kept)}),
        yaml.dumps({"setup": _SETUP, "run": _RUN}),
    ]
    return "\n".join(part.rstrip("\n") if part.startswith("#") else part for part in parts if part)


def refuse(folder: TaskFolder, wanted: Execution) -> None:
    """Refuse what SkyPilot's provider cannot do, before anything is asked of it."""
    provider = _provider(wanted)
    if provider in _NO_AUTODOWN:
        raise _at(
            folder,
            _("machines of {provider} cannot take themselves down", provider=provider),
            "provider",
            mend=_("one that is forgotten would cost money for ever; choose another provider"),
        )
    if wanted.bucket and wanted.bucket.startswith(_VOLUME):
        return
    if wanted.bucket and provider in _NO_MOUNTS:
        raise _at(
            folder,
            _("machines of {provider} cannot mount a bucket", provider=provider),
            "bucket",
            mend=_("name a volume instead (bucket: volume:NAME; sky volumes apply makes it), or remove bucket"),
        )


def _at(folder: TaskFolder, message: str, key: str, *, mend: str) -> Invalid:
    line = yaml.read(folder.task_path).lines.get(("execution", key))
    return Invalid(message, file=folder.task_path, line=line, mend=mend)


def _provider(wanted: Execution) -> str:
    assert wanted.provider is not None
    first = wanted.provider.partition("/")[0].lower()
    return "kubernetes" if first == "k8s" else first


def rented(wanted: Execution) -> bool:
    """Whether the provider takes money by the hour."""
    return _provider(wanted) not in ("kubernetes", "slurm", "ssh")


def _resources(wanted: Execution) -> dict[str, Any]:
    found: dict[str, Any] = {"infra": wanted.provider}
    if wanted.gpu is not None:
        found["accelerators"] = wanted.gpu
    if wanted.spot:
        found["use_spot"] = True
    if _provider(wanted) in (*_STORES, "runpod"):
        found["disk_size"] = DISK_GB
    return {**found, "autostop": {"idle_minutes": IDLE_MINUTES, "down": True}}


def storage(folder: TaskFolder, version: VersionFolder, wanted: Execution) -> dict[str, Any]:
    """What outlives the machine, as SkyPilot's file_mounts or volumes name it; empty where nothing does."""
    given = wanted.bucket
    if given is not None and given.startswith(_VOLUME):
        return {"volumes": {BUCKET: given.removeprefix(_VOLUME)}}
    if given is not None and given.startswith(_SCHEMES):
        return {"file_mounts": {BUCKET: {"source": given, "mode": "MOUNT"}}}
    store = _STORES.get(_provider(wanted))
    if given is None and store is None:
        return {}
    bucket: dict[str, Any] = {"name": given or _derived(folder), "mode": "MOUNT"}
    return {"file_mounts": {BUCKET: {**bucket, **({"store": store} if store else {})}}}


def _derived(folder: TaskFolder) -> str:
    """A bucket of this task's own. Names of buckets are the whole world's."""
    return f"nlp-skills-{hashlib.sha256(mirror.origin(folder).encode()).hexdigest()[:24]}"


def _outliving(wanted: Execution, kept: dict[str, Any]) -> str:
    if kept:
        return (
            f"# Checkpoints and results are copied to {BUCKET} as they appear; a machine that is lost goes on there.\n"
        )
    return (
        f"# No bucket: {_provider(wanted)} has none of its own. A machine that is lost takes its checkpoints with it.\n"
        "# execution.bucket of task.yaml names one (s3://NAME, gs://NAME), or a volume (volume:NAME).\n"
    )


def _mounted(folder: TaskFolder, version: VersionFolder, kept: dict[str, Any]) -> dict[str, Any]:
    mounts = {there: str(here) for there, here in _models(folder, version).values()}
    found: dict[str, Any] = {}
    if mounts or "file_mounts" in kept:
        found["file_mounts"] = {**mounts, **kept.get("file_mounts", {})}
    if "volumes" in kept:
        found["volumes"] = kept["volumes"]
    return found


def _models(folder: TaskFolder, version: VersionFolder) -> dict[str, tuple[str, Path]]:
    """Base models that are folders of this computer: their place there, and here."""
    name = version.config().base_model
    for start in (folder.root, Path.cwd()):
        found = (start / Path(name).expanduser()).resolve()
        if found.is_dir():
            digest = hashlib.sha256(str(found).encode()).hexdigest()[:12]
            return {name: (f"{MODELS}/{digest}", found)}
    return {}


def _envs(folder: TaskFolder, version: VersionFolder, wanted: Execution, kept: dict[str, Any]) -> dict[str, str]:
    models = {name: there for name, (there, _here) in _models(folder, version).items()}
    return {
        "NLP_SKILLS_VERSION": version.name,
        "NLP_SKILLS_STEP": "train",
        "NLP_SKILLS_ARGUMENTS": "[]",
        "NLP_SKILLS_JOB": "",
        "NLP_SKILLS_USD_PER_HOUR": "",
        "NLP_SKILLS_WORKDIR": wanted.workdir or "~/nlp-skills",
        "NLP_SKILLS_BUCKET": f"{BUCKET}/{cluster(folder, version)}" if kept else "",
        "NLP_SKILLS_MODELS": json.dumps(models, ensure_ascii=False),
        "NLP_SKILLS_OF": mirror.origin(folder),
    }


def put(folder: TaskFolder, version: VersionFolder, wanted: Execution) -> State:
    """Write the file and .skyignore, or leave what a person changed; what became of the file, as the ledger says."""
    from nlp_skills.scaffold.ledger import Ledger

    content = text(folder, version, wanted)
    ledger = Ledger(folder.root)
    try:
        ledger.put(".skyignore", IGNORED.encode())
        return ledger.put(path(version).relative_to(folder.root).as_posix(), content.encode())
    finally:
        ledger.save()
