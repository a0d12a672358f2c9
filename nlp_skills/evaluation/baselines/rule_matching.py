"""A program: which rules hold for which rows. Standard library only; its processor time a rule is limited.

On standard input one JSON object: `seconds`, `texts` (by field, one a row) and `rules` (`[pattern, contains, field]`).
On standard output a line before each rule, which names it, and at the end one with the rules that hold, row by row.
"""

from __future__ import annotations

import json
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Match every rule, in order, against every row."""
    asked = json.load(sys.stdin)
    fields = asked["texts"]
    held: list[list[int]] = [[] for _row in next(iter(fields.values()))]
    for place, (pattern, contains, field) in enumerate(asked["rules"]):
        print(json.dumps({"rule": place}), flush=True)
        _limit(asked["seconds"])
        holds = _test(pattern, contains)
        for texts in [fields[field]] if field else fields.values():
            for row, text in enumerate(texts):
                if place not in held[row][-1:] and holds(text):
                    held[row].append(place)
    print(json.dumps({"held": held}), flush=True)


def _test(pattern: str | None, contains: list[str]) -> Any:
    if pattern is not None:
        return re.compile(pattern).search
    wanted = [text.casefold() for text in contains]
    return lambda text: any(one in text.casefold() for one in wanted)


def _limit(seconds: int) -> None:
    """From now on so many seconds of the processor's time, where the system can limit it."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
