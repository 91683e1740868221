import errno
import os
import socket

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from tests.unit.gateway.host.own_namespace import in_own_namespace

from cygnet.dataplane.tun import configure_tun, open_tun, tun_name
from cygnet.gateway.host.routes import Routes, encode_route
from cygnet.gateway.host.rtnetlink import RtNetlink, encode_request
from cygnet.ike.errors import LocalError


@pytest.mark.parametrize(
    ("prefix", "family", "length"), [("10.7.0.0/16", socket.AF_INET, 16), ("fd00:7::/64", socket.AF_INET6, 64)]
)
def test_a_request_reads_as_what_it_says(prefix: str, family: int, length: int) -> None:
    message = rtmsg(encode_request(24, encode_route(prefix, 7), 0x500, 3))
    message.decode()
    assert (message["family"], message["dst_len"], message["table"]) == (family, length, 254)
    assert (message["header"]["type"], message["header"]["sequence_number"]) == (24, 3)
    assert f"{message.get_attr('RTA_DST')}/{length}" == prefix
    assert message.get_attr("RTA_OIF") == 7


def test_a_device_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(LocalError, match="cannot set routes: no interface with this name"):
        Routes(["nothing0"])


def _devices_of(prefix: str) -> list[str]:
    with IPRoute() as netlink:
        family = socket.AF_INET6 if ":" in prefix else socket.AF_INET
        return [
            netlink.get_links(route.get_attr("RTA_OIF"))[0].get_attr("IFLA_IFNAME")
            for route in netlink.get_routes(family=family, table=254)
            if f"{route.get_attr('RTA_DST')}/{route['dst_len']}" == prefix
        ]


def _check_routes() -> None:
    names = []
    for _ in range(2):
        fd = open_tun()
        names.append(tun_name(fd))
        configure_tun(names[-1], (), 1400)
    routes = Routes(names)
    for prefix in ("10.7.0.0/16", "fd00:7::/64"):
        routes.add(prefix, 0)
        assert _devices_of(prefix) == [names[0]]
        routes.add(prefix, 1)
        assert _devices_of(prefix) == [names[1]], "the last one gets it"
        routes.discard(prefix, 1)
        assert _devices_of(prefix) == [names[0]], "and then the other again"
        routes.discard(prefix, 1)
        assert _devices_of(prefix) == [names[0]]
        routes.add("10.8.0.0/16", 0)
        routes.discard_all(0)
        assert _devices_of(prefix) == _devices_of("10.8.0.0/16") == []
    routes.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_kernel_does_as_it_is_told() -> None:
    in_own_namespace(_check_routes)


def test_a_refusal_of_the_kernel_is_logged_with_the_ike_sa(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(RtNetlink, "request", refuse)
    routes = Routes(["lo"])
    routes.add("10.7.0.0/16", 0, sa=("rw", 7))
    routes.close()
    assert "cannot set the route 10.7.0.0/16: Operation not permitted" in caplog.text
    assert [record.sa for record in caplog.records] == [("rw", 7)]  # type: ignore[attr-defined]
