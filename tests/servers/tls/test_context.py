"""Every wrong certificate, key, authority and protocol: one line that says which, and the cure."""

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from neverblock.errors import SettingsError
from neverblock.servers.tls.context import server_context
from tests.servers.tls.conftest import Authority


def pem(name: str) -> bytes:
    """Of the right form, and nothing in it."""
    return f"-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n".encode()


def encrypted(keyfile: str) -> bytes:
    key = serialization.load_pem_private_key(Path(keyfile).read_bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


WRONG: dict[str, tuple[Callable[[Authority], dict[str, bytes | None]], str, str]] = {
    "no certificate": (lambda _: {"certfile": None}, "certfile", "no file {certfile}; the working"),
    "no key": (lambda _: {"keyfile": None}, "keyfile", "no file {keyfile}; the working directory"),
    "no authorities": (lambda _: {"client_ca": None}, "client_ca", "no file {client_ca}; the work"),
    "the key for the certificate": (
        lambda a: {"certfile": Path(a.keyfile).read_bytes()},
        "certfile",
        "{certfile} is not a certificate chain in PEM: it has no line `-----BEGIN CERTIFICATE",
    ),
    "the certificate for the key": (
        lambda a: {"keyfile": Path(a.certfile).read_bytes()},
        "keyfile",
        "{keyfile} is not the certificate's private key in PEM: it has no line `-----BEGIN PRIV",
    ),
    "binary": (lambda _: {"certfile": bytes(range(256))}, "certfile", "is not a certificate chain"),
    "another's key": (
        lambda _: {"keyfile": trustme.CA().issue_cert("other").private_key_pem.bytes()},
        "keyfile",
        "the key in {keyfile} is not the certificate's ({certfile}); name its own",
    ),
    "an encrypted key": (
        lambda a: {"keyfile": encrypted(a.keyfile)},
        "keyfile",
        "is encrypted; write it without a password, readable for the server alone: openssl pk",
    ),
    "a hollow certificate": (
        lambda _: {"certfile": pem("CERTIFICATE")},
        "certfile",
        "OpenSSL cannot read {certfile} or {keyfile} (",
    ),
    "a hollow key": (
        lambda _: {"keyfile": pem("PRIVATE KEY")},
        "certfile",
        "OpenSSL cannot read {certfile} or {keyfile} (",
    ),
    "hollow authorities": (
        lambda _: {"client_ca": pem("CERTIFICATE")},
        "client_ca",
        "OpenSSL cannot read {client_ca} (",
    ),
    "authorities that are none": (
        lambda _: {"client_ca": b"nothing"},
        "client_ca",
        "{client_ca} is not the authorities' certificates in PEM",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_the_cure(
    authority: Authority, tmp_path: Path, case: str
) -> None:
    changed, name, message = WRONG[case]
    files = {
        "certfile": Path(authority.certfile).read_bytes(),
        "keyfile": Path(authority.keyfile).read_bytes(),
        "client_ca": Path(authority.client_ca).read_bytes(),
    } | changed(authority)
    paths = {}
    for which, content in files.items():
        paths[which] = str(tmp_path / f"{which}.pem")
        if content is not None:
            Path(paths[which]).write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        server_context(paths["certfile"], paths["keyfile"], paths["client_ca"], ())
    assert caught.value.name == name
    assert message.format(**paths) in caught.value.reason
    assert "\n" not in str(caught.value)


def test_a_certificate_may_hold_its_key(authority: Authority, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(authority.keyfile).read_bytes() + Path(authority.certfile).read_bytes())
    server_context(str(both), None, None, ())
    with pytest.raises(SettingsError, match="holds no private key; name its keyfile"):
        server_context(authority.certfile, None, None, ())


def test_what_may_not_be_read_is_said(authority: Authority, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\)"):
            server_context(str(tmp_path), None, None, ())
        return
    hidden = tmp_path / "key.pem"
    hidden.write_bytes(Path(authority.keyfile).read_bytes())
    hidden.chmod(0)
    with pytest.raises(SettingsError, match=r"cannot be read \(Permission denied\); give it"):
        server_context(authority.certfile, str(hidden), None, ())


def test_a_path_that_can_be_none(authority: Authority) -> None:
    with pytest.raises(SettingsError, match="is no path"):
        server_context("a\0b", None, None, ())


def test_a_weak_key_is_refused(tmp_path: Path, authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "weak.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(SettingsError, match="too weak"):
        server_context(str(path), None, None, ())


@pytest.mark.parametrize("names", [("",), ("h2", "x" * 256), ("grün",)])
def test_a_wrong_protocol_is_named(authority: Authority, names: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=f"{names[-1]!r} is no protocol's name") as caught:
        server_context(authority.certfile, authority.keyfile, None, names)
    assert caught.value.name == "alpn"


def test_protocols_must_fit_in_a_handshake(authority: Authority) -> None:
    names = tuple(f"{number:0255d}" for number in range(256))
    with pytest.raises(SettingsError, match="name fewer"):
        server_context(authority.certfile, authority.keyfile, None, names)
    server_context(authority.certfile, authority.keyfile, None, names[:255])


def test_what_a_context_asks_for(authority: Authority) -> None:
    context = authority.server()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert authority.server(verify=True).verify_mode == ssl.CERT_REQUIRED
