"""Certificates, and the contexts of both sides."""

import functools
import ssl
from dataclasses import dataclass

import pytest
import trustme

from neverblock.servers.tls.context import server_context


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and what it has signed: files as an administrator has them."""

    ca: trustme.CA
    certfile: str
    keyfile: str
    client_ca: str

    def client(
        self,
        name: str | None = None,
        alpn: tuple[str, ...] = (),
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """A client's context, which trusts the authority and may show a certificate of its."""
        return client_context(self, name, alpn, version)

    def server(self, verify: bool = False, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A server's, which may demand a certificate of the authority's."""
        return server_context(self.certfile, self.keyfile, self.client_ca if verify else None, alpn)


@functools.cache
def client_context(
    authority: Authority, name: str | None, alpn: tuple[str, ...], version: ssl.TLSVersion | None
) -> ssl.SSLContext:
    # Not create_default_context(): to load the system's authorities takes a while.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.ca.configure_trust(context)
    if name is not None:
        authority.ca.issue_cert(common_name=name, organization_name="Tests").configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    place = tmp_path_factory.mktemp("authority")
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(place / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(place / "cert.pem", append=True)
    ca.cert_pem.write_to_path(place / "ca.pem")
    return Authority(ca, *(str(place / name) for name in ("cert.pem", "key.pem", "ca.pem")))


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[request.param]
