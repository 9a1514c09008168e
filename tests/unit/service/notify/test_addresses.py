"""Where webhooks may go: URLs and addresses that are refused, and those that are not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_service.notify.addresses import EndpointRules, Refused, check_address, endpoint_of, shown

RULES = EndpointRules()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://example.com/", "https://"),
        ("//example.com/", "https://"),
        ("https://user@example.com/", "user name"),
        ("https://user:pass@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://public.example@127.0.0.1/", "user name"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:80/", "port 80"),
        ("https://example.com:0/", "port 0"),
        ("https://example.com:99999/", "cannot be read"),
        ("https:///path", "host name"),
        ("https://exa mple.com/", "spaces"),
        ("https://example.com\\@127.0.0.1/", "backslashes"),
        ("https://example.com/\r\nHost: internal", "control"),
        ("https://[::1/", "cannot be read"),
        ("https://a%00b.example/", "host name"),
        ("https://example.com/caf\N{LATIN SMALL LETTER E WITH ACUTE}", "percent-encoded"),
        ("https://example.com/" + "a" * 3000, "too long"),
    ],
)
def test_a_url_is_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        endpoint_of(url, RULES)
    assert "pass" not in str(caught.value).replace("password", "")


def test_a_url_in_its_parts() -> None:
    found = endpoint_of("https://Hooks.Example.com:8443/a/b?token=1#part", RULES)
    assert (found.secure, found.host, found.port, found.target) == (True, "hooks.example.com", 8443, "/a/b?token=1")
    assert endpoint_of("https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", RULES).host == (
        "xn--bcher-kva.example"
    )
    assert endpoint_of("http://example.com", EndpointRules(allow_http=True)).port == 80


PRIVATE = [
    *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),  # noqa: S104
    *("169.254.170.2", "192.0.0.192", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "239.1.2.3"),
    *("240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1"),
    *("ff02::1", "ff0e::1", "2001:db8::1", "100::1"),
    # IPv4 inside of IPv6: mapped, compatible, NAT64, 6to4 and Teredo
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    "2001:0:7f00:1:0:0:80ff:fffe",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_inside_is_refused(address: str) -> None:
    with pytest.raises(Refused, match="not public"):
        check_address(address, RULES)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_a_public_address_is_allowed(address: str) -> None:
    check_address(address, RULES)


def test_an_allowed_network_opens_that_network_only() -> None:
    rules = EndpointRules(networks=(ip_network("10.1.0.0/16"), ip_network("fd12::/16")))
    check_address("10.1.2.3", rules)
    check_address("fd12::1", rules)
    for other in ("10.2.0.1", "fd13::1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(Refused):
            check_address(other, rules)


@given(st.integers(0, 2**32 - 1))
def test_an_address_in_a_wrapper_is_judged_as_the_address(number: int) -> None:
    """No wrapper opens what is closed."""
    plain = ip_address(number)
    if _allowed(str(plain)):
        return
    for wrapped in (
        f"::ffff:{plain}",
        f"64:ff9b::{plain}",
        f"::{plain}",
        str(ip_address((0x2002 << 112) | number << 80)),
    ):
        assert not _allowed(wrapped), wrapped


def _allowed(address: str) -> bool:
    try:
        check_address(address, RULES)
    except Refused:
        return False
    return True


def test_logs_show_no_path_and_no_login() -> None:
    assert shown("https://user:secret@hooks.example.com/T0/B0?key=1") == "https://hooks.example.com/..."
    assert shown("https://hooks.example.com") == "https://hooks.example.com"
    assert shown("https://[") == "(unreadable URL)"
