"""A program that runs another one, and ends it when its own standard input ends: `python tethered.py COMMAND…`.

Standard library only; it is started as a file of its own. What it runs is then gone with whoever started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the command until it ends by itself, or nobody is there any more."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def watch() -> None:
        sys.stdin.read()
        # The group, which is this program's own: what it runs has children too.
        os.killpg(0, signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    # A signal's handler is set by the main thread only.
    signal.signal(signal.SIGTERM, lambda *_arguments: None)
    threading.Thread(target=watch, daemon=True).start()
    os._exit(child.wait() % 256)


if __name__ == "__main__":
    main()
