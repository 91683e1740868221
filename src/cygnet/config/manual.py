"""Renders a manual page, cygnet.conf(5), from the table of keys: `python -m cygnet.config.reference --man`.

It is rendered when it is wanted, and so never behind the table.
"""

import re
from collections.abc import Iterable, Iterator

import cygnet
from cygnet.config.folders import FOLDERS
from cygnet.config.keys import TABLES
from cygnet.config.reference import INTRODUCTION, render_fate
from cygnet.config.resource_keys import CERTIFICATES, UNBUILT_SECRETS
from cygnet.config.schema import ANYTHING, Key, Table, Unbuilt

_CODE = re.compile(r"`([^`]*)`")
_EMPHASIS = re.compile(r"(?<![\w*])\*([\w ]+)\*(?![\w*])")
_HEADING = re.compile(r"#+ (.*)")
_BULLET = re.compile(r"- (.*)")


def render_manual() -> str:
    """The page, in roff."""
    lines = [
        '.\\" Rendered by python -m cygnet.config.reference --man; edit src/cygnet/config/keys.py instead.',
        f'.TH CYGNET.CONF 5 "" "Cygnet {_plain(cygnet.__version__)}" "File formats"',
        ".SH NAME",
        "cygnet.conf \\- swanctl.conf as the gateway Cygnet reads it",
        ".SH DESCRIPTION",
        *_from_markdown(INTRODUCTION.splitlines()[4:]),
        ".SH SECTIONS",
    ]
    for table in TABLES.values():
        lines += _render_table(table)
    lines.append(".SH KEYS OF STRONGSWAN'S THAT ARE NOT BUILT YET")
    for table in TABLES.values():
        lines += _render_unbuilt(table)
    lines += _render_secrets()
    lines += [".SH SEE ALSO", ".BR swanctl.conf (5),", ".BR swanctl (8)"]
    return "\n".join(lines) + "\n"


def _render_table(table: Table) -> Iterator[str]:
    yield f".SS {_inline(table.title)}"
    yield _inline(table.help)
    for key in table.keys:
        yield ".TP"
        yield _render_key(key)
        yield _inline(key.help)


def _render_key(key: Key) -> str:
    name = f"{key.name}<suffix>" if key.is_prefix else key.name
    default = "required" if key.is_required else f"default: {key.default}" if key.default else ""
    own = "Cygnet's own" if key.is_own else ""
    remarks = ", ".join(part for part in (default, own) if part)
    return f"\\fB{_plain(name)}\\fR = \\fI{_plain(key.kind.name)}\\fR" + (f" ({_plain(remarks)})" if remarks else "")


def _render_unbuilt(table: Table) -> Iterator[str]:
    inner = [section for section in table.sections if section.refusal]
    if not table.unbuilt and not inner:
        return
    yield f".SS {_inline(table.title)}"
    for row in table.unbuilt:
        yield ".TP"
        yield f"\\fB{_plain(row.name)}\\fR{_harmless(row)}"
        yield _inline(render_fate(row))
    for section in inner:
        yield ".TP"
        yield f"\\fB{_plain(section.name)}<suffix> {{ }}\\fR"
        yield _inline(f"refused: {section.refusal}")


def _harmless(row: Unbuilt) -> str:
    if not row.harmless or ANYTHING in row.harmless:
        return ""
    return f" (passes: {_plain(', '.join(row.harmless))})"


def _render_secrets() -> Iterator[str]:
    yield ".SS secrets"
    yield "Sections that are skipped with a warning:"
    for prefix, table in UNBUILT_SECRETS.items():
        yield ".TP"
        yield f"\\fB{_plain(prefix)}<suffix>\\fR"
        yield _inline(table.help)
    yield ".PP"
    folders = ", ".join(FOLDERS)
    yield _inline(f"Files in the folders {folders} beside swanctl.conf are listed, and have no effect: {CERTIFICATES}.")


def _from_markdown(lines: Iterable[str]) -> Iterator[str]:
    """Paragraphs, headings, lists and blocks of code, as far as the introduction has them."""
    is_code = is_list = False
    for line in lines:
        if line.startswith("```"):
            is_code = not is_code
            yield from ((".PP", ".RS 4", ".nf") if is_code else (".fi", ".RE"))
        elif is_code:
            yield _plain(line)
        elif match := _HEADING.match(line):
            is_list = False
            yield f".SH {_inline(match[1]).upper()}"
        elif match := _BULLET.match(line):
            is_list = True
            yield ".IP \\(bu 2"
            yield _inline(match[1])
        elif line.strip():
            yield _inline(line.strip())
        elif not is_list:
            yield ".PP"


def _inline(text: str) -> str:
    """Text with `code` and *emphasis* in other fonts."""
    parts = _CODE.split(text)
    return _guarded(
        "".join(
            f"\\fB{_plain(part)}\\fR" if number % 2 else _EMPHASIS.sub(r"\\fI\1\\fR", _plain(part))
            for number, part in enumerate(parts)
        )
    )


def _plain(text: str) -> str:
    return _guarded(text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq"))


def _guarded(text: str) -> str:
    """A line that begins with a dot or a quote would be a request."""
    return f"\\&{text}" if text.startswith((".", "'")) else text
