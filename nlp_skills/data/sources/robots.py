"""robots.txt: what a site lets programs read, and how fast. It is always obeyed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nlp_skills.data import rows as lines
from nlp_skills.data.sources.http import Response
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from protego import Protego

# So much of a robots.txt must be read (RFC 9309, 2.5); nobody's is longer.
_LONGEST = 500 << 10


@dataclass(frozen=True)
class Rules:
    """A site's rules for one program. `closed`: why nothing may be read at all."""

    agent: str
    text: str = ""
    closed: str | None = None

    @cached_property
    def _parsed(self) -> Protego:
        from protego import Protego

        return Protego.parse(self.text)

    @property
    def delay(self) -> float:
        """Seconds that the site wants between two requests; 0 where it does not say."""
        rate = self._parsed.request_rate(self.agent)
        return max(self._parsed.crawl_delay(self.agent) or 0.0, rate.seconds / rate.requests if rate else 0.0)

    def refusal(self, url: str) -> str | None:
        """The rule that forbids an address, in words; None where it is allowed."""
        if self.closed is not None or self._parsed.can_fetch(url, self.agent):
            return self.closed
        number, rule = self._rule_against(url)
        return _("robots.txt, line {number}: {rule}", number=number, rule=lines.shown_name(rule))

    def _rule_against(self, url: str) -> tuple[int, str]:
        """The line that forbids an address: with every other refusal taken out it still does."""
        from protego import Protego

        written = self.text.splitlines()
        refusals = {number: value for number, line in enumerate(written) if (value := _refused_path(line))}
        matching = [
            number
            for number, value in sorted(refusals.items(), key=lambda item: (-len(item[1]), item[0]))
            if not Protego.parse(f"User-agent: *\nDisallow: {value}").can_fetch(url, self.agent)
        ]
        for number in matching:
            alone = [line if at == number or at not in refusals else "Disallow:" for at, line in enumerate(written)]
            if not Protego.parse("\n".join(alone)).can_fetch(url, self.agent):
                return number + 1, written[number].strip()
        return 1, _("this program is not allowed")


def _refused_path(line: str) -> str:
    """The path of a Disallow line; empty for every other one."""
    name, _colon, value = line.partition("#")[0].partition(":")
    return value.strip() if name.strip().lower() == "disallow" else ""


def read(ask: Callable[[], Response], agent: str, address: str) -> Rules:
    """A site's rules, from the answer to `ask` for its robots.txt at `address`.

    No robots.txt allows everything; one that only some may read (401, 403) allows us nothing.

    Raises:
        Unavailable: the server cannot say what it allows now (429, 5xx, no answer): then nothing may be read.
    """
    try:
        answer = ask()
    except Problem as problem:
        raise Unavailable(
            _("{address} cannot be read, so nothing else of the site may be", address=address),
            file=problem.file,
            line=problem.line,
            cause=f"{problem.message}; {problem.cause}" if problem.cause else problem.message,
            mend=problem.mend or _("try again later: what a site cannot say it allows must be left alone"),
        ) from problem
    if answer.status in (401, 403):
        reason = _("{address} answers {status}: the site is closed to programs", address=address, status=answer.status)
        return Rules(agent, closed=reason)
    text = answer.content[:_LONGEST].decode("utf-8-sig", "replace") if answer.status < 300 else ""
    return Rules(agent, text)
