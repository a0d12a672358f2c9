"""Reading the boxed tables that commands print."""

from __future__ import annotations


def tables(text: str) -> list[list[list[str]]]:
    """Each table as rows of cells, the heading first."""
    found: list[list[list[str]]] = []
    for line in text.splitlines():
        if line.startswith("┌"):
            found.append([])
        elif line.startswith("│") and found:
            found[-1].append([cell.strip() for cell in line.strip("│").split("│")])
    return found


def aligned(text: str) -> bool:
    """Whether every line of each table takes the same width on a screen."""
    from rich.cells import cell_len

    widths: list[set[int]] = []
    for line in text.splitlines():
        if line.startswith("┌"):
            widths.append(set())
        if line.startswith(("┌", "│", "├", "└")) and widths:
            widths[-1].add(cell_len(line))
    return bool(widths) and all(len(found) == 1 for found in widths)
