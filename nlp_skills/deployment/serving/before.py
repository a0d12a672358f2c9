"""What stands before the application, outermost first: the log, pages of other sites, keys, limits."""

from __future__ import annotations

from nlp_skills.deployment.serving.answering import ASGI
from nlp_skills.deployment.serving.keys import Guard, Keys
from nlp_skills.deployment.serving.limits import Limits
from nlp_skills.deployment.serving.logs import Watched
from nlp_skills.deployment.serving.metrics import Figures
from nlp_skills.deployment.serving.settings import Settings


def stacked(app: ASGI, settings: Settings, keys: Keys, figures: Figures) -> ASGI:
    """The application with all of it around."""
    from starlette.middleware.cors import CORSMiddleware

    guarded: ASGI = Guard(Limits(app, settings, figures), settings, keys)
    if settings.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["x-nlp-skills-version", "x-request-id"],
        )
    return Watched(guarded, settings, figures)
