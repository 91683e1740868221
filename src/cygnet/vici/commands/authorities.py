"""`load-authority`, `unload-authority`, `get-authorities`, `list-authorities`. Authorities are kept and listed; nothing
uses them until certificates are built, which `load-authority` warns of."""

from functools import partial

from cryptography import x509

from cygnet.auth.distinguished_name import format_name
from cygnet.config.errors import ConfigError, Problem
from cygnet.ike.settings import AuthoritySettings
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS, failure, with_warnings
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError

_PEM = b"-----BEGIN"


def table(backend: Backend) -> dict[str, Command]:
    """The commands by name."""
    return {
        "load-authority": Command(partial(_load, backend)),
        "unload-authority": Command(partial(_unload, backend)),
        "get-authorities": Command(partial(_get, backend)),
        "list-authorities": Command(partial(_list, backend), deadline_s=None),
    }


async def _load(backend: Backend, call: Call) -> Encodable:
    warnings: list[Problem] = []
    for name, message in call.message.items():
        if not isinstance(message, dict):
            raise CommandError(f"{name} is to be a section")
        certificate = message.get("cacert")
        if isinstance(certificate, bytes) and certificate:
            message = {**message, "cacert": _subject(certificate).encode()}
        try:
            warnings += backend.store.load_authority(name, message)
        except ConfigError as exc:
            raise failure(exc) from None
    return with_warnings(tuple(warnings))


async def _unload(backend: Backend, call: Call) -> Encodable:
    name = call.text("name")
    if not backend.store.unload_authority(name):
        raise CommandError(f"unloading authority '{name}' failed, not found")
    return SUCCESS


async def _get(backend: Backend, call: Call) -> Encodable:
    return {"authorities": tuple(backend.store.authorities)}


async def _list(backend: Backend, call: Call) -> Encodable:
    wanted = call.text("name")
    for authority in list(backend.store.authorities.values()):
        if wanted in ("", authority.name):
            await call.emit("list-authority", {authority.name: _layout(authority)})
    return {}


def _layout(authority: AuthoritySettings) -> Encodable:
    return {
        "cacert": authority.cacert or authority.file or authority.handle,
        "crl_uris": authority.crl_uris,
        "ocsp_uris": authority.ocsp_uris,
        "cert_uri_base": authority.cert_uri_base or None,
    }


def _subject(certificate: bytes) -> str:
    """The name of whom a certificate is about, PEM or DER. Raises CommandError."""
    try:
        if _PEM in certificate:
            parsed = x509.load_pem_x509_certificate(certificate)
        else:
            parsed = x509.load_der_x509_certificate(certificate)
        return format_name(parsed.subject.public_bytes())
    except ValueError:
        raise CommandError("cacert is no X.509 certificate, neither PEM nor DER") from None
