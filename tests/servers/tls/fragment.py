"""The beginning of a message of TLS's own in a record of its own, which no client's library sends.

It is encrypted here, with the keys that OpenSSL logs (RFC 8446, 5.1 to 5.3, 7.1, 7.3).
"""

import ssl
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.servers.tls.client import ClientSocket
from tests.servers.tls.conftest import Authority

#: The header of a KeyUpdate, whose one byte is to follow; then what kind of record it is.
HEADER = b"\x18\x00\x00\x01" + b"\x16"


def logged_client(authority: Authority, log: Path) -> ssl.SSLContext:
    """A client's context, which logs its keys."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.ca.configure_trust(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = str(log)
    return context


def unfinished(client: ClientSocket, log: Path) -> bytes:
    """The first record of a client: after it, it can send nothing else."""
    cipher = client.tls.object.cipher()
    assert cipher is not None
    assert cipher[0] == "TLS_AES_256_GCM_SHA384"
    [secret] = [
        bytes.fromhex(line.split()[2])
        for line in log.read_text().splitlines()
        if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")
    ]
    associated = b"\x17\x03\x03" + (len(HEADER) + 16).to_bytes(2, "big")
    key, nonce = expanded(secret, "key", 32), expanded(secret, "iv", 12)
    return associated + AESGCM(key).encrypt(nonce, HEADER, associated)


def expanded(secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\x00"
    return HKDFExpand(hashes.SHA384(), length, info).derive(secret)
