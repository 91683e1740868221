"""Renders docs/configuration.md from the table of keys: `python -m cygnet.config.reference > docs/configuration.md`.

With `--man` it renders a manual page: `python -m cygnet.config.reference --man | man -l -`.
"""

import sys
from collections.abc import Iterable

from cygnet.config.effect import keys_of_start
from cygnet.config.folders import FOLDERS
from cygnet.config.keys import TABLES
from cygnet.config.resource_keys import CERTIFICATES, UNBUILT_SECRETS
from cygnet.config.schema import ANYTHING, Key, Table, Unbuilt

INTRODUCTION = """\
# Configuration

<!-- Rendered from src/cygnet/config/keys.py by `python -m cygnet.config.reference`; edit that table instead. -->

Cygnet reads strongSwan's `swanctl.conf`: the same syntax, the same keys with the same meaning and defaults, and one
section `gateway { }` of its own. `cygnet check PATH` says what is wrong with a file, with line and column, and what in
it is not built yet.

```
connections {
    roadwarriors {
        local_addrs = 192.0.2.1
        proposals = aes128gcm16-prfsha256-x25519
        pools = clients
        local {
            auth = psk
            id = gw.example.org
        }
        remote {
            auth = psk
            id = *@example.org
        }
        children {
            net {
                esp_proposals = aes128gcm16
                local_ts = 10.1.0.0/16
            }
        }
    }
}
pools {
    clients {
        addrs = 10.3.0.0/16
        dns = 10.1.0.53
    }
}
secrets {
    ike-everybody {
        id-1 = gw.example.org
        id-2 = *@example.org
        secret = 0sRXhhbXBsZSBvbmx5LCBtYWtlIHlvdXIgb3du
    }
}
gateway {
    workers = auto
}
```

## Syntax

- `name { ... }` is a section, `key = value` a setting. A value ends with its line; `#` starts a comment.
- Quotes keep spaces and `#`, `{`, `}`. In them `\\n`, `\\r`, `\\t` have their usual meaning, and a backslash joins
  lines when it ends one and takes any other character as it is.
- Sections of one name add up, and a later value replaces an earlier one. `key =` alone clears a value: the default
  applies.
- `name : other, connections.third { ... }` inherits everything from the sections named (by their full names).
- `include conf.d/*.conf` reads other files in its place; relative names are relative to the file that says it.

## Values

- *yes or no*: `yes`, `true`, `enabled`, `1`; `no`, `false`, `disabled`, `0`.
- *time*: a number of seconds, or with a unit: `500ms`, `10s`, `30m`, `4h`, `1d`.
- *identity*: `gw.example.org`, `user@example.org`, `192.0.2.1`, `2001:db8::1`, `C=CH, O=Example, CN=gw`, `@#0a0b` (key
  ID in hexadecimal), or with a type in front: `fqdn:`, `email:`, `ipv4:`, `ipv6:`, `asn1dn:`, `keyid:`, `{number}:`,
  each followed by text or by `#` and hexadecimal. Patterns: `%any`, `*.example.org`, `*@example.org`,
  `C=CH, O=Example, CN=*`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`.
- *proposal*: keywords joined by `-`, such as `aes128gcm16-prfsha256-x25519` or `aes256-sha256-modp2048`; several are
  separated by commas. `default` stands for a list of safe ones.
"""
_MARKS = "Keys marked with * are Cygnet's own.\n"


def render_reference() -> str:
    """The whole page, in Markdown."""
    parts = [INTRODUCTION, _MARKS]
    parts += [_render_table(table) for table in TABLES.values()]
    parts.append(_render_effect())
    parts.append(_render_unbuilt(TABLES.values()))
    return "\n".join(parts)


def _render_table(table: Table) -> str:
    lines = [f"## `{table.title}`", "", table.help, "", "| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [_render_key(key) for key in table.keys]
    return "\n".join(lines) + "\n"


def _render_effect() -> str:
    return "\n".join(
        [
            "## When a change takes effect",
            "",
            "With a reload (`cygnet reload`, `systemctl reload`, SIGHUP), for what begins after it: everything but",
            f"{_listed(keys_of_start())} of `gateway`, which wait for the next start. A reload says which of them have",
            "changed. `swanctl --reload-settings` reads the section `gateway` again and nothing else, as it reads",
            "strongswan.conf elsewhere.",
            "",
        ]
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _render_key(key: Key) -> str:
    name = f"{key.name}<suffix>" if key.is_prefix else key.name
    default = "required" if key.is_required else f"`{key.default}`" if key.default else ""
    return f"| `{name}`{'*' if key.is_own else ''} | {key.kind.name} | {default} | {key.help} |"


def _render_unbuilt(tables: Iterable[Table]) -> str:
    lines = [
        "## Keys of strongSwan's that are not built yet",
        "",
        "A key is refused where leaving it out would let in a peer, let through traffic, or send in the clear what",
        "the file means to keep out or protect. Otherwise it is named in a warning, which says what happens instead.",
        "Values in the third column ask for what happens anyway, and pass in silence.",
        "",
        "| section | key | passes | otherwise |",
        "|---|---|---|---|",
    ]
    for table in tables:
        alike: dict[tuple[str, str], list[str]] = {}
        for row in table.unbuilt:
            alike.setdefault((_render_harmless(row), render_fate(row)), []).append(f"`{row.name}`")
        lines += [
            f"| `{table.title}` | {', '.join(names)} | {harmless} | {fate} |"
            for (harmless, fate), names in alike.items()
        ]
        lines += [
            f"| `{table.title}` | `{inner.name}<suffix> {{ }}` | | refused: {inner.refusal} |"
            for inner in table.sections
            if inner.refusal
        ]
    by_reason: dict[str, list[str]] = {}
    for prefix, table in UNBUILT_SECRETS.items():
        by_reason.setdefault(table.help, []).append(f"`{prefix}<suffix>`")
    lines += ["", "Sections within `secrets` that are skipped with a warning, whatever stands in them:", ""]
    lines += [f"- {', '.join(names)}: {reason}." for reason, names in by_reason.items()]
    lines += [
        "",
        f"Files in the folders {', '.join(f'`{folder}`' for folder in FOLDERS)} beside `swanctl.conf` are read with",
        "it, with the passwords of the sections of `secrets` that name them, and listed (`swanctl --list-certs`). They",
        f"have no effect: {CERTIFICATES}.",
    ]
    return "\n".join(lines) + "\n"


def _render_harmless(row: Unbuilt) -> str:
    if ANYTHING in row.harmless:
        return "any value"
    return ", ".join(f"`{value}`" for value in row.harmless)


def render_fate(row: Unbuilt) -> str:
    """What becomes of a key that is not built."""
    if ANYTHING in row.harmless:
        return f"no effect: {row.instead}"
    refused = f" ({', '.join(f'`{value}`' for value in row.refused)}: refused)" if row.refused else ""
    return f"{'refused' if row.is_refused else 'warning'}: {row.instead}{refused}"


def _main() -> None:
    # Imported here, since it takes the introduction from this module.
    from cygnet.config.manual import render_manual

    sys.stdout.write(render_manual() if "--man" in sys.argv[1:] else render_reference())


if __name__ == "__main__":
    _main()
