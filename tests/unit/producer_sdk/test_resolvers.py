"""Objects of an application as subjects: resolvers by type, and the examples."""

from __future__ import annotations

import abc
import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from meterfold import InvalidUsage, Meter, Subject
from meterfold.testing import AsyncInMemoryMeter, InMemoryMeter
from support.paths import ROOT


class User:
    def __init__(self, name: str) -> None:
        self.name = name


class Admin(User): ...


class Robot(User): ...


class Owner(NamedTuple):
    org: str
    user: str


class Session(abc.ABC):  # noqa: B024
    """A registered class counts as a subclass."""


@Session.register
class Cookie:
    value = "c-1"


def user(one: User) -> Subject:
    return Subject("user", one.name)


def subjects(meter: InMemoryMeter) -> list[tuple[str, str, str]]:  # type: ignore[type-arg]
    return [(event.org_id, event.subject_type, event.subject_id) for event in meter.recorded]


def test_the_nearest_class_decides() -> None:
    meter: InMemoryMeter[object] = InMemoryMeter(
        resolvers={
            User: user,
            Robot: lambda one: Subject("robot", one.name, "bots"),
            Owner: lambda one: Subject("user", one.user, one.org),
            Session: lambda one: Subject("session", one.value),
        },
        org_id="acme",
    )
    for subject in (User("ada"), Admin("eve"), Robot("r2"), Owner("org-7", "bob"), Cookie(), ("team", "x")):
        meter.record("api.calls", subject)
    assert subjects(meter) == [
        ("acme", "user", "ada"),
        ("acme", "user", "eve"),
        ("bots", "robot", "r2"),
        ("org-7", "user", "bob"),
        ("acme", "session", "c-1"),
        ("acme", "team", "x"),
    ]


def test_the_decorator_adds_a_type_and_a_later_one_replaces_it() -> None:
    meter: InMemoryMeter[User | int] = InMemoryMeter()
    with pytest.raises(InvalidUsage, match="not the User"):
        meter.record("api.calls", User("ada"))
    assert meter.resolver(User)(user) is user
    meter.record("api.calls", Admin("ada"))

    @meter.resolver(Admin)
    def admin(one: Admin) -> Subject:
        return Subject("admin", one.name)

    meter.record("api.calls", Admin("ada"))
    assert [kind for _, kind, _ in subjects(meter)] == ["user", "admin"]
    with pytest.raises(InvalidUsage, match=r"no resolver knows it \(known types: Admin, User\)"):
        meter.record("api.calls", 7)
    with pytest.raises(TypeError):
        meter.resolver("User")(user)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be callable, not str"):
        InMemoryMeter(resolvers={User: "user"})  # type: ignore[dict-item]


def test_the_general_resolver_is_asked_where_no_type_knows_the_object() -> None:
    def general(one: object) -> Subject | None:
        return Subject("thing", str(one)) if isinstance(one, str) else None

    meter: InMemoryMeter[object] = InMemoryMeter(
        resolver=general, resolvers={User: lambda one: None if one.name == "anonymous" else user(one)}
    )
    meter.record("api.calls", User("ada"))
    meter.record("api.calls", "door")
    assert subjects(meter) == [("", "user", "ada"), ("", "thing", "door")]
    with pytest.raises(InvalidUsage, match="no resolver knows it"):
        meter.record("api.calls", User("anonymous"))


def test_a_resolver_that_fails_spoils_one_event_of_a_batch() -> None:
    meter: InMemoryMeter[object] = InMemoryMeter(resolvers={User: lambda one: one.missing, Robot: lambda _: ("x", "y")})  # type: ignore[dict-item]
    results = meter.record_batch(
        [{"metric_key": "api.calls", "subject": one} for one in (User("ada"), ("user", "bob"), Robot("r2"))]
    )
    assert [one.status for one in results] == ["refused", "accepted", "refused"]
    assert "the resolver failed for a User: AttributeError" in str(results[0].error)
    assert "must return a Subject or None, not tuple" in str(results[2].error)


def test_a_disabled_meter_takes_resolvers_and_objects() -> None:
    meter: Meter[User] = Meter(enabled=False)
    meter.resolver(User)(user)
    assert meter.record("api.calls", User("ada"))


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(ROOT) / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_an_organization_and_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("subjects_organization", monkeypatch)
    meter: InMemoryMeter[object] = InMemoryMeter()
    module.register(meter)
    module.work(meter)
    assert subjects(meter) == [
        ("acme", "organization", "acme"),
        ("acme", "user", "ada"),
        ("acme", "user", "nightly"),
    ]


def test_the_example_of_a_fastapi_request(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from fastapi import Request

    module = example("subjects_fastapi", monkeypatch)
    meter: AsyncInMemoryMeter[Request] = AsyncInMemoryMeter(resolvers={Request: module.caller})
    app = module.create_app(lambda: meter)

    async def requests() -> list[int]:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        users: tuple[dict[str, str], ...] = ({"x-user": "ada", "x-organization": "acme"}, {}, {"x-user": "bob"})
        async with app.router.lifespan_context(app), client as http:
            return [(await http.get("/hello", headers=headers)).status_code for headers in users]

    assert asyncio.run(requests()) == [200, 200, 200]
    assert [(one.org_id, one.subject_id, one.resource_id) for one in meter.recorded] == [
        ("acme", "ada", "/hello"),
        ("", "bob", "/hello"),
    ]
