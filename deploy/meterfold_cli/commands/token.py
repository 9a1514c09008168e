"""`meterfold token create|list|revoke`: tokens of the HTTP API."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import LimitOption, OffsetOption, metering
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

app = typer.Typer(help="Create, list and revoke tokens of the HTTP API.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who uses it: an application, a person.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="ingest, read, manage or admin. Repeatable. [default with --subject: read]"),
    ] = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organization. [default: all]")] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="TYPE:ID",
            help="Only the usage and limits of this subject: for a customer's page. Needs --org and --expires.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Until it expires: 90m, 12h, 7d or 4w. [default: never]"),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a token and print it. It is shown once.

    Example: meterfold token create billing --scope read --org acme

    Example: meterfold token create "page of ada" --subject user:ada --org acme --expires 7d
    """
    from meterfold_cli.commands.usage import subject_of

    whose = None if subject is None else subject_of(subject)
    if not scope and whose is None:
        raise WrongInput("--scope is missing: ingest, read, manage or admin")
    lifetime = None if expires is None else _lifetime(expires)
    with metering(config) as service:
        created = service.tokens.create(
            name=name, scopes=scope or ["read"], org_id=org, subject=whose, expires_in=lifetime
        )
    if as_json:
        console.emit({**console.plain(created.token), "token": created.text})
        return
    console.say(created.text)
    console.note("keep it now: it is not shown again")


@app.command("list")
def list_(
    org: Annotated[str | None, typer.Option("--org", help="Only this organization. [default: all]")] = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tokens, the newest first.

    Example: meterfold token list
    """
    with metering(config) as service:
        page = service.tokens.list(org_id=org, limit=limit, offset=offset)
    if as_json:
        console.emit({"total": page.total, "rows": page.rows})
        return
    console.table(
        ("id", "name", "scopes", "org", "created", "expires", "revoked", "last used", "subject"),
        [
            (
                one.id,
                one.name,
                ", ".join(one.scopes),
                one.org_id,
                one.created_at.replace(microsecond=0),
                one.expires_at,
                one.revoked_at,
                one.last_used_at,
                None if one.subject is None else ":".join(one.subject),
            )
            for one in page.rows
        ],
    )
    console.note(f"{len(page.rows)} of {page.total}")


@app.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a token. Every server refuses it within 5 seconds.

    Example: meterfold token revoke 3kTq0aXb91Zc
    """
    with metering(config) as service:
        found = service.tokens.revoke(token_id)
    console.say(f"revoked {found.id} ({found.name})")


@app.command("link")
def link(
    url: Annotated[
        str | None, typer.Option("--url", help="Address of the console. [default: that of [http] host and port]")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option("--scope", help="read, manage or admin. [default: admin]")] = None,
    org: Annotated[str | None, typer.Option("--org", help="Only this organization. [default: all]")] = None,
    config: ConfigOption = None,
) -> None:
    """Print a link that signs a browser in to the console, once.

    The link is valid for 15 minutes, and the session that it opens for 12 hours at most. `token list` shows it as a
    token; `token revoke` ends the session.

    Example: meterfold token link --scope read --org acme
    """
    from datetime import UTC, datetime

    from meterfold_schemas.settings import load_settings
    from meterfold_service.console.links import local_name, sign_in_link
    from meterfold_service.http.settings import HttpSettings

    settings = load_settings(HttpSettings, "http", sources=Installation.read(config).sources)
    address = url or f"http://{settings.host}:{settings.port}"
    with metering(config) as service:
        found = sign_in_link(
            service, address, name=local_name(), scopes=scope or ["admin"], org_id=org, now=datetime.now(UTC)
        )
    console.say(found)


def _lifetime(text: str) -> timedelta:
    """Raises WrongInput."""
    from meterfold_service.tokens.operations import lifetime

    found = lifetime(text)
    if not found:
        raise WrongInput(f"--expires {text!r} must be a duration up to 100 years, such as 90m, 12h, 7d or 4w")
    return found
