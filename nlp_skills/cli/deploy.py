"""Put a version to use, and take it away again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.deployment.deploy import Deployed
    from nlp_skills.schema.deployment import Deployment
    from nlp_skills.workspace.folder import TaskFolder

_TARGETS = ("huggingface", "ollama", "api", "local")
_QUANTIZATIONS = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k", "q5_0", "q4_0"
)  # fmt: skip
# What each target takes; an option that is not its own is refused, not ignored.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "huggingface": ("repo", "public", "merged", "gguf", "retag"),
    "ollama": ("model", "quantization", "push", "template", "host"),
    "api": ("port", "host", "engine", "quantization"),
    "local": (),
}


@frame.command(
    "deploy",
    help=N_(
        "Put a version to use: on the Hugging Face Hub, an Ollama server, behind an API, or as a path on this machine. "
        "A version that was not evaluated, or has not met its criteria, is refused; so is one that does not answer "
        "there as it did when it was evaluated."
    ),
    examples=[
        "nlp-skills deploy --to local",
        "nlp-skills deploy reviews v2 --to huggingface --repo org/reviews --dry-run",
        "nlp-skills deploy reviews v2 --to ollama --quantization q4_k_m --model org/reviews --push",
        "nlp-skills deploy reviews --to api --port 8000",
        "nlp-skills deploy reviews v1 --to local --force",
    ],
)
@click.argument("names", nargs=-1, metavar="[TASK] [V]")
@frame.option(
    "--to",
    "target",
    type=click.Choice(_TARGETS),
    help=N_("Where to; left out, as versioning.deploy_target in task.yaml says."),
)
@frame.option("--force", is_flag=True, help=N_("Also where a gate says no; the lineage keeps that, and why."))
@frame.option("--repo", metavar="OWNER/NAME", group="huggingface", help=N_("The repository on the Hub."))
@frame.option("--public", is_flag=True, group="huggingface", help=N_("For everyone to see; private otherwise."))
@frame.option("--merged", is_flag=True, group="huggingface", help=N_("The merged model instead of the adapter."))
@frame.option(
    "--gguf",
    multiple=True,
    type=click.Choice(_QUANTIZATIONS),
    group="huggingface",
    help=N_("A GGUF file beside it, in this quantisation; may be given several times."),
)
@frame.option("--retag", is_flag=True, group="huggingface", help=N_("Move the version's tag where it is another's."))
@frame.option("--dry-run", is_flag=True, group="huggingface", help=N_("Show files and model card; send nothing."))
@frame.option("--model", metavar="NAME", group="ollama", help=N_("The model's name there, such as org/reviews."))
@frame.option("--push", is_flag=True, group="ollama", help=N_("Also push it from there to the registry of models."))
@frame.option("--template", is_flag=True, group="ollama", help=N_("Write a prompt template, for older servers."))
@frame.option("--host", metavar="ADDRESS", group="ollama, api", help=N_("The server's address, or where to listen."))
@frame.option(
    "--quantization",
    type=click.Choice(_QUANTIZATIONS),
    group="ollama, api",
    help=N_("Of the GGUF file; left out, as deploy.quantization in task.yaml says."),
)
@frame.option("--port", type=click.IntRange(1, 65535), group="api", help=N_("The port to listen at."))
@frame.option(
    "--engine",
    type=click.Choice(["auto", "llama.cpp", "transformers", "vllm"]),
    group="api",
    help=N_("What answers behind the API."),
)
@frame.json_option
def deploy(names: tuple[str, ...], target: str | None, force: bool, dry_run: bool, as_json: bool, **given: Any) -> None:
    from nlp_skills.deployment import deploy as room

    folder, versions = frame.task_and_versions(names, most=1)
    target = target or folder.task().versioning.deploy_target
    options = _options(target, given, dry_run=dry_run)
    version = versions[0] if versions else None
    done = room.deploy(folder, version, target, force=force, dry_run=dry_run, **options)  # type: ignore[arg-type]
    if as_json:
        frame.emit(_as_dict(folder, done, dry_run=dry_run))
    else:
        _show(folder, done, dry_run=dry_run)


def _options(target: str, given: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """The options that were given, once all of them are the target's own."""
    chosen = {name: value for name, value in given.items() if value not in (None, False, ())}
    foreign = [name for name in chosen if name not in _OPTIONS[target]]
    if dry_run and target != "huggingface":
        foreign.append("dry_run")
    if foreign:
        option = "--" + foreign[0].replace("_", "-")
        raise click.UsageError(_("{option} is not an option of {target}", option=option, target=target))
    return chosen


