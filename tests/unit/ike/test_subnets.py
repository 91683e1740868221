"""Subnets as text: what is read the short way is what the standard library reads."""

import ipaddress

import pytest

from cygnet.ike.subnets import parse_subnet


@pytest.mark.parametrize(
    "text",
    [
        *("10.1.0.0/16", "10.1.2.3/16", "10.1.2.3", "0.0.0.0/0", "255.255.255.255/32", "10.0.0.0/08", "10.0.0.0/31"),
        *(
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/0.255.255.255",
            "::/0",
            "2001:db8::1",
            "2001:db8::ff/64",
            "::ffff:1.2.3.4/96",
        ),
        *("fe80::1%eth0", "fe80::/127", "::1/128"),
    ],
)
def test_reads_what_the_library_reads(text: str) -> None:
    network = ipaddress.ip_network(text, strict=False)
    assert parse_subnet(text) == (network.network_address.packed, network.broadcast_address.packed)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/999",
            "10.0.0.0/1000",
            "10.0.0.0/-1",
            "10.0.0",
        ),
        *("10.0.0.0/8/8", "010.0.0.1", "10.0.0.0/٨", "10.0.0.0\0", "a", "1.2.3.4 ", "10.0.0.0/ 8", "\udc80"),
    ],
)
def test_refuses_what_the_library_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        ipaddress.ip_network(text, strict=False)
    with pytest.raises(ValueError):
        parse_subnet(text)
