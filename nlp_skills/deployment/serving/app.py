"""The gateway as an ASGI application: the task's own calls, OpenAI's, administration, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from nlp_skills import __version__, extras
from nlp_skills.deployment.serving import before, page, reading, shapes, switching
from nlp_skills.deployment.serving.answering import ASGI
from nlp_skills.deployment.serving.keys import Keys
from nlp_skills.deployment.serving.metrics import Figures
from nlp_skills.deployment.serving.reading import Refused
from nlp_skills.deployment.serving.service import Chatting, Service
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _

VERSION_HEADER = "x-nlp-skills-version"
_RETRY = {"retry-after": "2"}
# What any call may be answered with by what stands before it.
_BEFORE = (401, 403, 413, 429, 503, 504)


def create(service: Service, settings: Settings) -> ASGI:
    """The application, with everything that stands before it.

    Raises:
        Unavailable: the extra is missing.
    """
    figures = Figures(service.pool)
    return before.stacked(_inner(service, settings, figures), settings, Keys(settings), figures)


def _inner(service: Service, settings: Settings, figures: Figures) -> Any:
    extras.need("serve", "fastapi", "uvicorn")
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse

    app = FastAPI(
        title=service.task,
        version=__version__,
        description=_("Answers of the task {task}, and its versions.", task=service.task),
        docs_url=None,
        redoc_url=None,
    )
    # Request is looked up by name when routes are added.
    for add in (_task, _versions, _openai, _health):
        add(app, service, settings)
    _figures(app, figures)

    def failed(request: Any, refused: Refused) -> Any:
        openai = request.url.path.startswith("/v1/")
        headers = _RETRY if refused.status == 503 else None
        return JSONResponse(refused.body(openai=openai), refused.status, headers)

    async def problem(request: Any, error: Any) -> Any:
        return failed(request, reading.of_problem(error))

    async def refusal(request: Any, error: Any) -> Any:
        return failed(request, error)

    async def invalid(request: Any, error: Any) -> Any:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return failed(request, Refused(422, "invalid", f"{where}: {first['msg']}"))

    async def http(request: Any, error: Any) -> Any:
        found = failed(request, Refused(error.status_code, str(error.detail).lower().replace(" ", "_"), error.detail))
        found.headers.update(error.headers or {})
        return found

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(Refused, refusal)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    return app


def _errors(*statuses: int, openai: bool = False) -> dict[int | str, dict[str, Any]]:
    told = {
        400: "The body is not JSON.",
        401: "An API key is missing or unknown.",
        403: "The key, or the place it is called from, does not allow this.",
        404: "No such version or model.",
        409: "It cannot be done as things are; nothing has changed.",
        413: "The body is too long.",
        422: "What was asked cannot be answered.",
        429: "Too many requests; see Retry-After.",
        503: "What answers is down or not ready; see Retry-After.",
        504: "It took too long.",
    }
    form = shapes.OpenAIFailed if openai else shapes.Failed
    return {status: {"model": form, "description": told[status]} for status in sorted({*statuses, *_BEFORE})}


def _task(app: Any, service: Service, settings: Settings) -> None:
    from fastapi import Query
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    schema = shapes.rows(service.pool.choose(service.first).fields, settings)
    taken = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    async def predict(request: Request, version: str | None = Query(None, max_length=64)) -> Any:
        body = reading.parsed(await request.body())
        name = _existing(service, version)
        done = await service.predict(lambda fields: reading.rows(body, fields, settings), name)
        given = [
            {"answer": one.answer, "probability": one.probability, "probabilities": one.probabilities}
            for one in done.predictions
        ]
        took = {"version": done.version, "latency_ms": round(done.seconds * 1000, 3)}
        content = {**took, "predictions": given} if isinstance(body, list) else {**took, **given[0]}
        return JSONResponse(content, headers={VERSION_HEADER: done.version})

    predict.__annotations__["request"] = Request
    app.add_api_route(
        "/api/v1/predict",
        predict,
        methods=["POST"],
        summary="Answer a row, or a list of rows",
        response_model=shapes.One | shapes.Many,
        responses=_errors(400, 404, 409, 422),
        openapi_extra=taken,
        tags=["task"],
    )


def _versions(app: Any, service: Service, _settings: Settings) -> None:
    import asyncio

    from fastapi import Query

    async def versions() -> Any:
        told = await asyncio.to_thread(service.versions)
        active, engine = service.pool.active, service.pool.maker.name
        return {"task": service.task, "active": active, "engine": engine, "versions": told, "refused": service.refused}

    async def rollback(version: str | None = Query(None, max_length=64)) -> Any:
        return _switched(
            await _switching(switching.back(service, _existing(service, version) if version is not None else None))
        )

    async def promote(version: str = Query(max_length=64)) -> Any:
        return _switched(await _switching(switching.promoted(service, _existing(service, version))))

    told = {"responses": _errors(404, 409, 422), "tags": ["versions"]}
    app.add_api_route(
        "/api/v1/versions",
        versions,
        summary="The versions that can be asked",
        response_model=shapes.VersionsTold,
        responses=_errors(422),
        tags=["versions"],
    )
    app.add_api_route(
        "/api/v1/rollback",
        rollback,
        methods=["POST"],
        summary="Answer with another version, by default the one before",
        response_model=shapes.SwitchTold,
        **told,
    )
    app.add_api_route(
        "/api/v1/promote",
        promote,
        methods=["POST"],
        summary="Make an experiment the next version, and answer with it",
        response_model=shapes.SwitchTold,
        **told,
    )


def _openai(app: Any, service: Service, _settings: Settings) -> None:
    import asyncio

    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

    async def models() -> Any:
        told = await asyncio.to_thread(service.created)
        data = [{"id": name, "object": "model", "created": at, "owned_by": "nlp-skills"} for name, at in told]
        return JSONResponse({"object": "list", "data": data})

    async def chat(request: Request) -> Any:
        body, version = reading.conversation(reading.parsed(await request.body()), service.task)
        try:
            name = service.known(version)
        except (Usage, Invalid) as problem:
            raise reading.unknown_model(str(body["model"]), service.task) from problem
        return _chatted(await service.chat(body, name), str(body["model"]))

    chat.__annotations__["request"] = Request
    app.add_api_route(
        "/v1/models",
        models,
        summary="The models: the task, and each of its versions",
        response_model=shapes.ModelsTold,
        responses=_errors(openai=True),
        tags=["openai"],
    )
    app.add_api_route(
        "/v1/chat/completions",
        chat,
        methods=["POST"],
        summary="A chat completion, as OpenAI's clients ask for one",
        responses={
            200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "The completion."},
            500: {"model": shapes.OpenAIFailed, "description": "The engine could not answer."},
            **_errors(400, 404, 409, 422, openai=True),
        },
        response_class=Response,
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": shapes.CONVERSATION}}}
        },
        tags=["openai"],
    )


def _health(app: Any, service: Service, _settings: Settings) -> None:
    from starlette.responses import HTMLResponse

    async def healthz() -> Any:
        return {"status": "ok"}

    async def readyz() -> Any:
        if not service.pool.ready:
            raise Refused(
                503, "not_ready", _("the active version does not answer just now"), _("ask again in a moment")
            )
        return {"status": "ready", "task": service.task, "version": service.pool.active}

    async def docs() -> Any:
        return HTMLResponse(page.of(app.openapi()))

    for path, call, summary in (
        ("/healthz", healthz, "Whether the gateway is there"),
        ("/readyz", readyz, "Whether the active version answers"),
    ):
        app.add_api_route(
            path, call, summary=summary, response_model=shapes.Health, responses=_errors(503), tags=["health"]
        )
    app.add_api_route("/docs", docs, include_in_schema=False)


def _figures(app: Any, figures: Figures) -> None:
    from starlette.responses import Response

    async def metrics() -> Any:
        return Response(figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_api_route(
        "/metrics",
        metrics,
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "The figures."}, **_errors()},
        tags=["health"],
    )


def _existing(service: Service, version: str | None) -> str:
    """A version that the caller named, or the active one.

    Raises:
        Refused: there is none of that name.
    """
    try:
        return service.known(version)
    except (Usage, Invalid) as problem:
        raise reading.of_problem(problem, 404, "unknown_version") from problem


async def _switching(work: Awaitable[switching.Moved]) -> switching.Moved:
    try:
        return await work
    except (Usage, Invalid) as problem:
        raise reading.of_problem(problem, 409, "not_switched") from problem


def _switched(moved: switching.Moved) -> dict[str, Any]:
    return {"before": moved.before, "after": moved.after, "left": list(moved.left)}


def _chatted(done: Chatting, model: str) -> Any:
    from starlette.responses import Response, StreamingResponse

    headers = {VERSION_HEADER: done.version}
    if done.events is not None:
        return StreamingResponse(done.events, done.status, headers, media_type="text/event-stream")
    content = done.body if isinstance(done.body, bytes) else json.dumps(done.body, ensure_ascii=False).encode()
    return Response(content, done.status, headers, media_type="application/json")
