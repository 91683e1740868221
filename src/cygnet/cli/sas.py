"""`cygnet sas`, `statusall`: what is up, from the running gateway itself."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cygnet.cli.daemon_options import add_daemon_options, add_filter_options, daemon, filter_message, plain
from cygnet.vici.client import ViciClient
from cygnet.vici.commands.daemon import PRIORITIES, duration

Shown = Mapping[str, Any]
"""A section of a message, as `plain` makes it."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `sas` to the program's parser."""
    sas = subparsers.add_parser(
        "sas",
        help="list the SAs of a running gateway",
        description="List the SAs of a running gateway, as they come: one IKE_SA, then its CHILD_SAs.",
    )
    add_filter_options(sas)
    add_daemon_options(sas)
    sas.set_defaults(run=run_sas)


def add_statusall(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `statusall` to the program's parser."""
    statusall = subparsers.add_parser(
        "statusall",
        help="show everything about a running gateway, as ipsec statusall does",
        description="Show a running gateway in the layout of `ipsec statusall`: uptime, workers, queues, pools, "
        "addresses, connections and SAs.",
    )
    add_daemon_options(statusall)
    statusall.set_defaults(run=run_statusall)


def run_sas(args: argparse.Namespace) -> int:
    """Print the SAs, each as soon as it comes; with --json a list of objects."""
    with daemon(args) as client:
        if args.json:
            print(json.dumps(list(_listed(client, "list-sas", "list-sa", filter_message(args))), indent=2))
            return 0
        number = 0

        def show(event: Any) -> None:
            nonlocal number
            number += 1
            for name, sa in event.items():
                print("\n".join(_sa_lines(name, plain(sa))))

        client.request("list-sas", filter_message(args), event="list-sa", on_event=show)
    if not number:
        print("no SAs")
    return 0


def run_statusall(args: argparse.Namespace) -> int:
    """Print it."""
    with daemon(args) as client:
        version, stats = plain(client.request("version")), plain(client.request("stats"))
        pools = plain(client.request("get-pools"))
        connections = list(_listed(client, "list-conns", "list-conn", {}))
        traps = list(_listed(client, "list-policies", "list-policy", {"trap": "yes"}))
        sas = list(_listed(client, "list-sas", "list-sa", {}))
    if args.json:
        shown = {"version": version, "stats": stats, "pools": pools, "connections": connections}
        print(json.dumps({**shown, "traps": traps, "sas": sas}, indent=2))
    else:
        print("\n".join(_statusall(version, stats, pools, connections, traps, sas)))
    return 0


def _listed(client: ViciClient, command: str, event: str, message: Mapping[str, str | int]) -> list[Shown]:
    found: list[Shown] = []

    def take(section: Any) -> None:
        found.extend({"name": name, **plain(inner)} for name, inner in section.items())  # type: ignore[dict-item]

    client.request(command, message, event=event, on_event=take)
    return found


def _sa_lines(name: str, sa: Any) -> Iterator[str]:
    age = f"{duration(int(sa['established']))} ago" if "established" in sa else "not yet"
    vips = " ".join(f"[{vip}]" for vip in (*sa.get("local-vips", ()), *sa.get("remote-vips", ())))
    yield f"{name} #{sa['uniqueid']}  {sa['state']}  {sa['remote-id']} @ {_end(sa, 'remote')} {vips}".rstrip()
    yield f"    {_proposal(sa)}, {sa['initiator-spi']}_i {sa['responder-spi']}_r, established {age}"
    for child in sa.get("child-sas", {}).values():
        yield f"  {child['name']} #{child['uniqueid']}  {child['state']}  {_traffic(child)}".rstrip()
        yield "    " + _joined(
            _proposal(child),
            f"in {int(child['packets-in']):,} packets {int(child['bytes-in']):,} B",
            f"out {int(child['packets-out']):,} packets {int(child['bytes-out']):,} B",
        )


def _statusall(
    version: Any, stats: Any, pools: Any, connections: list[Shown], traps: list[Shown], sas: list[Shown]
) -> Iterator[str]:
    yield (
        f"Status of IKE {version['daemon']} daemon (cygnet {version['version']}, {version['sysname']} "
        f"{version['release']}, {version['machine']}):"
    )
    workers, queues = stats["workers"], stats["queues"]
    active = "/".join(workers["active"][level] for level in PRIORITIES)
    waiting = "/".join(queues[level] for level in PRIORITIES)
    yield f"  uptime: {stats['uptime']['running']}, since {stats['uptime']['since']}"
    yield f"  memory: {int(stats['memory']['workers']) >> 20} MiB in the workers"
    yield (
        f"  workers: {workers['idle']} of {workers['total']} idle, {active} working, job queue: {waiting}, "
        f"scheduled: {stats['scheduled']}"
    )
    yield f"  loaded parts: {' '.join(stats['plugins'])}"
    if pools:
        yield "Virtual IP pools (size/online/offline):"
        for name, pool in pools.items():
            yield f"  {name} ({pool['base']}): {pool['size']}/{pool['online']}/{pool['offline']}"
    yield "Listening IP addresses:"
    yield from (f"  {address}" for address in stats.get("listening", "").split())
    yield "Connections:"
    for connection in connections:
        yield from _connection_lines(connection)
    if traps:
        yield "Routed Connections:"
    for trap in traps:
        yield f"{trap['child']:>12}:  ROUTED, {trap['mode']}"
        yield f"{trap['child']:>12}:   {_traffic(trap)}"
    half_open = int(stats["ikesas"]["half-open"])
    yield f"Security Associations ({int(stats['ikesas']['total']) - half_open} up, {half_open} connecting):"
    for sa in sas:
        yield from _statusall_sa(sa)
    if not sas:
        yield "  none"


def _connection_lines(connection: Shown) -> Iterator[str]:
    label = f"{connection['name']:>12}:"
    ends = f"{','.join(connection['local_addrs'])}...{','.join(connection['remote_addrs'])}"
    delay = f", dpddelay={connection['dpd_delay']}s" if "dpd_delay" in connection else ""
    yield f"{label}  {ends}  {connection['version']}{delay}"
    for side in ("local", "remote"):
        end = connection[f"{side}-1"]
        identity = f"[{end['id']}] " if "id" in end else ""
        yield f"{label}   {side + ':':<8}{identity}uses {end['class']} authentication"
    for name, child in connection["children"].items():
        traffic = f"{' '.join(child['local-ts'])} === {' '.join(child['remote-ts'])}"
        yield f"{name:>12}:   child:  {traffic} {child['mode']}"


def _statusall_sa(sa: Shown) -> Iterator[str]:
    label = f"{sa['name']:>12}[{sa['uniqueid']}]:"
    age = f" {duration(int(sa['established']))} ago" if "established" in sa else ""
    ends = f"{sa['local-host']}[{sa['local-id']}]...{sa['remote-host']}[{sa['remote-id']}]"
    yield f"{label} {sa['state']}{age}, {ends}"
    initiator, responder = ("*", "") if sa.get("initiator") == "yes" else ("", "*")
    spis = f"IKEv2 SPIs: {sa['initiator-spi']}_i{initiator} {sa['responder-spi']}_r{responder}"
    yield f"{label} " + _joined(spis, _in(sa, "rekey-time", "rekeying"), _in(sa, "reauth-time", "reauthentication"))
    if proposal := _proposal(sa):
        yield f"{label} IKE proposal: {proposal}"
    for kind in ("queued", "active"):
        if f"tasks-{kind}" in sa:
            yield f"{label} Tasks {kind}: {' '.join(sa[f'tasks-{kind}'])}"
    for child in sa.get("child-sas", {}).values():
        label = f"{child['name']:>12}{{{child['uniqueid']}}}:"
        carrier = "ESP in UDP" if child.get("encap") == "yes" else "ESP"
        spis = f"{carrier} SPIs: {child['spi-in']}_i {child['spi-out']}_o"
        yield f"{label}  {child['state']}, {child['mode']}, reqid {child['reqid']}, {spis}"
        carried = (_carried(child, way) for way in ("in", "out"))
        yield f"{label}  " + _joined(_proposal(child), *carried, _in(child, "rekey-time", "rekeying"))
        if traffic := _traffic(child):
            yield f"{label}   {traffic}"


def _end(sa: Shown, side: str) -> str:
    return f"{sa[f'{side}-host']}[{sa[f'{side}-port']}]"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _in(sa: Shown, key: str, what: str) -> str:
    return f"{what} in {duration(int(sa[key]))}" if key in sa else ""


def _carried(child: Shown, way: str) -> str:
    """As strongSwan has it: `84 bytes_i (1 pkt, 3s ago)`."""
    packets = int(child[f"packets-{way}"])
    last = f", {child[f'use-{way}']}s ago" if f"use-{way}" in child else ""
    told = f" ({packets} pkt{'' if packets == 1 else 's'}{last})" if packets else ""
    return f"{child[f'bytes-{way}']} bytes_{way[0]}{told}"


def _traffic(child: Shown) -> str:
    if not child.get("local-ts"):
        # A data plane that carries nothing knows nothing of it.
        return ""
    return f"{' '.join(child.get('local-ts', ()))} === {' '.join(child.get('remote-ts', ()))}"


def _proposal(sa: Shown) -> str:
    """The algorithms, such as `AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519`."""
    encr = "_".join(sa[name] for name in ("encr-alg", "encr-keysize") if name in sa)
    return "/".join((encr, *(sa[name] for name in ("integ-alg", "prf-alg", "dh-group") if name in sa)))
