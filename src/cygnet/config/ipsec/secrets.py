"""The syntax of `ipsec.secrets`, and what each line is in `swanctl.conf`.

    [ID ...] : KIND VALUE ...

A line that begins with `#` is a comment; `include PATTERN` reads other files. Nothing here repeats a secret.
"""

import os
import re
from pathlib import PurePath
from typing import Final

from cygnet.config.defaults import MAX_INCLUDE_DEPTH
from cygnet.config.errors import Problem, quote
from cygnet.config.syntax import Position, Section, Setting, Source, expand_pattern, read_text, reading_failed

_SHARED: Final = {"PSK": "ike", "EAP": "eap", "XAUTH": "xauth", "NTLM": "ntlm"}
_KEY_FILES: Final = {"RSA": "rsa", "ECDSA": "ecdsa", "PKCS8": "pkcs8", "BLISS": "bliss", "P12": "pkcs12"}
_VALUE: Final = re.compile(r"""[ \t]*(?:"([^"]*)"|'([^']*)'|([^\s"'][^\s]*))""")
_SMARTCARD: Final = re.compile(r"%smartcard(?P<slot>[0-9]+)?(?:@(?P<module>[^:]+))?(?::(?P<handle>[0-9A-Fa-f]+))?\Z")


def convert_secrets(path: str, problems: list[Problem]) -> Section:
    """The section `secrets` for a file with everything that it includes; `problems` gets what can't be carried over.

    Raises OSError and ValueError if the file can't be read.
    """
    source = Source(path, read_text(path))
    secrets = Section("secrets", Position(source, 0))
    _Converter(secrets, problems).read(source, (os.path.realpath(path),))
    return secrets


class _Converter:
    __slots__ = ("_problems", "_secrets")

    def __init__(self, secrets: Section, problems: list[Problem]) -> None:
        self._secrets = secrets
        self._problems = problems

    def read(self, source: Source, included_by: tuple[str, ...]) -> None:
        offset = 0
        for line in source.text.splitlines(keepends=True):
            position = Position(source, offset + len(line) - len(line.lstrip()))
            offset += len(line)
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if text.startswith("include "):
                self._include(text.split()[1], position, included_by)
                continue
            selectors, separator, rest = (" " + text).partition(" : ")
            words = rest.split(maxsplit=1)
            if not separator or not words:
                self._complain(position, 'this is no secret: write ID ... : PSK "SECRET"')
                continue
            self._secret(_values(selectors), words[0], words[1] if len(words) > 1 else "", position)

    def _include(self, pattern: str, position: Position, included_by: tuple[str, ...]) -> None:
        if len(included_by) > MAX_INCLUDE_DEPTH:
            self._complain(position, "files are included too deeply")
            return
        try:
            for path in expand_pattern(position.source.name, pattern):
                if os.path.realpath(path) in included_by:
                    self._complain(position, f"{path} includes itself")
                else:
                    self.read(Source(path, read_text(path)), (*included_by, os.path.realpath(path)))
        except (OSError, ValueError) as exc:
            self._complain(position, f"can't include {pattern}: {reading_failed(exc)}")

    def _secret(self, owners: list[str], kind: str, rest: str, position: Position) -> None:
        if kind in _SHARED:
            self._shared(owners, kind, rest, position)
        elif kind in _KEY_FILES:
            self._key_file(kind, rest, position)
        elif kind == "PIN":
            self._token(rest, position)
        else:
            known = ", ".join((*_SHARED, *_KEY_FILES, "PIN"))
            self._complain(position, f"{quote(kind)} is no kind of secret; there is: {known}")

    def _shared(self, owners: list[str], kind: str, rest: str, position: Position) -> None:
        secret = _secret_of(rest)
        if not secret:
            self._complain(position, f"this {kind} has no secret")
            return
        section = self._add(_SHARED[kind], position)
        for number, owner in enumerate(dict.fromkeys(owners), 1):
            _put(section, "id" if len(owners) == 1 else f"id-{number}", owner, position)
        _put(section, "secret", secret, position)

    def _key_file(self, kind: str, rest: str, position: Position) -> None:
        match = _VALUE.match(rest)
        if match is None:
            self._complain(position, f"this {kind} names no file")
            return
        folder = f"/etc/swanctl/{_KEY_FILES[kind]}"
        file = PurePath(match[1] or match[2] or match[3] or "")
        passphrase = _secret_of(rest[match.end() :])
        if passphrase and passphrase != "%prompt":  # noqa: S105 - a keyword
            section = self._add(_KEY_FILES[kind], position)
            _put(section, "file", file.name, position)
            _put(section, "secret", passphrase, position)
        where = file if file.is_absolute() else PurePath("/etc/ipsec.d/private") / file
        self._complain(position, f"the key itself is not carried over: copy {where} to {folder}")

    def _token(self, rest: str, position: Position) -> None:
        values = _values(rest)
        match = _SMARTCARD.match(values[0]) if values else None
        if match is None or match["handle"] is None or len(values) < 2:
            self._complain(position, "this PIN is not carried over: write %smartcard[SLOT[@MODULE]]:KEYID and the PIN")
            return
        section = self._add("token", position)
        for key in ("handle", "slot", "module"):
            if match[key]:
                _put(section, key, match[key], position)
        if values[1] != "%prompt":
            _put(section, "pin", values[1], position)

    def _add(self, kind: str, position: Position) -> Section:
        number = 1 + sum(name.startswith(f"{kind}-") for name in self._secrets.sections)
        section = self._secrets.sections[f"{kind}-{number}"] = Section(f"{kind}-{number}", position)
        return section

    def _complain(self, position: Position, message: str) -> None:
        self._problems.append(position.problem(message))


def _values(text: str) -> list[str]:
    return [match[1] or match[2] or match[3] or "" for match in _VALUE.finditer(text)]


def _secret_of(text: str) -> str:
    """A secret as `swanctl.conf` writes it. In quotes it is text, whatever it begins with; without, 0x begins
    hexadecimal and 0s base64."""
    match = _VALUE.match(text)
    if match is None:
        return ""
    quoted = match[1] if match[1] is not None else match[2]
    if quoted is not None:
        return f"0x{quoted.encode().hex()}" if quoted[:2].lower() in ("0x", "0s") else quoted
    bare = match[3] or ""
    return bare[:2].lower() + bare[2:] if bare[:2].lower() in ("0x", "0s") else bare


def _put(section: Section, key: str, value: str, position: Position) -> None:
    section.settings[key] = Setting(value, position, position)
