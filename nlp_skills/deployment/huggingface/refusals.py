"""What the Hub's refusals mean to the person who publishes there. No message holds a token."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import Any

from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.training import hub_refusals

_LOG_IN = "hf auth login"
_QUOTA = re.compile(r"quota|storage|limit|billing|payment|space left", re.IGNORECASE)


@contextlib.contextmanager
def explained(repo: str, host: str) -> Iterator[None]:
    """Within the block, what the client raises is said in words.

    Raises:
        Invalid: the Hub does not want this name or this content, or somebody else changed it meanwhile.
        Unavailable: no right to write there, no room, no connection, or the Hub is in trouble.
    """
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except Problem:
        raise
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:
        # The Hub client's own errors are kinds of these; a transport's are the first.
        raise problem(error, repo, host) from error


def problem(error: BaseException, repo: str, host: str) -> Problem:
    """An error of the client in words."""
    response = _response(error)
    if response is None:
        return _without_answer(error, repo, host)
    said = _said(error)
    status = int(response.status_code)
    if status == 401:
        return _bad_token(host)
    if status in (402, 413, 507) or (status in (400, 403) and _QUOTA.search(said)):
        return Unavailable(
            _("the Hub has no room for {repo}", repo=repo),
            cause=said,
            mend=_("remove what is no longer needed there, or enlarge the account's storage; then run this again: "
                   "what was sent is kept"),
        )  # fmt: skip
    if status == 403:
        return no_right(repo, said)
    if status == 404:
        return Invalid(
            _("the Hub has no {repo} for this account", repo=repo),
            cause=said,
            mend=_("correct the name, or use an account that has access: {command}", command=_LOG_IN),
        )
    if status in (409, 412):
        return Invalid(
            _("somebody else changed {repo} meanwhile", repo=repo), cause=said, mend=_("run the command again")
        )
    if status == 429:
        return Unavailable(
            _("the Hub was asked too often"), cause=said, mend=_("wait a few minutes, then run the command again")
        )
    if status >= 500:
        return Unavailable(
            _("the Hub answered with an error of its own: {status}", status=status),
            cause=said,
            mend=_("run it again in a while: what was sent is kept"),
        )
    return Invalid(
        _("the Hub refuses {repo}", repo=repo), cause=said, mend=_("correct what it names, then run it again")
    )


def no_token() -> Unavailable:
    """Nobody is logged in."""
    return Unavailable(
        _("nothing can be sent to the Hub: no one is logged in here"),
        cause=_("there is no token in HF_TOKEN, and none that was saved"),
        mend=_("make a token with the right to write in the account's settings, then: {command}", command=_LOG_IN),
    )


def offline() -> Unavailable:
    """The user asked for no network."""
    return Unavailable(
        _("nothing can be sent to the Hub: HF_HUB_OFFLINE is set"),
        cause=_("with it, the Hub's client makes no connection"),
        mend=_("unset HF_HUB_OFFLINE; to only look at what would go there: --dry-run"),
    )


def no_right(repo: str, said: str) -> Unavailable:
    """The account or its token may not write there."""
    return Unavailable(
        _("the account that is logged in here may not write to {repo}", repo=repo),
        cause=said,
        mend=_("name a repository of its own: --repo OWNER/NAME; or log in with a token that has the right to write: "
               "{command}", command=_LOG_IN),
    )  # fmt: skip


def _bad_token(host: str) -> Unavailable:
    return Unavailable(
        _("{host} refuses this machine's token", host=host),
        cause=_("the token is wrong, has expired or was revoked; HF_TOKEN goes before the saved one"),
        mend=_("log in anew with: {command}", command=_LOG_IN),
    )


def _without_answer(error: BaseException, repo: str, host: str) -> Problem:
    errors: Any = importlib.import_module("huggingface_hub.errors")
    chain = list(_chain(error))
    if any(isinstance(one, errors.OfflineModeIsEnabled) for one in chain):
        return offline()
    if any(isinstance(one, errors.HTTPError | ConnectionError | TimeoutError) for one in chain):
        return Unavailable(
            _("the connection to the Hub was lost, or never made: {host}", host=host),
            cause=hub_refusals.first_line(chain[-1]),
            mend=_("look at the network (or HF_ENDPOINT), then run it again: what was sent is kept"),
        )
    return Invalid(
        _("the Hub's client refuses {repo}", repo=repo),
        cause=hub_refusals.first_line(chain[-1]),
        mend=_("correct what it names, then run it again"),
    )


def _said(error: BaseException) -> str:
    """What the Hub said itself, cut and without anything secret."""
    for one in _chain(error):
        message = getattr(one, "server_message", None)
        if message:
            return hub_refusals.first_line(ValueError(message))
    return hub_refusals.first_line(error)


def _response(error: BaseException) -> Any:
    return next((found for one in _chain(error) if (found := getattr(one, "response", None)) is not None), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
