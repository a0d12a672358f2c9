"""What robots.txt allows: read as RFC 9309 says, and never read generously."""

from __future__ import annotations

import time

import pytest

from nlp_skills import __version__
from nlp_skills.data.sources import robots
from nlp_skills.data.sources.http import Response
from nlp_skills.errors import Unavailable

AGENT = f"nlp-skills/{__version__}"
ADDRESS = "http://h/robots.txt"


def rules(text: str | bytes, status: int = 200) -> robots.Rules:
    content = text.encode() if isinstance(text, str) else text
    return robots.read(lambda: Response(status, ADDRESS, {}, content), AGENT, ADDRESS)


SITE = """\
# Two groups.
User-agent: somebody-else
Disallow: /

User-agent: *
Disallow: /private/   # not for programs
Allow: /private/open
Disallow: /*.php$
Disallow: /台北/
Crawl-delay: 2.5
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/", None),
        ("/robots.txt", None),
        ("/private", None),
        ("/private/open/a", None),
        ("/private/a", "line 6: Disallow: /private/"),
        ("/x/a.php", "line 8: Disallow: /*.php$"),
        ("/x/a.php?x", None),
        ("/%E5%8F%B0%E5%8C%97/a", "line 9"),
    ],
)
def test_the_rule_that_forbids_an_address_is_named(path: str, line: str | None) -> None:
    found = rules(SITE).refusal(f"http://h{path}")
    assert found is None if line is None else line in str(found)


def test_a_group_of_ours_counts_and_the_others_do_not() -> None:
    ours = rules("User-agent: NLP-skills\nDisallow: /a\n\nUser-agent: *\nDisallow: /\n")
    assert ours.refusal("http://h/b") is None
    assert "line 2" in str(ours.refusal("http://h/a"))


def test_of_two_rules_that_forbid_it_the_longer_is_named() -> None:
    found = rules("User-agent: *\nDisallow: /a\nDisallow: /a/b\nDisallow: /a\n").refusal("http://h/a/b/c")
    assert "line 3: Disallow: /a/b" in str(found)


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("User-agent: *\nCrawl-delay: 2.5", 2.5),
        ("User-agent: *\nRequest-rate: 1/10", 10.0),
        ("User-agent: *\nRequest-rate: 30/1m", 2.0),
        ("User-agent: *\nCrawl-delay: 1\nRequest-rate: 1/3s", 3.0),
        ("User-agent: *\nCrawl-delay: soon", 0.0),
        ("User-agent: other\nCrawl-delay: 9", 0.0),
        ("", 0.0),
    ],
)
def test_the_slower_of_the_two_ways_to_ask_for_a_pause_counts(text: str, delay: float) -> None:
    assert rules(text).delay == delay


@pytest.mark.parametrize("status", [404, 410, 400, 451])
def test_without_a_robots_txt_everything_is_allowed(status: int) -> None:
    assert rules("User-agent: *\nDisallow: /", status).refusal("http://h/a") is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_robots_txt_allows_nothing(status: int) -> None:
    found = rules("", status)
    assert str(status) in str(found.refusal("http://h/a"))
    assert found.delay == 0


def test_a_byte_order_mark_bad_bytes_and_a_page_in_its_place_are_harmless() -> None:
    assert rules(b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /a\r\n").refusal("http://h/a") is not None
    assert rules(b"User-agent: *\n# \xff\xfe\nDisallow: /a\n").refusal("http://h/a") is not None
    assert rules("<!doctype html><title>Not here</title>").refusal("http://h/a") is None


def test_an_overlong_robots_txt_is_read_as_far_as_it_must_be() -> None:
    found = rules("User-agent: *\nDisallow: /a\n" + "#" * 600_000 + "\nDisallow: /b\n")
    assert found.refusal("http://h/a") is not None
    assert found.refusal("http://h/b") is None


def test_when_the_server_cannot_say_nothing_is_allowed_for_now() -> None:
    def broken() -> Response:
        raise Unavailable("http://h/robots.txt answers 503", cause="maintenance")

    with pytest.raises(Unavailable) as caught:
        robots.read(broken, AGENT, ADDRESS)
    assert "503" in str(caught.value.cause) and "maintenance" in str(caught.value.cause)
    assert "try again later" in str(caught.value.mend)


def test_a_large_robots_txt_names_its_rule_quickly() -> None:
    text = "User-agent: *\n" + "".join(f"Disallow: /section-{number}/\n" for number in range(3000))
    started = time.perf_counter()
    assert "line 3001" in str(rules(text).refusal("http://h/section-2999/x"))
    assert time.perf_counter() - started < 5
