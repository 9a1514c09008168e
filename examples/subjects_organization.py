"""Usage of an organization and of its members, each an object of the application.

python examples/subjects_organization.py
"""

from __future__ import annotations

from dataclasses import dataclass

from meterfold import Meter, Subject


@dataclass(frozen=True)
class Organization:
    id: str


@dataclass(frozen=True)
class Member:
    organization: Organization
    user: str


@dataclass(frozen=True)
class Robot(Member):
    """A subclass is resolved as its base class, unless it has a resolver of its own."""


def register(meter: Meter[Organization | Member]) -> None:
    @meter.resolver(Organization)
    def organization(one: Organization) -> Subject:
        return Subject("organization", one.id, one.id)

    @meter.resolver(Member)
    def member(one: Member) -> Subject:
        return Subject("user", one.user, one.organization.id)


def work(meter: Meter[Organization | Member]) -> None:
    acme = Organization("acme")
    meter.record("storage.bytes", acme, 1_500_000, id="upload-1")
    meter.record("api.calls", Member(acme, "ada"), id="call-1")
    meter.record("api.calls", Robot(acme, "nightly"), id="call-2")


def main() -> None:
    meter: Meter[Organization | Member] = Meter()
    register(meter)
    with meter:
        work(meter)
        meter.flush(timeout=30)
        print(f"{meter.counts.delivered} events delivered")


if __name__ == "__main__":
    main()
