"""What MkDocs calls while it builds the site: the reference is added, and the languages lead to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, pass_context
from jinja2.runtime import Context
from make_reference import DOCS, WORDS, nav, pages

from nlp_skills import i18n

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page


def _language(config: MkDocsConfig) -> str:
    return str(config.theme["language"])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference into the navigation, between the how-tos and the explanations."""
    assert config.nav is not None
    config.nav.insert(3, {WORDS[_language(config)]["reference"]: nav(_language(config))})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference, and what both languages share."""
    from mkdocs.structure.files import File

    for path, text in pages(_language(config)).items():
        files.append(File.generated(config, path, content=text))
    for asset in sorted((DOCS / "assets").iterdir()):
        files.append(File.generated(config, f"assets/{asset.name}", abs_src_path=str(asset)))
    return files


def on_env(env: Environment, config: MkDocsConfig, files: Files) -> Environment:
    """Links out of the Chinese site: MkDocs takes leading dots away, as if nothing were above a site."""
    before = env.filters["url"]

    @pass_context
    def url(context: Context, value: str) -> str:
        up = "../" * context["page"].url.count("/") if value.startswith("../") and context["page"] else ""
        return up + value if up or value.startswith("../") else str(before(context, value))

    env.filters["url"] = url
    return env


def on_page_context(context: Any, page: Page, config: MkDocsConfig, nav: Any) -> Any:
    """The language switch of a page leads to the same page."""
    # From the root of the language's own site: Chinese is a folder of the English one.
    homes = {"en": "", "zh-TW": "zh-TW/"} if _language(config) == "en" else {"en": "../", "zh-TW": ""}
    config.extra["alternate"] = [
        {"name": WORDS[lang]["language"], "lang": lang, "link": homes[lang] + page.url} for lang in i18n.LANGUAGES
    ]
    return context
