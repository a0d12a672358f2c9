"""How the launcher starts a program: whatever becomes of it, its log gets a line."""

from __future__ import annotations

from nlp_skills.hooks import log


def main(program: str, arguments: list[str]) -> None:
    """Run nlp_skills/hooks/PROGRAM.py."""
    try:
        __import__(f"nlp_skills.hooks.{program}", fromlist=["main"]).main(arguments)
    except BaseException as error:
        log.write(program, error)
        raise  # the launcher ends well whatever happens; NLP_SKILLS_HOOKS=debug shows this
    log.write(program)
