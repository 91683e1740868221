"""`load-authority`, `unload-authority`, `get-authorities`, `list-authorities`. Authorities are kept and listed; nothing
uses them until certificates are built, which `load-authority` warns of."""

from functools import partial

from cygnet.auth.held_credentials import CertificateFlag, CertificateKind, HeldCertificate, decode_certificate
from cygnet.config.errors import ConfigError, Problem
from cygnet.ike.settings import AuthoritySettings
from cygnet.vici.backend import Backend
from cygnet.vici.commands.results import SUCCESS, failure, with_warnings
from cygnet.vici.message import Encodable
from cygnet.vici.server import Call, Command, CommandError


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
        octets = message.get("cacert")
        certificate: HeldCertificate | None = None
        if isinstance(octets, bytes) and octets:
            certificate = _authority_certificate(octets)
            message = {**message, "cacert": str(certificate.subjects[0]).encode()}
        try:
            warnings += backend.store.load_authority(name, message, certificate)
        except ConfigError as exc:
            raise failure(exc) from None
    return with_warnings(tuple(warnings))


async def _unload(backend: Backend, call: Call) -> Encodable:
    name = call.text("name")
    if not backend.store.unload_authority(name):
        raise CommandError(f"unload: authority '{name}' not found" if name else "unload: missing authority name")
    return SUCCESS


async def _get(backend: Backend, call: Call) -> Encodable:
    return {"authorities": tuple(backend.store.authorities)}


async def _list(backend: Backend, call: Call) -> Encodable:
    wanted = call.text("name")
    for authority in list(backend.store.authorities.values()):
        if wanted in ("", authority.name):
            certificate = backend.store.held.authorities.get(authority.name)
            await call.emit("list-authority", {authority.name: _layout(authority, certificate)})
    return {}


def _layout(authority: AuthoritySettings, certificate: HeldCertificate | None) -> Encodable:
    named = authority.cacert or authority.file or authority.handle
    return {
        "cacert": str(certificate.subjects[0]) if certificate is not None else named,
        "crl_uris": authority.crl_uris,
        "ocsp_uris": authority.ocsp_uris,
        "cert_uri_base": authority.cert_uri_base or None,
    }


def _authority_certificate(octets: bytes) -> HeldCertificate:
    """The certificate of an authority, PEM or DER. Raises CommandError."""
    try:
        return decode_certificate(CertificateKind.X509, CertificateFlag.CA, octets)
    except ValueError as exc:
        raise CommandError(f"cacert: {exc}") from None
