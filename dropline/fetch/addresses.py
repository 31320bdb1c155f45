"""Which IP addresses are public. Pure.

The table follows IANA's registries of special-purpose addresses (RFC 6890). Python's `ipaddress` alone is not
enough, since the answers of `is_global` differ between the releases of Python 3.11. An IPv6 address is public
only inside the block that IANA gives to networks (2000::/3). An address that carries an IPv4 address, to which a
packet may be translated, is judged by the IPv4 address, or is refused.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_Network = IPv4Network | IPv6Network


def _networks(table: dict[str, str]) -> tuple[tuple[_Network, str], ...]:
    return tuple((ip_network(block), kind) for blocks, kind in table.items() for block in blocks.split())


#: Refused under every setting.
_NEVER = _networks(
    {
        # Instance metadata has credentials: Google and AWS, Alibaba, Azure, Oracle; and the IPv6 forms.
        "169.254.169.254 100.100.100.200 168.63.129.16 192.0.0.192": "a metadata address",
        "fd00:ec2::254 fd20:ce::254": "a metadata address",
        "169.254.0.0/16 fe80::/10": "a link-local address",
        "224.0.0.0/4 ff00::/8": "a multicast address",
        "0.0.0.0/8 ::/128": "an unspecified address",
        "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20": "an address for documentation",
        "192.88.99.0/24 2002::/16 2001::/32 64:ff9b:1::/48": "an address of a tunnel or a translator",
        "192.0.0.0/24 198.18.0.0/15 240.0.0.0/4 2001::/23 fec0::/10": "a reserved address",
    }
)
#: Refused unless the setting allows private addresses.
_PRIVATE = _networks(
    {
        "127.0.0.0/8 ::1/128": "a loopback address",
        "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7": "a private address",
        "100.64.0.0/10": "a shared address of a provider",
    }
)
_GLOBAL_UNICAST = ip_network("2000::/3")
#: NAT64 (RFC 6052): a network without IPv4 reaches the IPv4 Internet by these addresses.
_NAT64 = ip_network("64:ff9b::/96")


def why_refused(address: str, *, allow_private: bool = False) -> str | None:
    """The kind of an address that is not fetched from, as `a loopback address`; None for a permitted address.

    Args:
        address: IPv4 or IPv6, as a resolver or a URL has it; another text is refused.
        allow_private: permit loopback, private and shared addresses.
    """
    try:
        return next(_kinds(_carried(ip_address(address)), allow_private=allow_private), None)
    except ValueError:
        return "not an address"


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a packet to an IPv4-mapped or NAT64 address reaches; else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address


def _kinds(address: IPv4Address | IPv6Address, *, allow_private: bool) -> Iterator[str]:
    yield from (kind for network, kind in _NEVER if address in network)
    for network, kind in _PRIVATE:
        if address in network:
            if allow_private:
                return
            yield kind
    if not address.is_global or (address.version == 6 and address not in _GLOBAL_UNICAST):
        yield "a reserved address"
