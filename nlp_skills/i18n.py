"""Messages in the user's language: English in the code, Traditional Chinese (Taiwan) by gettext.

`--lang` wins over `NLP_SKILLS_LANG`, which wins over the locale. Identifiers, file contents and
`--json` are never translated.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gettext

LANGUAGES = ("en", "zh-TW")
LOCALE_DIR = Path(__file__).parent / "locale"
_chosen: str | None = None


def normalise(tag: str | None) -> str | None:
    """`zh_TW.UTF-8`, `zh-Hant`, `zh` → `zh-TW`; other languages, `C` and `POSIX` → `en`; empty → None."""
    if not tag:
        return None
    return "zh-TW" if tag.lower().startswith("zh") else "en"


def language() -> str:
    """The language in force: `en` or `zh-TW`."""
    if _chosen:
        return _chosen
    env = os.environ
    candidates = (env.get("NLP_SKILLS_LANG"), env.get("LC_ALL"), env.get("LC_MESSAGES"), env.get("LANG"))
    return next((lang for tag in candidates if (lang := normalise(tag))), "en")


def set_language(tag: str | None) -> None:
    """Choose the language for this process; None goes back to the environment's."""
    global _chosen
    _chosen = normalise(tag)


@lru_cache(maxsize=2)
def _catalogue(lang: str) -> gettext.NullTranslations:
    import gettext

    return gettext.translation("nlp_skills", LOCALE_DIR, [lang.replace("-", "_")], fallback=True)


def _(message: str, **values: object) -> str:
    """Translate `message` and fill its `{name}` placeholders. `message` must be a literal."""
    text = message if language() == "en" else _catalogue(language()).gettext(message)
    return text.format(**values) if values else text


def N_(message: str) -> str:
    """Mark a literal for translation that is shown later, through `_`."""
    return message
