"""Other forms of a version's model, each held against the version as it was evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.deployment.export.checked import Exported
    from nlp_skills.schema.deployment import Export, ParityCheck
    from nlp_skills.workspace.folder import TaskFolder

_QUANTIZATIONS = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k", "q5_0", "q4_0"
)  # fmt: skip


@frame.command(
    "export",
    help=N_(
        "Make other forms of a version's model: merged into its base model, or GGUF files for llama.cpp and Ollama. "
        "Each is asked test prompts and the test rows, and fails where it reads other prompts or lost more than "
        "deploy.max_drop in task.yaml allows."
    ),
    examples=[
        "nlp-skills export",
        "nlp-skills export reviews v2 --merged --gguf q8_0 --gguf q4_k_m",
        "nlp-skills export reviews v2 --adapter",
        "nlp-skills export reviews --gguf q4_k_m --no-parity --json",
    ],
)
@click.argument("names", nargs=-1, metavar="[TASK] [V]")
@frame.option("--merged", is_flag=True, help=N_("One model for transformers and vLLM, in models/merged."))
@frame.option(
    "--gguf",
    "ggufs",
    multiple=True,
    type=click.Choice(_QUANTIZATIONS),
    help=N_("A GGUF file in models/gguf; may be given several times. Left out, as deploy.quantization says."),
)
@frame.option("--adapter", is_flag=True, help=N_("Only say where the adapter is, which needs no export."))
@frame.option("--again", is_flag=True, help=N_("Make and check anew also what is there."))
@frame.option("--no-parity", is_flag=True, help=N_("Do not check what was made."))
@frame.json_option
def export(
    names: tuple[str, ...],
    merged: bool,
    ggufs: tuple[str, ...],
    adapter: bool,
    again: bool,
    no_parity: bool,
    as_json: bool,
) -> int:
    from nlp_skills.deployment.export import checked

    folder, versions = frame.task_and_versions(names, most=1)
    done = checked.exported(
        folder, *versions, adapter=adapter, merged=merged, ggufs=ggufs, again=again, check=not no_parity
    )
    if as_json:
        frame.emit(_as_dict(folder, done))
    else:
        _show(folder, done)
    return 0 if done.met else 1


def _as_dict(folder: TaskFolder, done: Exported) -> dict[str, Any]:
    return {
        "ok": done.met,
        "task": folder.root.name,
        "version": done.version,
        "adapter": None if done.adapter is None else vars(done.adapter),
        "exports": [one.model_dump(mode="json", exclude_none=True) for one in done.exports],
        "parity": [check.model_dump(mode="json", exclude_none=True) for check in done.checks.values()],
        "warnings": done.warnings,
    }


def _show(folder: TaskFolder, done: Exported) -> None:
    if done.adapter is not None:
        place = frame.shown(folder.root / done.adapter.path)
        told = {"path": place, "size": _size(done.adapter.bytes), "sha256": done.adapter.sha256}
        frame.say(_("the adapter is {path} ({size}, {sha256})", **told))
    for one in done.exports:
        frame.say(_("{name} is {path}", name=one.name, path=frame.shown(folder.root / one.path)))
    frame.warn(done.warnings)
    if not done.checks:
        return
    columns = [_("Form"), _("Size"), _("Logit gap"), _("Prompts: text, ids"), _("Metric"), _("Before, after")]
    columns += [_("Drop, interval (95%)"), _("Rows changed"), _("Verdict")]
    frame.table(columns, [_row(one, done.checks[one.name]) for one in done.exports], right=(1, 2, 7))
    for check in done.checks.values():
        if check.prompts and check.prompts.first:
            first = check.prompts.first
            frame.note(_("{name}, row {row}: the version reads", name=check.subject, row=first.row))
            frame.note(f"  {first.ours}")
            frame.note(_("and this reads"))
            frame.note(f"  {first.theirs}")


def _row(one: Export, check: ParityCheck) -> list[str]:
    from nlp_skills.evaluation import significance, words

    gap = "" if one.logit_gap is None else f"{one.logit_gap:.2g}"
    asked, kept = check.prompts, check.answers
    prompts = "" if asked is None else f"{asked.equal_text}/{asked.asked}, {asked.equal_ids}/{asked.asked}"
    verdict = _("met") if check.verdict == "met" else _("NOT MET")
    if kept is None:
        return [one.name, _size(one.bytes), gap, prompts, "", "", "", "", verdict]
    drop = significance.bare(kept.metric, kept.drop)
    if kept.interval is not None:
        low, high = (significance.bare(kept.metric, side) for side in kept.interval)
        drop = _("{drop} ({low} to {high})", drop=drop, low=low, high=high)
    before_after = f"{kept.before:.4f} → {kept.after:.4f}"
    changed = f"{kept.changed}/{kept.rows}"
    return [
        one.name, _size(one.bytes), gap, prompts, words.metric(kept.metric), before_after, drop, changed, verdict
    ]  # fmt: skip


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
