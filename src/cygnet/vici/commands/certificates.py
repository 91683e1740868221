"""`load-cert`, `list-certs`, `flush-certs`, `load-key`, `unload-key`, `get-keys`, `load-token`.

Certificates and the names of keys are kept and listed; nothing uses them until certificates are built, which the
answers to what loads them warn of.
"""

from functools import partial
from typing import Final

from cygnet.auth.held_credentials import (
    CertificateFlag,
    CertificateKind,
    HeldCertificate,
    decode_certificate,
    private_key_id,
)
from cygnet.auth.identity import Identity, parse_identity
from cygnet.config.resource_keys import CERTIFICATES
from cygnet.observe.log_groups import group_logger
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError

_log = group_logger("cfg")

_ANY: Final = "ANY"
_KINDS: Final = {kind.value: kind for kind in CertificateKind}
_FLAGS: Final = {flag.value: flag for flag in CertificateFlag}
_OLD_KINDS: Final = {
    "X509CA": CertificateFlag.CA,
    "X509AA": CertificateFlag.AA,
    "X509OCSP": CertificateFlag.OCSP,
}
"""As strongSwan's clients before 5.4 said it."""
_KEY_KINDS: Final = (_ANY, "RSA", "ECDSA")


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "load-cert": Command(partial(_load_certificate, backend)),
        "list-certs": Command(partial(_list, backend), deadline_s=None),
        "flush-certs": Command(_flush),
        "load-key": Command(partial(_load_key, backend)),
        "unload-key": Command(partial(_unload_key, backend)),
        "get-keys": Command(partial(_get_keys, backend)),
        "load-token": Command(_load_token),
    }


async def _load_certificate(backend: Backend, call: Call) -> Encodable:
    if not call.text("type"):
        raise CommandError("certificate type missing")
    kind_text, flag_text = call.text("type").upper(), call.text("flag", "NONE").upper()
    if kind_text in _OLD_KINDS:
        kind_text, flag_text = CertificateKind.X509.value, _OLD_KINDS[kind_text].value
    kind, flag = _KINDS.get(kind_text), _FLAGS.get(flag_text)
    if kind is None:
        raise CommandError(f"invalid certificate type '{call.text('type')}'")
    if flag is None:
        raise CommandError(f"invalid certificate flag '{call.text('flag')}'")
    try:
        certificate = decode_certificate(kind, flag, _data(call, "certificate data missing"))
    except ValueError as exc:
        raise CommandError(str(exc)) from None
    is_new = backend.store.held.add(certificate)
    return {"success": True, "warnings": _warnings(f"{kind.value} '{certificate.subjects[0]}'", is_new=is_new)}


async def _list(backend: Backend, call: Call) -> Encodable:
    """As in strongSwan, a type that is not known shows nothing, and a flag matters with the type X509 only."""
    kind_text, flag_text = call.text("type", _ANY).upper(), call.text("flag", _ANY).upper()
    flag = _FLAGS.get(flag_text) if kind_text == CertificateKind.X509.value else None
    subject = _subject(call)
    for certificate in list(backend.store.held.listed()):
        if (
            kind_text in (_ANY, certificate.kind.value)
            and flag in (None, certificate.flag)
            and (subject is None or certificate.has_subject(subject))
        ):
            await call.emit("list-cert", _layout(backend, certificate))
    return {}


def _layout(backend: Backend, certificate: HeldCertificate) -> Encodable:
    return {
        "type": certificate.kind.value,
        "flag": certificate.flag.value if certificate.kind is CertificateKind.X509 else None,
        "has_privkey": True if backend.store.held.has_private_key(certificate) else None,
        "data": certificate.data,
    }


async def _flush(call: Call) -> Encodable:
    """Of certificates that peers have sent, none of which is kept; what was loaded stays, as in strongSwan."""
    kind_text = call.text("type", _ANY)
    if kind_text.upper() not in (_ANY, *_KINDS):
        raise CommandError(f"invalid certificate type '{kind_text}'")
    return SUCCESS


async def _load_key(backend: Backend, call: Call) -> Encodable:
    if not call.text("type"):
        raise CommandError("key type missing")
    kind = call.text("type").upper()
    if kind == "BLISS":
        raise CommandError("parsing BLISS private key failed")
    if kind not in _KEY_KINDS:
        raise CommandError(f"invalid key type: {call.text('type')}")
    octets = _data(call, "key data missing")
    try:
        identifier = private_key_id(kind, octets)
    except ValueError as exc:
        raise CommandError(str(exc)) from None
    is_new = backend.store.held.add_key(identifier)
    return {"success": True, "id": identifier, "warnings": _warnings(f"private key {identifier}", is_new=is_new)}


async def _unload_key(backend: Backend, call: Call) -> Encodable:
    if not call.text("id"):
        raise CommandError("key id missing")
    if not backend.store.held.remove_key(call.text("id").lower()):
        raise CommandError("key not found")
    return SUCCESS


async def _get_keys(backend: Backend, call: Call) -> Encodable:
    return {"keys": backend.store.held.key_ids}


async def _load_token(call: Call) -> Encodable:
    if not call.text("handle"):
        raise CommandError("keyid missing")
    raise CommandError(f"keys on tokens are not built yet: {CERTIFICATES}")


def _data(call: Call, missing: str) -> bytes:
    octets = call.message.get("data")
    if not isinstance(octets, bytes) or not octets:
        raise CommandError(missing)
    return octets


def _subject(call: Call) -> Identity | None:
    try:
        return parse_identity(call.text("subject")) if call.text("subject") else None
    except ValueError as exc:
        raise CommandError(f"subject: {exc}") from None


def _warnings(what: str, *, is_new: bool) -> list[str]:
    """What strongSwan's clients pass over, so that the log has it: once."""
    warning = f"{what} is kept and listed, and has no effect: {CERTIFICATES}"
    if is_new:
        _log.warning("%s", warning)
    return [warning]
