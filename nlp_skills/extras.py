"""Optional parts of the stack: present, or named with the command that installs them."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _


def installed(module: str) -> bool:
    """Whether a top-level module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def install_command(*extras: str) -> str:
    """The exact command that adds these extras to the environment we run in, from where we came from."""
    if os.environ.get("NLP_SKILLS_MANAGED"):
        return f"nlp-skills setup {' '.join(f'--extra {name}' for name in sorted(extras))}"
    installer = [sys.executable, "-m", "pip", "install"]
    if not installed("pip"):
        installer = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*installer, *_requirement(",".join(sorted(extras)))])


def _requirement(extras: str) -> list[str]:
    """nlp-skills with extras, as pip and uv name it: from the folder or address it was installed from, or by name."""
    from importlib import metadata

    try:
        origin = json.loads(metadata.distribution("nlp-skills").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        origin = {}
    url = origin.get("url")
    if url is None:
        return [f"nlp-skills[{extras}]"]
    if origin.get("dir_info", {}).get("editable"):
        return ["--editable", f"{Path(unquote(urlsplit(url).path))}[{extras}]"]
    return [f"nlp-skills[{extras}] @ {url}"]


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