def _as_dict(folder: TaskFolder, done: Deployed, *, dry_run: bool) -> dict[str, Any]:
    return {
        "ok": True,
        "task": folder.root.name,
        "version": done.version,
        "target": done.target,
        "dry_run": dry_run,
        "deployed": [entry.model_dump(mode="json", exclude_none=True) for entry in done.entries],
        "overruled": [problem.as_dict() for problem in done.overruled],
        "remarks": done.remarks,
        **({"would_send": done.plan.as_dict()} if done.plan else {}),
    }


def _show(folder: TaskFolder, done: Deployed, *, dry_run: bool) -> None:
    for problem in done.overruled:
        said = {"reason": problem.message}
        frame.warn([_("would be refused: {reason}", **said) if dry_run else _("overruled: {reason}", **said)])
    frame.warn(done.remarks)
    if done.plan:
        for line in [*done.plan.lines(), "", done.plan.card]:
            frame.say(line)
    for entry in done.entries:
        frame.say(_answers(entry))
    if not done.entries:
        frame.say(_("nothing is deployed by this"))
        return
    if not done.active and not any(entry.follows for entry in done.entries):
        names = {"task": folder.root.name, "version": done.version, "active": folder.task().version}
        frame.say(_("names that follow the active version stay with {active}", **names))
        frame.say(_("next: {command}", command="nlp-skills rollback {task} {version}".format(**names)))


def _answers(entry: Deployment) -> str:
    named = {"target": entry.target, "name": entry.name, "version": entry.version}
    if entry.follows:
        return _("{target}: {name} answers with {version}, and follows the active version", **named)
    return _("{target}: {name} answers with {version}", **named)


@frame.command(
    "deployments",
    help=N_("Show what answers where, since when, and by which version."),
    examples=["nlp-skills deployments", "nlp-skills deployments reviews --json"],
)
@frame.task_argument
@frame.json_option
def deployments(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.deployment import standing

    found = standing.of(folder)
    if as_json:
        rows = [
            {**one.entry.model_dump(mode="json", exclude_none=True), "state": one.state, "behind": one.behind}
            for one in found
        ]
        frame.emit({"task": folder.root.name, "version": folder.task().version, "deployments": rows})
        return
    if not found:
        frame.say(_("nothing is deployed; to change that: nlp-skills deploy {task} --to local", task=folder.root.name))
        return
    columns = [_("Target"), _("Name"), _("Version"), _("Since"), _("Follows"), _("State")]
    frame.table(columns, [_row(one) for one in found])


def _row(one: Any) -> list[str]:
    entry, day = one.entry, one.entry.since.astimezone().strftime("%Y-%m-%d %H:%M")
    states = {
        "up": _("answering"),
        "down": _("does not answer"),
        "gone": _("gone"),
        "unknown": _("not asked"),
    }
    said = [states[one.state]]
    if one.behind:
        said.append(_("behind the active version"))
    if entry.forced:
        said.append(_("forced"))
    follows = _("yes") if entry.follows else _("no")
    return [entry.target, entry.name, entry.version, day, follows, frame.listed(said)]


@frame.command(
    "undeploy",
    help=N_("Take a version away from where it answers; NAME as `nlp-skills deployments` shows it, or a target."),
    examples=["nlp-skills undeploy reviews reviews:v1", "nlp-skills undeploy reviews api --json"],
)
@click.argument("folder", metavar="TASK", callback=frame.resolve_task)
@click.argument("name", metavar="NAME")
@frame.option("--from", "target", type=click.Choice(_TARGETS), help=N_("The target, where two have the same name."))
@frame.json_option
def undeploy(folder: TaskFolder, name: str, target: str | None, as_json: bool) -> None:
    from nlp_skills.deployment import deploy as room

    entry = room.undeploy(folder, name, target)  # type: ignore[arg-type]
    if as_json:
        told = entry.model_dump(mode="json", exclude_none=True)
        frame.emit({"ok": True, "task": folder.root.name, "undeployed": told})
    else:
        told = {"target": entry.target, "name": entry.name, "version": entry.version}
        frame.say(_("{target}: {name} no longer answers with {version}", **told))
