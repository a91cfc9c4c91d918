"""The settings of TLS, made an ssl.SSLContext; what is wrong with them, in one line."""

import os
import ssl
from pathlib import Path
from typing import NoReturn

from neverblock.errors import SettingsError
from neverblock.servers.settings import Settings


class EncryptedKeyError(Exception):
    """The key asks for a password, and there is nobody to type it."""


def context_of(settings: Settings) -> ssl.SSLContext | None:
    """What the settings ask for; None without TLS. Raises SettingsError, with the cure."""
    if settings.certfile is None:
        return None
    return server_context(settings.certfile, settings.keyfile, settings.client_ca, settings.alpn)


def server_context(
    certfile: str, keyfile: str | None, client_ca: str | None, alpn: tuple[str, ...]
) -> ssl.SSLContext:
    """What every connection of a server shares: TLS 1.2 or newer, as Python's ssl has it.

    With ``client_ca`` a client must show a certificate that one of these authorities has signed.
    Raises SettingsError, with the cure.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # It costs the server far more than the client, and TLS 1.3 has none (RFC 8446, 1.2).
    context.options |= ssl.OP_NO_RENEGOTIATION
    load_certificate(context, certfile, keyfile)
    if client_ca is not None:
        load_authorities(context, client_ca)
    if alpn:
        check_protocols(alpn)
        context.set_alpn_protocols(alpn)
    return context


def load_certificate(context: ssl.SSLContext, certfile: str, keyfile: str | None) -> None:
    check_pem("certfile", certfile, "CERTIFICATE", "a certificate chain")
    if keyfile is not None:
        check_pem("keyfile", keyfile, "PRIVATE KEY", "the certificate's private key")
    elif "PRIVATE KEY-----" not in read("certfile", certfile):
        raise SettingsError("certfile", f"{certfile} holds no private key; name its keyfile")
    key, where = ("certfile", certfile) if keyfile is None else ("keyfile", keyfile)
    try:
        context.load_cert_chain(certfile, keyfile, password=refuse)
    except EncryptedKeyError:
        raise SettingsError(
            key,
            f"the key in {where} is encrypted; write it without a password, readable for the "
            f"server alone: openssl pkey -in {where} -out plain.pem",
        ) from None
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                key, f"the key in {where} is not the certificate's ({certfile}); name its own"
            ) from None
        if reason.endswith(("TOO_SMALL", "TOO_WEAK")):
            raise SettingsError(
                "certfile",
                f"OpenSSL takes {certfile} for too weak ({words(reason)}); have one made with "
                f"P-256, or RSA of 2048 bits or more, and SHA-256",
            ) from None
        blamed = certfile if where == certfile else f"{certfile} or {where}"
        raise SettingsError(
            "certfile", f"OpenSSL cannot read {blamed} ({words(reason)}); see `openssl x509 -text`"
        ) from None


def load_authorities(context: ssl.SSLContext, client_ca: str) -> None:
    check_pem("client_ca", client_ca, "CERTIFICATE", "the authorities' certificates")
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise SettingsError(
            "client_ca",
            f"OpenSSL cannot read {client_ca} ({words(error.reason or str(error))}); see "
            f"`openssl x509 -text`",
        ) from None


def check_protocols(names: tuple[str, ...]) -> None:
    """RFC 7301: each name is of 1 to 255 bytes, all of them, with their lengths, of 65535."""
    for name in names:
        if not (name.isascii() and 1 <= len(name) <= 255):
            raise SettingsError(
                "alpn", f"{name!r} is no protocol's name; write 1 to 255 ASCII characters, like h2"
            )
    if sum(len(name) + 1 for name in names) > 65535:
        raise SettingsError("alpn", "too many protocols to be told in one handshake; name fewer")


def check_pem(name: str, path: str, label: str, content: str) -> None:
    """Raises SettingsError where a file holds nothing of that label."""
    if f"{label}-----" not in read(name, path):
        raise SettingsError(
            name, f"{path} is not {content} in PEM: it has no line `-----BEGIN {label}-----`"
        )


def read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise SettingsError(
            name, f"no file {path}; the working directory is {os.getcwd()}"
        ) from None
    except OSError as error:
        raise SettingsError(
            name, f"{path} cannot be read ({error.strerror}); give it to the server's user"
        ) from None
    except ValueError as error:
        raise SettingsError(name, f"{path!r} is no path ({error})") from None


def refuse() -> NoReturn:
    raise EncryptedKeyError


def words(reason: str) -> str:
    return reason.replace("_", " ").lower()
