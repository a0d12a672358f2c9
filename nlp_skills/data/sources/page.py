"""A web page as data: its title, its texts, what CSS selectors find in it, and where its links lead.

HTML is parsed and nothing in it is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from nlp_skills.i18n import _

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_ATTRIBUTE = re.compile(r"(?P<css>.*)@(?P<name>[A-Za-z_][\w.:-]*)\Z", re.DOTALL)


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_UNSEEN = _tags("script style noscript template svg head")
# Blocks that are closed by a tag or not at all, and those that also end by themselves.
_CLOSED = _tags(
    """address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header main menu nav ol pre section summary table ul"""
)
_BLOCKS = _CLOSED | _tags("body caption dd dt hr html legend li optgroup option p tbody td tfoot th thead tr")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_HARMLESS_TAGS = 20_000
# Parsing takes time with the square of how deep blocks nest.
_DEEPEST = 2_000
# Chinese and Japanese, written without spaces: a line break in the source between two of these is none in the text.
_WIDE = r"[\u2e80-\u303f\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60]"
_BROKEN = re.compile(rf"(?<={_WIDE})[ \t]*[\r\n]\s*(?={_WIDE})")
_SPACES = re.compile(r"\s+")
_BLOCK = "\x00"
_COUNTED = ("div", "p", "li", "tr", "article", "h1", "h2", "h3", "a")
_LARGEST = 40


def nests_too_deeply(html: str) -> bool:
    """Whether a page is made to keep a parser busy for hours, as no page for readers is."""
    if html.count("<") < _HARMLESS_TAGS:
        return False
    depth = 0
    for closing, name in _TAG.findall(html):
        if name.lower() in _CLOSED:
            depth = max(0, depth - 1) if closing else depth + 1
            if depth > _DEEPEST:
                return True
    return False


class WrongSelector(ValueError):
    """A text that is no CSS selector, or uses what the parser does not know."""


@dataclass(frozen=True)
class Selector:
    """`CSS`, or `CSS@attribute` for an attribute in place of the text; `@attribute` is one of the row itself."""

    css: str
    attribute: str | None = None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """A selector as data_source.yaml has it.

        Raises:
            WrongSelector: it is not CSS.
        """
        found = _ATTRIBUTE.match(text.strip())
        selector = cls(found["css"].strip(), found["name"]) if found else cls(text.strip())
        if selector.css or not selector.attribute:
            check_css(selector.css)
        return selector


def check_css(css: str) -> None:
    """Refuse what is no selector.

    Raises:
        WrongSelector: the reason, in words.
    """
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        LexborHTMLParser("<p></p>").css(css)
    except SelectolaxError as error:
        raise WrongSelector(str(error)) from error


@dataclass(frozen=True)
class Page:
    """A page that was read. `url` is where it was in the end; `bad` counts the characters that could not be read."""

    url: str
    html: str
    encoding: str
    bad: int = 0

    @cached_property
    def tree(self) -> LexborHTMLParser:
        """The parsed page."""
        from selectolax.lexbor import LexborHTMLParser

        return LexborHTMLParser(self.html)

    @property
    def title(self) -> str:
        """What the page calls itself; empty when it does not."""
        node = self.tree.css_first("title")
        return text_of(node) if node is not None else ""

    def blocks(self, css: str) -> list[LexborNode]:
        """The elements that a selector finds, in the order of the page."""
        return list(self.tree.css(css))

    def main_text(self) -> str:
        """The text of the page without menus and footers; empty when there is none."""
        import trafilatura

        return trafilatura.extract(self.html, include_comments=False) or ""

    def links(self, css: str) -> Iterator[str]:
        """Where the links that a selector finds lead, absolute but as they are spelt, in the order of the page."""
        base = self.tree.css_first("base[href]")
        start = _joined(self.url, str(base.attributes.get("href") or "")) if base is not None else self.url
        for node in self.tree.css(css):
            target = (node.attributes.get("href") or "").strip()
            if target and not target.startswith("#") and (found := _joined(start or self.url, target)):
                yield found

    def outline(self) -> str:
        """What is on the page, in a few words, for somebody whose selector found nothing."""
        counts = {name: len(self.tree.css(name)) for name in _COUNTED}
        classes: dict[str, int] = {}
        for node in self.tree.css("[class]"):
            for name in (node.attributes.get("class") or "").split():
                classes[f".{name}"] = classes.get(f".{name}", 0) + 1
        common = sorted(classes.items(), key=lambda item: (-item[1], item[0]))[:5]
        found = [f"{name[:_LARGEST]} ({count})" for name, count in [*counts.items(), *common] if count]
        return ", ".join(found) or _("nothing")


def take(node: LexborNode | None, page: Page, selector: Selector) -> list[str]:
    """What a selector finds in an element, or in the whole page: texts or attributes, empty ones left out."""
    if node is not None and not selector.css:
        return [value] if (value := _value(node, selector)) else []
    if not selector.css:
        return []
    nodes: list[Any] = (node.css if node is not None else page.tree.css)(selector.css)
    # The parser counts the element itself among what is in it.
    inside = [found for found in nodes if node is None or found.mem_id != node.mem_id]
    return [value for found in inside if (value := _value(found, selector))]


def _value(node: LexborNode, selector: Selector) -> str:
    if selector.attribute is None:
        return text_of(node)
    return (node.attributes.get(selector.attribute.lower()) or "").strip()


def text_of(node: LexborNode) -> str:
    """An element's text as a reader sees it: blocks on lines of their own, white space collapsed, no scripts."""
    parts: list[str] = []
    waiting: list[LexborNode | str] = [node]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
        elif item.is_text_node:
            parts.append((item.text_content or "").replace(_BLOCK, " "))
        elif item is node or item.tag not in _UNSEEN:
            edge = _BLOCK if item.tag in _BLOCKS else " " if item.tag == "br" else ""
            parts.append(edge)
            waiting.append(edge)
            waiting.extend(reversed(list(item.iter(include_text=True))))
    lines = "".join(parts).split(_BLOCK)
    return "\n".join(filter(None, (_SPACES.sub(" ", _BROKEN.sub("", line)).strip() for line in lines)))


def canonical(url: str, encoding: str = "utf-8") -> str:
    """The one spelling of an address: host in small letters, no fragment, no default port, other scripts escaped.

    The query is escaped in the page's `encoding`, as browsers do. An address that cannot be read comes back empty.
    """
    import httpx2

    try:
        parts = urlsplit(url)
        query = quote(parts.query, safe="%/:=&?~#+!$,;'@()*[]", encoding=encoding, errors="xmlcharrefreplace")
        return str(httpx2.URL(urlunsplit((parts.scheme, parts.netloc, parts.path or "/", query, ""))))
    except (httpx2.InvalidURL, UnicodeError, ValueError, LookupError):
        return ""


def site(url: str) -> str:
    """What a link may not leave: scheme, host and port."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:
        return ""
