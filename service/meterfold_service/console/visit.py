"""One request to a page: who it is from, what they may call, and the answer with its headers."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from meterfold_schemas.errors import MeterfoldError
from meterfold_service.access.errors import InvalidToken
from meterfold_service.access.principal import Principal
from meterfold_service.access.scoped import Scoped
from meterfold_service.console import headers
from meterfold_service.console.desk import Desk
from meterfold_service.console.menu import entries
from meterfold_service.console.rendering import environment, url
from meterfold_service.console.sessions import LONGEST_SECONDS, Session
from meterfold_service.http.problems import status_of

__all__ = ["NOTICES", "Visit", "own_path", "page"]

_LOG = logging.getLogger("meterfold.console")
P = ParamSpec("P")
R = TypeVar("R")

_FORM_BYTES: Final = 1_000_000
_REFRESH_SECONDS: Final = 3
NOTICES: Final[Mapping[str, str]] = {
    "defined": "The metric is defined.",
    "updated": "The change is stored.",
    "deleted": "The definition is deleted. The usage stays.",
    "created": "The threshold is created. It judges from now on.",
    "closed": "The period is closed.",
    "revoked": "The token is revoked. Every server refuses it within 5 seconds.",
    "signed-out": "You are signed out.",
    "sent": "The message was sent again.",
    "enabled": "The endpoint is enabled.",
    "redelivered": "The deliveries are sent again.",
}


class CsrfFailed(MeterfoldError):
    """The form does not come from a page of this session."""

    code = "CSRF"

    def __init__(self) -> None:
        super().__init__("this form is too old, or does not come from this console; reload the page and try again")


class Defect(MeterfoldError):
    """A bug of ours."""

    code = "INTERNAL"

    def __init__(self) -> None:
        super().__init__("an unexpected error, which the server logged. Try again, and report it if it fails again")


@dataclass(slots=True)
class Visit:
    """`who`: the principal, None before a sign-in. `form`: what was posted."""

    request: Request
    desk: Desk
    session: Session
    who: Principal | None
    form: Mapping[str, str]

    @property
    def principal(self) -> Principal:
        """Raises InvalidToken."""
        if self.who is None:
            raise InvalidToken("nobody is signed in")
        return self.who

    @property
    def may(self) -> Scoped:
        """The operations, as this person may call them."""
        return Scoped(self.desk.metering, self.principal)

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """An operation, which may block, beside the event loop. What a form does may wait for workers."""
        call = self.desk.change if self.request.method == "POST" else self.desk.run
        return await call(operation, *args, **kwargs)

    def render(self, template: str, http_status: int = 200, /, **values: Any) -> Response:
        """A template as an answer."""
        found = environment().get_template(template)
        text = found.render(
            who=self.who,
            menu=entries(self.who),
            here=self.request.url.path,
            csrf=self.session.csrf(self.desk.signer),
            notice=NOTICES.get(self.query.get("done", "")),
            now=self.desk.now(),
            is_slow=self.desk.is_slow,
            **values,
        )
        return HTMLResponse(text, http_status)

    def go(self, path: str, **query: Any) -> Response:
        """To another page of ours, after a form."""
        return RedirectResponse(url(path, **query), HTTPStatus.SEE_OTHER)

    @property
    def is_fragment(self) -> bool:
        """Asked for by a page that is open, for a part of it."""
        return self.request.headers.get("hx-request") == "true"


Handler = Callable[[Visit], Awaitable[Response]]


def page(path: str, handler: Handler, *, method: str = "GET", open_to_all: bool = False) -> Route:
    """A route of the console. A page that is not open to all sends whoever has not signed in to do so."""

    async def endpoint(request: Request) -> Response:
        request.scope["route"] = route  # what the access log and the metrics call it
        desk: Desk = request.app.state.desk
        visit = Visit(request, desk, Session.new(desk.time()), None, {})
        try:
            await _recognise(visit)
            if method == "POST":
                await _take_form(visit)
            answer = _to_sign_in(visit) if visit.who is None and not open_to_all else await handler(visit)
        except MeterfoldError as error:
            answer = _failed(visit, error)
        except Exception:
            _LOG.exception("%s %s failed", request.method, request.url.path)
            answer = _failed(visit, Defect())
        return _finished(visit, answer)

    route = Route(path, endpoint, methods=[method], include_in_schema=False)
    return route


async def _recognise(visit: Visit) -> None:
    desk = visit.desk
    session = Session.read(visit.request.cookies.get(cookie_name(visit.request)), desk.signer, desk.time())
    if session is None:
        return
    if session.token_id:
        fresh = visit.session
        # Before the look-up: where ClickHouse does not answer, the browser keeps its session.
        visit.session = session
        visit.who = await desk.principal_of(session)
        if visit.who is None:
            visit.session = fresh
            return
        visit.request.state.principal = visit.who
    visit.session = session if visit.is_fragment else session.renewed(desk.time())


async def _take_form(visit: Visit) -> None:
    """Raises CsrfFailed for a form of another site, or of another session."""
    origin = visit.request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != visit.request.headers.get("host"):
        raise CsrfFailed
    if int(visit.request.headers.get("content-length") or _FORM_BYTES + 1) > _FORM_BYTES:
        raise CsrfFailed
    form = await visit.request.form(max_files=0)
    visit.form = {name: value for name, value in form.items() if isinstance(value, str)}
    sent = visit.request.headers.get("x-csrf") or visit.form.get("csrf", "")
    if not hmac.compare_digest(sent.encode(), visit.session.csrf(visit.desk.signer).encode()):
        raise CsrfFailed


def _to_sign_in(visit: Visit) -> Response:
    target = url("/sign-in", next=own_path(str(visit.request.url.path) + _query_of(visit)))
    if visit.is_fragment:
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": "/sign-in"})
    return RedirectResponse(target if visit.request.method == "GET" else "/sign-in", HTTPStatus.SEE_OTHER)


def _query_of(visit: Visit) -> str:
    return f"?{visit.request.url.query}" if visit.request.url.query else ""


def _failed(visit: Visit, error: MeterfoldError) -> Response:
    status = HTTPStatus.FORBIDDEN if isinstance(error, CsrfFailed) else status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("%s failed: %s", visit.request.url.path, error)
    template = "_error.html" if visit.is_fragment else "error.html"
    is_away = status is HTTPStatus.SERVICE_UNAVAILABLE
    repeats = _REFRESH_SECONDS if is_away and visit.request.method == "GET" and not visit.is_fragment else None
    answer = visit.render(template, status, error=error, title=status.phrase, repeats=repeats)
    if repeats is not None:
        # The page comes back with its server.
        answer.headers["Refresh"] = str(repeats)
    return answer


def _finished(visit: Visit, answer: Response) -> Response:
    for name, value in headers.PAGE.items():
        answer.headers.setdefault(name, value)
    request = visit.request
    cookie = visit.session.cookie(visit.desk.signer)
    if request.cookies.get(cookie_name(request)) != cookie:
        answer.set_cookie(
            cookie_name(request),
            cookie,
            max_age=LONGEST_SECONDS,
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="lax",
            path="/",
        )
    return answer


def cookie_name(request: Request) -> str:
    """Browsers send cookies of one port to all ports of a host: two local stacks need two names."""
    return "__Host-meterfold" if request.url.scheme == "https" else f"meterfold-{request.url.port or 80}"


def own_path(text: str) -> str:
    """The path if it leads to a page of ours; "/" for every other address."""
    if not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isprintable() or "\\" in text:
        return "/"
    parts = urlsplit(text)
    return "/" if parts.scheme or parts.netloc else text
