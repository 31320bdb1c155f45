"""Which addresses are fetched: IP addresses and URLs, as plain values."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import AddressRefused
from dropline.fetch.addresses import why_refused
from dropline.fetch.urls import parse_address
from dropline.settings import FetchSettings

GUARDED = FetchSettings()
OPEN = FetchSettings(allow_private=True)
PUBLIC = ["93.184.216.34", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111"]
#: (address, part of the kind); the setting allows these.
PRIVATE = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("::1", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("fd12:3456::1", "private"),
    ("fc00::1", "private"),
    ("100.64.0.1", "shared"),
    ("100.127.255.255", "shared"),
]
#: No setting allows these.
NEVER = [
    ("169.254.169.254", "metadata"),
    ("100.100.100.200", "metadata"),
    ("168.63.129.16", "metadata"),
    ("192.0.0.192", "metadata"),
    ("fd00:ec2::254", "metadata"),
    ("fd20:ce::254", "metadata"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("ff0e::1", "multicast"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("::", "unspecified"),
    ("192.0.2.1", "documentation"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("192.88.99.1", "tunnel"),
    ("192.0.0.9", "reserved"),
    ("198.18.0.1", "reserved"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("fec0::1", "reserved"),
    ("4000::1", "reserved"),
    # A public IPv4 address inside makes no difference: tunnels end in networks of their own.
    ("2002:7f00:1::", "tunnel"),
    ("2002:5db8:d822::1", "tunnel"),
    ("2001:0:5db8:d822::1", "tunnel"),
    ("64:ff9b:1::7f00:1", "tunnel"),
    ("::127.0.0.1", "reserved"),
    ("::93.184.216.34", "reserved"),
    ("not an address", "not an address"),
    ("", "not an address"),
    ("127.1", "not an address"),
]


def carriers(address: str) -> list[str]:
    """An IPv4 address in the two forms by which a packet may reach it."""
    number = int(ipaddress.IPv4Address(address))
    bases = [int(ipaddress.IPv6Address(base)) for base in ("::ffff:0:0", "64:ff9b::")]
    return [str(ipaddress.IPv6Address(base | number)) for base in bases]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address: str) -> None:
    """Neighbours of the blocks are public; a NAT64 address of a public address is too."""
    assert why_refused(address) is None
    if ":" not in address:
        assert [why_refused(each) for each in carriers(address)] == [None, None]


@pytest.mark.parametrize(("address", "kind"), PRIVATE)
def test_a_private_address_needs_the_setting(address: str, kind: str) -> None:
    """Loopback, private and shared addresses, also inside an IPv6 address, are refused without the setting."""
    for each in [address] if ":" in address else [address, *carriers(address)]:
        assert kind in (why_refused(each) or "")
        assert why_refused(each, allow_private=True) is None


@pytest.mark.parametrize(("address", "kind"), NEVER)
def test_no_setting_permits_the_rest(address: str, kind: str) -> None:
    """Metadata, link-local, multicast, reserved and tunnel addresses are refused under every setting."""
    is_v4 = ":" not in address and address[:1].isdigit() and address.count(".") == 3
    for each in [address, *carriers(address)] if is_v4 else [address]:
        assert kind in (why_refused(each) or "")
        assert kind in (why_refused(each, allow_private=True) or "")


@given(st.ip_addresses())
def test_a_permitted_address_is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Python's own table permits each permitted address."""
    if why_refused(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://example.com/a.jpg?b=1#c", "example.com", None),
        ("HTTP://EXAMPLE.COM.:8080/", "example.com", 8080),
        ("http://example.com:80/", "example.com", None),
        ("https://münchen.example/", "xn--mnchen-3ya.example", None),
        ("http://93.184.216.34/", "93.184.216.34", None),
        ("http://[2606:4700::1111]/", "2606:4700::1111", None),
        ("http://a_b.example.com/", "a_b.example.com", None),
    ],
)
def test_usual_addresses(text: str, host: str, port: int | None) -> None:
    """The host is in lower case, in ASCII and without a last dot."""
    url = parse_address(text, GUARDED)
    assert (url.raw_host.decode(), url.port, url.fragment) == (host, port, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cat.jpg",
        "//example.com/cat.jpg",
        "ftp://example.com/cat.jpg",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "http:///cat.jpg",
        "http://user@example.com/",
        "http://user:word@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com#@127.0.0.1\\@a/".replace("#", "%23"),
        "http://exa%6dple.com/",
        "http://127.0.0.1%2f@example.com/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://256.1.1.1/",
        "http://①②⑦.0.0.1/",
        "http://ⓛocalhost/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://[v1.a]/",
        "http://exa mple.com/",
        "http://example..com/",
        "http://-example.com/",
        "http://example.com../",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/",
        "http://example.com/\r\nHost: a",
        "http://example.com\t/",
        "http://example.com\0/",
        "http://\ud800.com/",
        "http://example.com:99999/",
        "http://example.com:-1/",
        "http://example.com:0/",
        "http://example.com:a/",
        "https://example.com/" + "a" * 8000,
    ],
)
def test_odd_addresses_are_refused(text: str) -> None:
    """Other schemes, user names, numbers as hosts and odd spellings are refused under every setting."""
    for settings in (GUARDED, OPEN):
        with pytest.raises(AddressRefused) as refused:
            parse_address(text, settings)
        words = str(refused.value)
        assert words.isascii()
        assert words.isprintable()
        assert len(words) < 400


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost:8000/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "http://example.com:22/",
        "http://example.com:25/",
    ],
)
def test_local_names_and_low_ports_need_the_setting(text: str) -> None:
    """A local name is refused without a question to the name server; ports of other protocols are refused."""
    with pytest.raises(AddressRefused):
        parse_address(text, GUARDED)
    parse_address(text, OPEN)


@given(st.text(max_size=60).map("http://{}/".format) | st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Any text is refused, or has a host that needs no escapes."""
    try:
        url = parse_address(text, OPEN)
    except AddressRefused:
        return
    assert set(url.raw_host.decode()) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.:")
    assert url.userinfo == b""


def test_a_query_is_not_shown() -> None:
    """A signed address does not end up in a message."""
    with pytest.raises(AddressRefused) as refused:
        parse_address("ftp://example.com/a?signature=abc#abc", GUARDED)
    assert "abc" not in str(refused.value)
