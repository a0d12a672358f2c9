"""uv.lock as pip's constraints, for a machine without uv. Standard library only; run by its path."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def pins(lock: Path) -> list[str]:
    """`name==version` of every locked package, with the markers that choose between two versions of one."""
    packages = tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
    return [_pin(package) for package in packages if "registry" in package["source"]]


def _pin(package: dict[str, object]) -> str:
    pin = f"{package['name']}=={package['version']}"
    markers = package.get("resolution-markers")
    if not isinstance(markers, list):
        return pin
    return f"{pin} ; {' or '.join(f'({marker})' for marker in markers)}"


if __name__ == "__main__":
    print("\n".join(pins(Path(sys.argv[1]))))
