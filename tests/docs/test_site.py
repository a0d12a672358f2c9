"""The documentation: both languages are built as `make docs` does, and looked through."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from nlp_skills.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LANGUAGES = ("en", "zh-TW")


class Links(HTMLParser):
    """What a page leads to, and what a browser would load for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.to: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.ids.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.to.append(found["href"])
        elif tag == "link" and found.get("rel") in {"stylesheet", "icon", "preconnect", "preload"}:
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built strictly and where no address can be reached."""
    place = tmp_path_factory.mktemp("site")
    for config, folder in (("mkdocs.yml", place), ("mkdocs.zh-TW.yml", place / "zh-TW")):
        ran = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", str(folder)],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
    return place


def home(site: Path, lang: str) -> Path:
    return site if lang == "en" else site / lang


def pages(site: Path, lang: str) -> set[str]:
    place = home(site, lang)
    found = {str(path.relative_to(place)) for path in place.rglob("*.html")}
    return {path for path in found if not path.startswith("zh-TW/")}


def test_both_languages_have_the_same_pages(site: Path) -> None:
    assert pages(site, "en") == pages(site, "zh-TW")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_command_schema_and_topic_has_its_page(site: Path, lang: str) -> None:
    place = home(site, lang) / "reference"
    for name in COMMANDS:
        assert f"nlp-skills {name}" in (place / "commands" / f"{name}.html").read_text(encoding="utf-8")
    for schema in (ROOT / "schemas").glob("*.json"):
        text = (place / "documents" / f"{schema.name.partition('.')[0]}.html").read_text(encoding="utf-8")
        for key in json.loads(schema.read_text())["properties"]:
            assert f"<code>{key}</code>" in text
    for topic in (ROOT / "nlp_skills" / "knowledge" / "topics" / lang).glob("*.md"):
        assert (place / "knowledge" / f"{topic.stem}.html").is_file()


def test_a_command_in_no_group_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import make_reference

    monkeypatch.setitem(make_reference.COMMANDS, "unheard-of", "nlp_skills.cli.tasks:tasks")
    with pytest.raises(ValueError, match="unheard-of"):
        make_reference.pages("en")


def test_help_and_pages_say_the_same(site: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nlp_skills.cli.main", "train", "--help", "--lang", "zh-TW"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = (site / "zh-TW" / "reference" / "commands" / "train.html").read_text(encoding="utf-8")
    option = re.search(r"--again\s+(\S+)", ran.stdout)
    assert option and option[1] in page


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    read = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    wrong = []
    for path, links in read.items():
        if path.name == "404.html":
            continue
        wrong += [f"{path}: loads {url}" for url in links.loads if re.match(r"(https?:)?//", url)]
        for url in links.to:
            if re.match(r"[a-z]+:", url):
                continue
            where, _, anchor = url.partition("#")
            target = (path.parent / where).resolve() if where else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (anchor and target in read and anchor not in read[target].ids):
                wrong.append(f"{path.relative_to(site)}: {url}")
    assert not wrong


def test_words_around_the_reference_are_complete() -> None:
    words = {lang: yaml.safe_load((DOCS / "words" / f"{lang}.yaml").read_text(encoding="utf-8")) for lang in LANGUAGES}
    assert words["en"].keys() == words["zh-TW"].keys()


def test_the_schemas_are_described_in_chinese_as_they_are_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import make_reference

    parts = {}
    for path in (ROOT / "schemas").glob("*.json"):
        schema = json.loads(path.read_text())
        for part in (schema, *schema.get("$defs", {}).values()):
            if part.get("description"):
                parts[part["title"]] = make_reference.fingerprint(part["description"])
    # Where this fails, say it in Chinese too, in docs/words/documents.zh-TW.yaml, and put this fingerprint beside it.
    assert {title: said["of"] for title, said in make_reference.SAID.items()} == parts


def test_chinese_can_be_searched(site: Path) -> None:
    index = json.loads((site / "zh-TW" / "search" / "search_index.json").read_text(encoding="utf-8"))
    # Words are set apart for the search, which otherwise finds whole sentences only.
    assert any("\u200b" in entry["text"] for entry in index["docs"])


@pytest.mark.parametrize(("name", "lang"), [("README.md", "en"), ("README.zh-TW.md", "zh-TW")])
def test_a_readme_names_every_command_and_leads_nowhere_wrong(name: str, lang: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "](" not in line]
    assert set(re.findall(r"`([a-z-]+)`", " ".join(rows))) == {*COMMANDS}
    for target in re.findall(r"\]\((?!https:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
    assert "\nmake demo " in text and "\nmake test " in text
    for command in (ROOT / "commands").glob("*.md"):
        assert f":{command.stem}" in text, f"/nlp-skills:{command.stem}"


def test_the_pictures_fetch_nothing_and_show_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import picture

    for name in ("picture.svg", "picture.zh-TW.svg"):
        text = (DOCS / "assets" / name).read_text(encoding="utf-8")
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "@font-face" not in text
        shown = " ".join(html.unescape(word) for word in re.findall(r">([^<>]+)</text>", text))
        assert all(shot.command in shown for shot in picture.SHOTS)


def test_a_picture_is_laid_out_by_width_and_cut_where_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import picture
    from rich.text import Text

    assert list(picture.chosen(["a", "b", "c", "d"], (range(1, 2), range(4, 5)))) == ["a", "⋮", "d"]
    drawn = picture.drawn([Text("任務 <b>"), Text("ab <b>", style="red")])
    places = re.findall(r'<text x="([\d.]+)" y="\d+"[^>]*>([^<]+)</text>', drawn)
    assert [text for _, text in places] == ["任務", "&lt;b&gt;", "ab", "&lt;b&gt;"]
    # Two Chinese characters are as wide as four letters.
    assert float(places[1][0]) - float(places[3][0]) == pytest.approx(2 * picture.CELL, abs=0.2)
    assert 'style="fill:' in drawn
