"""Optional parts of the stack: present, or named with the command that installs them."""

from __future__ import annotations

import importlib.util
import os
import sys

from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _


def installed(module: str) -> bool:
    """Whether a top-level module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def install_command(*extras: str) -> str:
    """The exact command that adds these extras to the environment we run in."""
    names = ",".join(sorted(extras))
    if os.environ.get("NLP_SKILLS_MANAGED"):
        return f"nlp-skills setup {' '.join(f'--extra {name}' for name in sorted(extras))}"
    return f"{sys.executable} -m pip install 'nlp-skills[{names}]'"


def need(extra: str, *modules: str) -> None:
    """Refuse to go on without the modules that `extra` brings.

    Raises:
        Unavailable: one of them is missing; the mend is the install command.
    """
    missing = [module for module in modules if not installed(module)]
    if missing:
        raise Unavailable(
            _("this needs the extra {extra}", extra=extra),
            cause=_("not installed: {modules}", modules=", ".join(missing)),
            mend=install_command(extra),
        )
