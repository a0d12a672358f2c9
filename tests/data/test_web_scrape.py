"""Pages of a real server, in a real browser where they need one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web_pages import Site, page, review, serving

from nlp_skills import extras
from nlp_skills.data import sources
from nlp_skills.data.sources import browser, http
from nlp_skills.data.sources.decoding import decode
from nlp_skills.data.sources.page import Page, Selector, canonical, take, text_of
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema import yaml
from nlp_skills.schema.source import WebScrape
from nlp_skills.workspace.folder import TaskFolder

SELECTORS = {"text": "p", "label": "@data-label"}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(http, "PATIENCE", http.Patience(tries=3, first=0.01, longest=1, total=3))
    with serving() as site:
        monkeypatch.setenv("SITE", site.address)
        yield site


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


class Scraped:
    """One fetch: its rows, and what it told."""

    def __init__(self, folder: TaskFolder, *, refresh: bool = False, preview: bool = False, **settings: Any) -> None:
        urls = ["${SITE}/"]
        entry = {"type": "web_scrape", "name": "web", "urls": urls, "rate_limit": 1000.0, **settings}
        folder.sources_path.write_text(yaml.dumps({"sources": [entry]}), encoding="utf-8")
        self.source = folder.sources().sources[0]
        assert isinstance(self.source, WebScrape)
        self.notes: list[str] = []
        self.fetching = sources.Fetching(folder, refresh=refresh, preview=preview, note=self.notes.append)
        self.rows = list(sources.fetch(self.source, self.fetching))
        self.record, self.warnings = self.fetching.record, self.fetching.warnings

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


def refused(folder: TaskFolder, **settings: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        Scraped(folder, **settings)
    problem = caught.value
    assert problem.mend and problem.file == str(folder.sources_path) and problem.line
    assert "\n" not in problem.message
    return problem


def listing(site: Site, path: str = "/", count: int = 3, start: int = 0, *more: str) -> None:
    reviews = [review(f"Camera {number} is fine.", "positive") for number in range(start, start + count)]
    site.put(path, page(f"Reviews {path}", *reviews, *more))


# Rows


def test_each_row_of_a_listing_with_attributes_and_where_it_was(site: Site, folder: TaskFolder) -> None:
    listing(site, count=2)
    found = Scraped(folder, selectors=SELECTORS, row=".review")
    assert found.rows == [
        {"text": f"Camera {n} is fine.", "label": "positive", "url": "${SITE}/", "title": "Reviews /"} for n in (0, 1)
    ]
    assert {key: found.record[key] for key in ("pages", "requests", "rows", "encodings")} == {
        "pages": 1,
        "requests": 2,
        "rows": 2,
        "encodings": {"utf-8": 1},
    }
    assert site.paths == ["/robots.txt", "/"]
    assert all(agent.startswith("nlp-skills/") for agent in site.agents)
    assert found.warnings == []


def test_a_column_of_ones_own_called_title_or_url_stays(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("Site", "<h2>Own</h2>", "<a href='/x'>y</a>"))
    found = Scraped(folder, selectors={"title": "h2", "url": "a@href"})
    assert found.rows == [{"title": "Own", "url": "/x"}]


def test_text_as_a_reader_sees_it() -> None:
    html = """<div id=a> One<br>two <b>thr</b>ee<script>no()</script><style>p{}</style>
      <p>四
         五，
         six</p><ul><li>x<li>y</ul>&nbsp;z\u3000</div>"""
    node = Page("http://h/", html, "utf-8").blocks("#a")[0]
    assert text_of(node) == "One two three\n四五， six\nx\ny\nz"


def test_a_selector_looks_inside_the_row_and_scripts_are_read_when_asked_for() -> None:
    found = Page("http://h/", '<div class=r id=1>a<div>b</div><script type="x/json">{"k": 1}</script></div>', "utf-8")
    (row,) = found.blocks(".r")
    assert take(row, found, Selector.parse("div")) == ["b"]
    assert take(row, found, Selector.parse("@ID")) == ["1"]
    assert take(row, found, Selector.parse("script")) == ['{"k": 1}']
    assert Selector.parse('a[href*="@x"]') == Selector('a[href*="@x"]')
    assert Selector.parse("a@data-x") == Selector("a", "data-x")


def test_deep_nesting_breaks_nothing() -> None:
    found = Page("http://h/", "<div>" * 3000 + "deep", "utf-8")
    assert text_of(found.blocks("body")[0]) == "deep"
    assert found.main_text() in ("", "deep")


def test_a_page_that_is_nested_to_keep_us_busy_is_not_parsed(site: Site, folder: TaskFolder) -> None:
    site.put("/", "<div>" * 200_000)
    started = time.monotonic()
    assert "nested" in str(refused(folder, selectors={"text": "p"}).cause)
    assert time.monotonic() - started < 10
    site.put("/", page("Long", *(review(f"Fine {number}.", "positive") for number in range(8000))))
    assert len(Scraped(folder, selectors=SELECTORS, row=".review").rows) == 8000


def test_rows_without_a_column_are_left_out_and_counted(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("R", review("Good.", "positive"), '<div class="review"><p>No label.</p></div>'))
    found = Scraped(folder, selectors=SELECTORS, row=".review")
    assert found.column("text") == ["Good."]
    assert [text for text in found.warnings if "label (@data-label) found nothing in them: 1" in text]


def test_several_matches_without_row_are_said(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("R", "<p>one</p><p>two</p>"))
    found = Scraped(folder, selectors={"text": "p"})
    assert found.column("text") == ["one"]
    assert "row:" in found.warnings[0]


def test_a_selector_that_finds_nothing_is_named_with_what_is_there(site: Site, folder: TaskFolder) -> None:
    listing(site)
    problem = refused(folder, selectors={"text": ".reveiw p"})
    assert ".reveiw p" in problem.message
    assert all(word in str(problem.cause) for word in ("${SITE}/", "Reviews /", ".review (3)", "p (3)"))
    problem = refused(folder, selectors=SELECTORS, row=".reveiw")
    assert ".reveiw" in problem.message and "render: true" in str(problem.mend)


@pytest.mark.parametrize(
    "settings",
    [
        {"selectors": {"text": "p::text"}},
        {"selectors": {"text": ""}},
        {"selectors": {"text": "p"}, "row": "div:contains(x)"},
        {"follow": "a[", "depth": 1},
    ],
)
def test_what_is_no_css_is_refused_before_anything_is_asked(site: Site, folder: TaskFolder, settings: Any) -> None:
    assert "CSS" in refused(folder, **settings).message
    assert site.paths == []


def test_main_text_when_there_are_no_selectors(site: Site, folder: TaskFolder) -> None:
    first = "<p>這支手機的電池很耐用，我連續看了六個小時的影片，電量還剩下三成左右，真的很滿意。</p>"
    second = "<p>充電速度也很快，大約半小時就能充到六成，外出的時候很方便，不必再帶行動電源了。</p>"
    site.put(
        "/", page("實測", "<nav><a href=/>首頁</a></nav>", f"<article>{first}{second}</article>", "<a href=/e>x</a>")
    )
    site.put("/e", page("Empty"))
    found = Scraped(folder, depth=1)
    assert found.rows[0]["title"] == "實測"
    assert list(found.rows[0]) == ["text", "url", "title"]
    assert "電池很耐用" in found.rows[0]["text"] and "行動電源" in found.rows[0]["text"]
    assert len(found.rows) == 1
    assert any("without a main text: 1" in text for text in found.warnings)


def test_pages_without_any_text_are_a_problem(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("Empty"))
    assert "no text" in refused(folder).message


def test_keywords_in_any_width_and_case(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("R", *(review(text, "x") for text in ("ＢＡＴＴＥＲＹ 好", "battery ok", "lens", "股票上漲"))))
    found = Scraped(folder, selectors=SELECTORS, row=".review", keywords=["Battery", "股票"])
    assert found.column("text") == ["ＢＡＴＴＥＲＹ 好", "battery ok", "股票上漲"]
    assert found.record["other_keywords"] == 1
    problem = refused(folder, selectors=SELECTORS, row=".review", keywords=["tripod"])
    assert "keywords" in problem.message and problem.line == line_of(folder, "keywords")


def line_of(folder: TaskFolder, key: str) -> int:
    written = folder.sources_path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(written, 1) if line.strip().startswith(f"{key}:"))


# Encodings


@pytest.mark.parametrize(
    ("text", "codec", "header", "meta", "read_as"),
    [
        ("碁盤、銹、粧，這是繁體中文。", "cp950", "text/html; charset=Big5", "", "cp950"),
        ("佢哋嘅嘢咗，粵語。", "big5hkscs", "text/html", "big5", "big5hkscs"),
        ("这款手机的“电池”很耐用。", "gbk", "text/html", "gb2312", "gb18030"),
        ("㐀㐁 四字节 𠀀", "gb18030", "text/html; charset=GBK", "", "gb18030"),
        ("電池①は長持ち", "cp932", "text/html; charset=Shift_JIS", "", "cp932"),
        ("電池は長持ち", "euc_jp", "text/html", "euc-jp", "euc_jp"),
        ("繁體，UTF-16。", "utf-16", "text/html", "", "utf-16-le"),
        ("繁體，UTF-16。", "utf-16-be", "text/html", "", "utf-16-be"),
        ("繁體，UTF-8。", "utf-8", "text/html", "utf-16", "utf-8"),
        ("繁體，有記號。", "utf-8-sig", "text/html; charset=iso-8859-1", "big5", "utf-8"),
        ("繁體，沒有說。", "utf-8", "text/html", "", "utf-8"),
        ("繁體，說錯了名字。", "utf-8", "text/html; charset=klingon", "", "utf-8"),
        ("“curly” café", "cp1252", "text/html; charset=ISO-8859-1", "", "cp1252"),
    ],
)
def test_pages_in_every_encoding(text: str, codec: str, header: str, meta: str, read_as: str) -> None:
    head = f'<meta http-equiv="Content-Type" content="text/html; charset={meta}">' if meta else ""
    found = decode(page("標題", f"<p>{text}</p>", head=head).replace("標題", "T").encode(codec), content_type=header)
    assert (found.encoding, found.bad) == (read_as, 0)
    assert f"<p>{text}</p>" in found.text and found.text.startswith("<")


TRADITIONAL = "這支手機的電池很耐用，拍照也清楚，物超所值，推薦給大家。客服態度親切，隔天就收到貨了！"
SIMPLIFIED = "这款手机电池很耐用，拍照也清楚，物超所值，推荐给大家。客服态度很好，第二天就收到了！"


@pytest.mark.parametrize(("text", "codec", "read_as"), [(TRADITIONAL, "big5", "cp950"), (SIMPLIFIED, "gbk", "gb18030")])
def test_a_page_that_declares_nothing_is_recognised(text: str, codec: str, read_as: str) -> None:
    found = decode(page("x", f"<p>{text}</p>").encode(codec), content_type="text/html")
    assert (found.encoding, found.bad) == (read_as, 0)
    assert text in found.text


def test_the_encoding_that_is_given_wins_and_an_unknown_one_is_refused(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("x", "<p>中文</p>").encode("big5"), kind="text/html; charset=utf-8")
    assert Scraped(folder, selectors={"text": "p"}, encoding="big5").column("text") == ["中文"]
    problem = refused(folder, selectors={"text": "p"}, encoding="klingon")
    assert "klingon" in problem.message and problem.line == line_of(folder, "encoding")


def test_either_order_of_utf_16_is_read_when_it_is_given() -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        assert decode("\ufeff<p>中文".encode(codec), given="UTF-16").text == "<p>中文"


def test_bytes_that_cannot_be_read_are_counted_and_said(site: Site, folder: TaskFolder) -> None:
    site.put("/", b"<title>t</title><p>a\xff\xfeb\xef\xbf\xbd</p>")
    found = Scraped(folder, selectors={"text": "p"})
    assert found.record["unreadable"] == 2
    assert any("utf-8" in text and "2" in text for text in found.warnings)


def test_a_query_is_escaped_in_the_pages_encoding(site: Site, folder: TaskFolder) -> None:
    body = page("x", "<p>一</p>", "<a href='/s?q=台北&amp;p=1#top'>next</a>").encode("big5")
    site.put("/", body, kind="text/html; charset=big5")
    site.put("/s?q=%A5x%A5_&p=1", page("y", "<p>二</p>"))
    assert Scraped(folder, selectors={"text": "p"}, depth=1).column("text") == ["一", "二"]


# Following


def test_links_level_by_level_in_the_order_of_the_page(site: Site, folder: TaskFolder) -> None:
    links = "<a href='b'>b</a><a href='/a#x'>a</a><a href='./a'>again</a><a href='/'>home</a><a href='#top'>top</a>"
    other = "<a href='http://example.invalid/'>out</a><a href='mailto:a@b'>m</a><a href='javascript:x()'>j</a>"
    listing(site, "/", 1, 0, links, other)
    listing(site, "/b", 1, 1, "<a href='/c'>c</a>")
    listing(site, "/a", 1, 2, "<a href='/c'>c</a><a href='/d'>d</a>")
    listing(site, "/c", 1, 3, "<a href='/too-deep'>x</a>")
    listing(site, "/d", 1, 4)
    site.slow("/b", 0.2)
    found = Scraped(folder, selectors=SELECTORS, row=".review", depth=2)
    assert found.column("text") == [f"Camera {number} is fine." for number in range(5)]
    assert site.paths == ["/robots.txt", "/", "/b", "/a", "/c", "/d"]
    assert len(found.notes) == 5


def test_only_the_links_that_follow_names(site: Site, folder: TaskFolder) -> None:
    listing(site, "/", 1, 0, "<a href='/x'>x</a><a class=next href='?page=2'>next</a>")
    listing(site, "/?page=2", 1, 1, "<a class=next href='?page=3'>next</a>")
    listing(site, "/?page=3", 1, 2)
    found = Scraped(folder, selectors=SELECTORS, row=".review", follow="a.next", depth=9)
    assert len(found.rows) == 3
    assert site.paths[1:] == ["/", "/?page=2", "/?page=3"]


def test_max_pages_ends_it_with_a_warning(site: Site, folder: TaskFolder) -> None:
    for number in range(1, 30):
        site.put(
            f"/{number}", page("p", f"<p>{number}</p>", f"<a href='/{number + 1}'>n</a><a href='/{number + 2}'>m</a>")
        )
    found = Scraped(folder, urls=["${SITE}/1"], selectors={"text": "p"}, depth=50, max_pages=5)
    assert found.column("text") == ["1", "2", "3", "4", "5"]
    assert any("max_pages (5)" in text for text in found.warnings)
    assert len(site.paths) == 6


def test_links_that_give_no_page_are_passed_over_and_said(site: Site, folder: TaskFolder) -> None:
    links = ("/pdf", "/gone", "/broken", "/out", "/moved", "/private", "/untyped", "/loop", "/late")
    listing(site, "/", 1, 0, *(f"<a href='{path}'>x</a>" for path in links))
    site.robots("User-agent: *\nDisallow: /private\nDisallow: /secret")
    site.put("/pdf", b"%PDF" * 5_000_000, kind="application/pdf")
    site.put("/broken", "x", status=500)
    site.put("/out", "", status=302, Location="http://example.invalid/x")
    site.put("/moved", "", status=301, Location="/new")
    site.put("/late", "", status=307, Location="/secret")
    site.put("/loop", "", status=302, Location="/loop")
    site.put("/untyped", page("u", review("Untyped.", "neutral")), kind="")
    listing(site, "/new", 1, 1)
    found = Scraped(folder, selectors=SELECTORS, row=".review", depth=1)
    assert found.column("url") == ["${SITE}/", "${SITE}/new", "${SITE}/untyped"]
    assert found.record["bytes"] < 10_000
    assert found.record["passed"] == {"elsewhere": 1, "failed": 2, "gone": 1, "robots": 2, "type": 1}
    assert any("robots.txt keeps us from: 2" in text for text in found.warnings)
    assert any("could not be read: 3" in text and "/gone" in text for text in found.warnings)
    assert not {"/private", "/secret"} & set(site.paths)


def test_a_page_reached_by_two_addresses_counts_once(site: Site, folder: TaskFolder) -> None:
    listing(site, "/", 1, 0, "<a href='/one'>x</a><a href='/two'>y</a>")
    listing(site, "/one", 1, 1)
    site.put("/two", "", status=301, Location="/one")
    assert len(Scraped(folder, selectors=SELECTORS, row=".review", depth=1).rows) == 2


# What the site asks for


def test_a_given_address_that_robots_txt_forbids_is_refused_with_the_rule(site: Site, folder: TaskFolder) -> None:
    site.robots("User-agent: *\nDisallow: /private/\n")
    listing(site, "/private/a")
    problem = refused(folder, urls=["${SITE}/private/a"], selectors=SELECTORS, row=".review")
    assert isinstance(problem, Invalid) and problem.line == line_of(folder, "urls")
    assert "${SITE}/private/a" in problem.message and "line 2: Disallow: /private/" in str(problem.cause)
    assert site.paths == ["/robots.txt"]


@pytest.mark.parametrize(("status", "kind"), [(403, Invalid), (503, Unavailable)])
def test_a_robots_txt_that_cannot_be_read(site: Site, folder: TaskFolder, status: int, kind: type[Problem]) -> None:
    site.put("/robots.txt", "no", status=status)
    listing(site)
    problem = refused(folder, selectors=SELECTORS, row=".review")
    assert isinstance(problem, kind)
    assert str(status) in str(problem.cause)
    assert set(site.paths) == {"/robots.txt"}


def test_a_robots_txt_of_any_type_counts(site: Site, folder: TaskFolder) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /", kind="application/octet-stream")
    listing(site)
    assert "line 2" in str(refused(folder, selectors=SELECTORS, row=".review").cause)


def test_the_slower_of_our_rate_and_the_sites_is_kept(site: Site, folder: TaskFolder) -> None:
    for path, link in (("/", "/b"), ("/b", "/c"), ("/c", "/")):
        listing(site, path, 1, 0, f"<a href='{link}'>x</a>")
    Scraped(folder, selectors=SELECTORS, row=".review", depth=3, rate_limit=5.0)
    assert min(site.gaps()) > 0.1
    site.forget()
    site.robots("User-agent: *\nCrawl-delay: 0.3")
    slow = Scraped(folder, selectors=SELECTORS, row=".review", depth=3, refresh=True)
    assert min(site.gaps()[1:]) > 0.2
    assert any("0.3 s" in note for note in slow.notes) and slow.record["delay"] == 0.3


def test_robots_txt_is_asked_for_once_a_site_with_our_name(site: Site, folder: TaskFolder) -> None:
    site.robots("User-agent: reviewbot\nDisallow: /b\n\nUser-agent: *\nDisallow: /\n")
    listing(site, "/", 1, 0, "<a href='/b'>x</a>")
    found = Scraped(folder, selectors=SELECTORS, row=".review", depth=1, user_agent="reviewbot/2 (+mailto:a@b.invalid)")
    assert found.record["passed"] == {"robots": 1}
    assert site.counts["/robots.txt"] == 1
    assert site.agents == {"reviewbot/2 (+mailto:a@b.invalid)"}


# What goes wrong


def test_a_server_that_is_busy_is_asked_again(site: Site, folder: TaskFolder) -> None:
    listing(site)
    site.first("/", 503, 429, Retry_After="0")
    found = Scraped(folder, selectors=SELECTORS, row=".review")
    assert len(found.rows) == 3
    assert found.record["retries"] == 2


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(404, Invalid, "404"), (401, Unavailable, "401"), (403, Unavailable, "403"), (500, Unavailable, "500")],
)
def test_a_given_page_that_fails_is_named(
    site: Site, folder: TaskFolder, status: int, kind: type[Problem], words: str
) -> None:
    site.put("/", page("Sorry"), status=status)
    problem = refused(folder, selectors=SELECTORS)
    assert isinstance(problem, kind) and words in problem.message
    assert "auth" not in str(problem.mend)


def test_a_slow_page_a_dead_server_and_a_page_that_is_none(site: Site, folder: TaskFolder) -> None:
    listing(site)
    site.slow("/", 1)
    assert "0.2 s" in refused(folder, selectors=SELECTORS, timeout=0.2).message
    problem = refused(folder, urls=["http://127.0.0.1:9/"], selectors=SELECTORS)
    assert isinstance(problem, Unavailable) and "robots.txt" in problem.message
    assert "check that the server runs" in str(problem.mend)
    site.put("/", b"\x89PNG", kind="image/png")
    problem = refused(folder, selectors=SELECTORS)
    assert isinstance(problem, Invalid) and "image/png" in str(problem.cause)
    site.put("/", "", status=302, Location="https://example.invalid/reviews")
    assert "https://example.invalid/reviews" in refused(folder, selectors=SELECTORS).message


@pytest.mark.parametrize("url", ["ftp://example.invalid/", "example.invalid/x", "http:///x", "", "javascript:alert(1)"])
def test_what_is_no_web_address_is_refused(site: Site, folder: TaskFolder, url: str) -> None:
    assert "web address" in refused(folder, urls=[url]).message


def test_a_page_that_is_too_large_is_refused(site: Site, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_skills.data.sources.crawl._MAX_BYTES", 1 << 20)
    site.put("/", "<p>" + "x" * (1 << 20))
    assert "1 MiB" in refused(folder, selectors={"text": "p"}).message


def test_an_unset_variable_is_named(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SITE", raising=False)
    assert "SITE" in refused(folder).message


def test_follow_without_depth_is_said() -> None:
    source = WebScrape(type="web_scrape", name="web", urls=["http://h/"], follow="a.next")
    assert "depth" in sources.warnings(source)[0]


def test_no_secret_is_written_or_said(site: Site, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISITOR_TOKEN", "s3cret-pass")
    listing(site, "/?token=s3cret-pass", 1, 0, "<a href='/?token=s3cret-pass&amp;page=2'>s3cret-pass</a>")
    listing(site, "/?token=s3cret-pass&page=2", 1, 1)
    settings = {"urls": ["${SITE}/?token=${VISITOR_TOKEN}"], "row": ".review", "depth": 1}
    found = Scraped(folder, selectors=SELECTORS, **settings)
    assert len(found.rows) == 2
    said = [json.dumps([found.rows, found.record, found.warnings, found.notes])]
    said += [path.read_text(encoding="utf-8") for path in folder.root.rglob("*") if path.is_file()]
    said += [json.dumps(refused(folder, selectors={"text": ".none"}, **settings).as_dict())]
    assert not [text for text in said if "s3cret-pass" in text]
    site.forget()
    assert Scraped(folder, selectors=SELECTORS, **settings).rows == found.rows
    assert site.paths == []


def test_addresses_are_spelt_one_way() -> None:
    assert canonical("HTTP://Example.COM:80/a/../b#x") == canonical("http://example.com/b")
    assert canonical("https://h?x=1") == "https://h/?x=1"
    assert canonical("http://h/路徑") == "http://h/%E8%B7%AF%E5%BE%91"
    assert canonical("http://[::1") == ""


# Recorded


def test_new_selectors_read_the_recorded_pages_and_refresh_asks_again(site: Site, folder: TaskFolder) -> None:
    listing(site, "/", 2, 0, "<a href='/gone'>x</a><a href='/private'>y</a>")
    site.robots("User-agent: *\nDisallow: /private")
    first = Scraped(folder, selectors=SELECTORS, row=".review", depth=1)
    site.forget()
    again = Scraped(folder, selectors=SELECTORS, row=".review", depth=1)
    assert (again.rows, site.paths) == (first.rows, [])
    assert again.record["passed"] == first.record["passed"]
    assert again.record["recorded"] == 1 and again.record["requests"] == 0
    assert Scraped(folder, selectors={"heading": "title"}, depth=1).column("heading") == ["Reviews /"]
    assert site.paths == []
    listing(site, "/", 1)
    assert len(Scraped(folder, selectors=SELECTORS, row=".review", refresh=True).rows) == 1
    assert site.paths == ["/robots.txt", "/"]


def test_a_refresh_that_fails_keeps_what_was_recorded(site: Site, folder: TaskFolder) -> None:
    listing(site)
    first = Scraped(folder, selectors=SELECTORS, row=".review")
    site.put("/", "x", status=500)
    refused(folder, selectors=SELECTORS, row=".review", refresh=True)
    assert Scraped(folder, selectors=SELECTORS, row=".review").rows == first.rows


def test_after_a_refresh_no_older_page_comes_back(site: Site, folder: TaskFolder) -> None:
    listing(site, "/", 1, 0, "<a href='/b'>x</a>")
    listing(site, "/b", 1, 1)
    assert len(Scraped(folder, selectors=SELECTORS, row=".review", depth=1).rows) == 2
    site.put("/b", "x", status=500)
    refreshed = Scraped(folder, selectors=SELECTORS, row=".review", depth=1, refresh=True)
    assert len(refreshed.rows) == 1
    assert Scraped(folder, selectors=SELECTORS, row=".review", depth=1).rows == refreshed.rows


def test_a_look_asks_for_one_page_and_writes_nothing(site: Site, folder: TaskFolder) -> None:
    listing(site, "/", 2, 0, "<a href='/b'>x</a>")
    listing(site, "/b")
    before = sorted(folder.root.rglob("*"))
    assert len(Scraped(folder, selectors=SELECTORS, row=".review", depth=1, preview=True).rows) == 2
    assert site.paths == ["/robots.txt", "/"]
    assert sorted(folder.root.rglob("*")) == before


def test_a_look_goes_on_to_a_page_that_has_rows(site: Site, folder: TaskFolder) -> None:
    site.put("/", page("Start", "<a href='/a'>a</a><a href='/b'>b</a>"))
    listing(site, "/a", 1)
    found = Scraped(folder, selectors=SELECTORS, row=".review", depth=1, preview=True)
    assert len(found.rows) == 1
    assert site.paths == ["/robots.txt", "/", "/a"]


KILLED = """
import sys
from nlp_skills import extras
from nlp_skills.data import sources
from nlp_skills.workspace.folder import TaskFolder
folder = TaskFolder.at(__import__("pathlib").Path(sys.argv[1]))
print(len(list(sources.fetch(folder.sources().sources[0], sources.Fetching(folder)))))
"""


def test_a_crawl_that_was_killed_goes_on_where_it_was(site: Site, folder: TaskFolder) -> None:
    for number in range(12):
        listing(site, f"/{number}", 1, number, f"<a href='/{number + 1}'>next</a>")
        site.slow(f"/{number}", 0.1)
    settings = {"urls": ["${SITE}/0"], "row": ".review", "depth": 11}
    listing(site, "/12", 1, 12)
    with pytest.raises(Problem):
        Scraped(folder, **{**settings, "selectors": {"text": "p::x"}})
    written = {"type": "web_scrape", "name": "web", "rate_limit": 1000.0, "selectors": SELECTORS, **settings}
    folder.sources_path.write_text(yaml.dumps({"sources": [written]}), encoding="utf-8")
    running = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(folder.root)])
    limit = time.monotonic() + 30
    while site.paths[-1:] != ["/5"] and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(10) == -signal.SIGKILL
    found = Scraped(folder, selectors=SELECTORS, **settings)
    assert found.column("text") == [f"Camera {number} is fine." for number in range(12)]
    asked = site.counts
    assert asked["/robots.txt"] == 2
    assert all(asked[f"/{number}"] == 1 for number in range(12) if number != 5)
    assert asked["/5"] <= 2 and found.record["recorded"] >= 5


# Drawn


def written_by_script(site: Site) -> None:
    script = """<script>
      fetch('/data.json').then(r => r.json()).then(rows => {
        for (const row of rows) {
          const box = document.createElement('div'); box.className = 'review'; box.dataset.label = row.label;
          box.innerHTML = '<p>' + row.text + '</p><img src="/image.png">';
          document.body.append(box);
        }
        document.body.append(Object.assign(document.createElement('i'), {id: 'done'}));
      });
    </script><iframe src="/frame"></iframe><a href="/more">more</a>"""
    site.put("/", page("由程式寫出", script).encode("big5"), kind="text/html; charset=big5")
    rows = [{"text": f"電池 {number} 很好", "label": "positive"} for number in range(2)]
    site.put("/data.json", json.dumps(rows), kind="application/json")
    site.put("/more", page("Moved", "<script>location.href = '/new#x'</script>", review("Not this.", "neutral")))
    site.put("/new", page("More", review("Static.", "neutral"), "<script>open('/popup')</script>"))
    site.put("/image.png", b"\x89PNG", kind="image/png")


def test_a_page_that_scripts_write_is_drawn_in_a_browser(
    site: Site, folder: TaskFolder, chromium: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLP_SKILLS_CHROMIUM", chromium)
    written_by_script(site)
    problem = refused(folder, selectors=SELECTORS, row=".review")
    assert "render: true" in str(problem.mend)
    site.forget()
    found = Scraped(folder, selectors=SELECTORS, row=".review", render=True, depth=1)
    assert found.column("text") == ["電池 0 很好", "電池 1 很好", "Static."]
    assert found.column("title") == ["由程式寫出", "由程式寫出", "More"]
    assert found.record["encodings"] == {"cp950": 1, "utf-8": 1}
    assert sorted(site.paths) == ["/", "/data.json", "/more", "/new", "/robots.txt"]
    assert len(site.agents) == 1
    site.forget()
    assert Scraped(folder, selectors=SELECTORS, row=".review", render=True, depth=1).rows == found.rows
    assert site.paths == []


def test_what_to_wait_for_appears_or_is_missed(
    site: Site, folder: TaskFolder, chromium: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLP_SKILLS_CHROMIUM", chromium)
    late = "<script>setTimeout(() => { document.body.innerHTML += '<b>B</b>' }, 700)</script>"
    site.put("/", page("x", "<p>now</p>", late))
    found = Scraped(folder, selectors={"text": "b"}, render=True, wait_for="b")
    assert found.column("text") == ["B"]
    problem = refused(folder, selectors={"text": "b"}, render=True, wait_for="#never", timeout=1.0)
    assert "wait_for" in problem.message and "${SITE}/" in problem.message


def test_a_package_that_is_not_there(site: Site, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    listing(site)
    monkeypatch.setattr(extras, "installed", lambda module: module != "playwright")
    with pytest.raises(Unavailable, match="browser") as caught:
        Scraped(folder, selectors=SELECTORS, row=".review", render=True)
    assert "[browser]" in str(caught.value.mend) or "--extra browser" in str(caught.value.mend)
    monkeypatch.setattr(extras, "installed", lambda module: module != "selectolax")
    with pytest.raises(Unavailable, match="web"):
        Scraped(folder, selectors=SELECTORS, row=".review")


def test_a_browser_that_is_not_there(site: Site, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    listing(site)
    monkeypatch.setenv("NLP_SKILLS_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(Unavailable, match="NLP_SKILLS_CHROMIUM") as caught:
        Scraped(folder, selectors=SELECTORS, row=".review", render=True)
    assert "playwright install chromium" in str(caught.value.mend)
    monkeypatch.delenv("NLP_SKILLS_CHROMIUM")
    monkeypatch.setattr(browser, "_NAMES", ("no-such-browser",))
    with pytest.raises(Unavailable) as caught:
        Scraped(folder, selectors=SELECTORS, row=".review", render=True)
    assert str(caught.value.mend).endswith("-m playwright install chromium")
