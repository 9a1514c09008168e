"""Sign in with a token or a link, and sign out."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import RedirectResponse, Response

from meterfold_service.access.errors import InvalidToken
from meterfold_service.access.principal import Scope
from meterfold_service.console.sessions import Session
from meterfold_service.console.visit import Visit, own_path, page

__all__ = ["ROUTES"]


async def form(visit: Visit) -> Response:
    if visit.who is not None:
        return RedirectResponse(own_path(visit.query.get("next", "/")), HTTPStatus.SEE_OTHER)
    return visit.render("sign_in.html", next=own_path(visit.query.get("next", "/")), link=None, problem=None)


async def sign_in(visit: Visit) -> Response:
    """With a token. A new session, whatever the browser had before."""
    target = own_path(visit.form.get("next", "/"))
    try:
        who = await visit.run(visit.desk.authentication.principal, visit.form.get("token", "").strip())
    except InvalidToken as error:
        return visit.render("sign_in.html", HTTPStatus.UNAUTHORIZED, next=target, link=None, problem=error)
    if not who.may(Scope.READ):
        problem = "this token can only send events; the console needs the scope read, manage or admin"
        return visit.render("sign_in.html", HTTPStatus.FORBIDDEN, next=target, link=None, problem=problem)
    visit.session = Session.new(visit.desk.time(), who.token_id or "")
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


async def link(visit: Visit) -> Response:
    """A page that uses the link up with its own request: a program that only looks at addresses must not."""
    return visit.render("sign_in.html", next="/", link=visit.query.get("link", ""), problem=None)


async def use_link(visit: Visit) -> Response:
    try:
        token_id = await visit.run(visit.desk.links.redeem, visit.form.get("link", ""))
        await visit.run(visit.desk.authentication.principal_of, token_id)
    except InvalidToken as error:
        return visit.render("sign_in.html", HTTPStatus.UNAUTHORIZED, next="/", link=None, problem=error)
    visit.session = Session.new(visit.desk.time(), token_id)
    return RedirectResponse("/", HTTPStatus.SEE_OTHER)


async def sign_out(visit: Visit) -> Response:
    """The session is over, also for a copy of its cookie."""
    await visit.run(visit.desk.spent.spend, f"session.{visit.session.id}")
    visit.session = Session.new(visit.desk.time())
    return visit.go("/sign-in", done="signed-out")


ROUTES = (
    page("/sign-in", form, open_to_all=True),
    page("/sign-in", sign_in, method="POST", open_to_all=True),
    page("/sign-in/link", link, open_to_all=True),
    page("/sign-in/link", use_link, method="POST", open_to_all=True),
    page("/sign-out", sign_out, method="POST"),
)
