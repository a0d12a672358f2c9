"""Deploying: the gates first, then the target, then the record of what answers where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nlp_skills.deployment import gate, records, targets
from nlp_skills.deployment.going import Going
from nlp_skills.errors import Problem, Usage
from nlp_skills.evaluation import model
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment, Target
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from nlp_skills.deployment.huggingface import Plan


@dataclass(frozen=True)
class Deployed:
    """What a deployment did: `entries` answer with the version now, none of them in a dry run or without a server.

    `overruled` is what spoke against it. `plan` is what would go, in a dry run.
    """

    version: str
    target: Target
    active: bool
    entries: list[Deployment]
    overruled: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    plan: Plan | None = None


def deploy(
    folder: TaskFolder,
    name: str | None = None,
    target: Target | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    **options: object,
) -> Deployed:
    """Put a version to use, by default the active one where task.yaml says (`versioning.deploy_target`).

    Args:
        folder: the task.
        name: the version.
        target: where to.
        force: also where its results speak against it, or a gate on the way; the lineage keeps that.
        dry_run: only show what would go there, where the target can; a refusal is then only told.
        options: the target's own.

    Raises:
        Invalid: no such version or no model of it; its results speak against it; what answers there is not it.
        Unavailable: the target cannot be reached, or a package is missing.
    """
    standing = gate.check(folder, name)
    if not force and not dry_run:
        standing.refuse()
    task, version = folder.task(), folder.existing_version(name)
    target = target or task.versioning.deploy_target
    going = Going(folder, task, version, model.info(version), forced=force)
    if dry_run:
        plan = targets.plan(target, going, **options)
        return Deployed(version.name, target, going.active, [], standing.refusals, standing.remarks, plan)
    entries = targets.of(target).deploy(going, **options)
    if entries:
        # What was forced and would have passed was not forced.
        entries = [entry.model_copy(update={"forced": entry.forced or bool(standing.refusals)}) for entry in entries]
        records.deployed(going, entries, standing.why)
    return Deployed(version.name, target, going.active, entries, standing.refusals, standing.remarks)


def undeploy(folder: TaskFolder, name: str, target: Target | None = None) -> Deployment:
    """Take away what answers under a name, or at a target where it is the only one there.

    Raises:
        Usage: nothing, or more than one thing, is deployed under that name.
        Invalid, Unavailable: the target refuses or cannot be reached.
    """
    entry = _one(folder, name, target)
    targets.of(entry.target).undeploy(folder, entry)
    records.undeployed(folder, entry)
    return entry


def _one(folder: TaskFolder, name: str, target: Target | None) -> Deployment:
    known = deployments.load(folder)
    found = [entry for entry in known if name in (entry.name, entry.target) and target in (None, entry.target)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{entry.target}: {entry.name}" for entry in found or known) or _("nothing")
    if found:
        raise Usage(_("more than one is meant by {name}", name=name), cause=listed, mend=_("name one of them whole"))
    raise Usage(_("nothing is deployed as {name}", name=name), cause=_("deployed here: {known}", known=listed))
