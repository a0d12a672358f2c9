"""Pages drawn in a real browser, so that what their scripts write is there to read.

The page itself is fetched by our own client, which keeps to robots.txt, rates and limits; the browser gets that
answer, asks for the scripts it needs, goes nowhere else, and its final document is taken.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.sources.page import canonical
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab
    from playwright.sync_api import Playwright, Request, Route

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_QUIET = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# Nothing of these is text.
_UNREAD = frozenset({"image", "media", "font"})
# How long scripts may go on asking for things when no `wait_for` says what to wait for, in seconds.
_SETTLES = 5.0
# These describe the bytes that came over the wire, not the text that the browser is given.
_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "content-type", "transfer-encoding", "connection"})


# How often it is looked whether a page that does not finish loading has sent the browser elsewhere, in seconds.
_LOOK = 0.25


class Drawn(NamedTuple):
    """A document after its scripts ran. `moved`: where it sent the browser, which did not go there."""

    html: str
    moved: str | None


class Browser:
    """One browser for one fetch; use it in a `with` statement. `timeout` is in seconds."""

    def __init__(self, *, agent: str, timeout: float, wait_for: str | None) -> None:
        extras.need("browser", "playwright")
        self._agent, self._timeout, self._wait_for = agent, timeout, wait_for
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Browser:
        from playwright.sync_api import Error, sync_playwright

        with contextlib.ExitStack() as opening:
            try:
                playwright = opening.enter_context(sync_playwright())
                started = playwright.chromium.launch(
                    executable_path=executable(playwright),
                    # Chromium refuses to run with its sandbox as root.
                    chromium_sandbox=os.geteuid() != 0,
                    args=list(_QUIET),
                    timeout=max(self._timeout, 30) * 1000,
                )
            except Error as error:
                raise Unavailable(
                    _("the browser does not start"),
                    cause=lines.cut(error.message.strip().split("\n", 1)[0], 300),
                    mend=_("install Chromium, or name another one in the variable NLP_SKILLS_CHROMIUM"),
                ) from error
            opening.callback(started.close)
            self._context = started.new_context(
                user_agent=self._agent, accept_downloads=False, service_workers="block", permissions=[]
            )
            self._context.set_default_timeout(self._timeout * 1000)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def drawn(self, url: str, html: str, headers: Mapping[str, str]) -> Drawn:
        """The document after its scripts ran. `html` and `headers` are the server's answer for `url`.

        Raises:
            Invalid: `wait_for` did not appear.
            Unavailable: the page did not load in time, or the browser died.
        """
        from playwright.sync_api import Error

        tab = self._context.new_page()
        moved: list[str] = []
        try:
            tab.on("popup", lambda other: other.close())
            # For all tabs, so that those which the page opens ask for nothing either.
            self._context.route("**/*", lambda route: _answer(route, tab, url, html, headers, moved))
            tab.goto(url, wait_until="commit")
            appeared = self._waited(tab, moved)
            return Drawn(tab.content(), moved[0] if moved and not appeared else None)
        except Error as error:
            raise Unavailable(
                _("the page could not be drawn"),
                cause=lines.cut(error.message.strip().split("\n", 1)[0], 300),
                mend=_("try again, or give a longer timeout:"),
            ) from error
        finally:
            with contextlib.suppress(Error):
                tab.close()
                self._context.unroute_all(behavior="ignoreErrors")

    def _waited(self, tab: Tab, moved: list[str]) -> bool:
        """Wait until the page is there; whether `wait_for` appeared."""
        from playwright.sync_api import TimeoutError as TooLate

        if self._wait_for is None:
            self._loaded(tab, moved)
            # A page that never stops asking is taken as it is by then.
            with contextlib.suppress(TooLate):
                tab.wait_for_load_state("networkidle", timeout=min(_SETTLES, self._timeout) * 1000)
            return False
        try:
            tab.wait_for_selector(self._wait_for, state="attached")
        except TooLate as error:
            if moved:
                return False
            raise Invalid(
                _("nothing on the page matched wait_for in {seconds} s", seconds=f"{self._timeout:g}"),
                mend=_("correct wait_for:, or give a longer timeout:"),
            ) from error
        return True

    def _loaded(self, tab: Tab, moved: list[str]) -> None:
        """Wait for the page to load; one that is about to leave never does."""
        from playwright.sync_api import TimeoutError as TooLate

        limit = time.monotonic() + self._timeout
        while not moved:
            try:
                tab.wait_for_load_state("load", timeout=_LOOK * 1000)
            except TooLate:
                if time.monotonic() > limit:
                    raise
            else:
                return


def _answer(route: Route, tab: Tab, url: str, html: str, headers: Mapping[str, str], moved: list[str]) -> None:
    """What the browser asks for: the page from us, scripts and data from their servers, nothing else."""
    request = route.request
    if request.resource_type in _UNREAD:
        route.abort()
    elif not request.is_navigation_request():
        route.continue_()
    elif not _is_of(tab, request):
        route.abort()
    elif canonical(request.url) == url:
        kept = {name: value for name, value in headers.items() if name.lower() not in _OF_THE_WIRE}
        route.fulfill(status=200, headers=kept, content_type="text/html; charset=utf-8", body=html)
    else:
        moved.append(request.url)
        # "No content" leaves the page where it is; a navigation that breaks off would put an error in its place.
        route.fulfill(status=204)


def _is_of(tab: Tab, request: Request) -> bool:
    """Whether the tab itself is to show what is asked for, rather than a frame in it or a window it opens."""
    from playwright.sync_api import Error

    try:
        return request.frame == tab.main_frame
    except Error:
        # A window that is not there yet has no frame.
        return False


def executable(playwright: Playwright) -> str:
    """The path of the browser: the one NLP_SKILLS_CHROMIUM names, the system's, or Playwright's own.

    Raises:
        Unavailable: there is none.
    """
    command = f"{sys.executable} -m playwright install chromium"
    if named := os.environ.get("NLP_SKILLS_CHROMIUM"):
        if found := shutil.which(named):
            return found
        raise Unavailable(
            _("the browser that NLP_SKILLS_CHROMIUM names is not there"),
            file=named,
            mend=_("correct the variable, or unset it and run: {command}", command=command),
        )
    own = playwright.chromium.executable_path
    found = next(filter(None, map(shutil.which, _NAMES)), own if Path(own).is_file() else None)
    if found is None:
        raise Unavailable(_("render: true needs a browser, and there is none"), mend=command)
    return found
