"""TLS by workers, and a certificate that is renewed while they serve."""

import signal
import ssl
from contextlib import ExitStack
from pathlib import Path

from tests.servers.serving import exactly, served
from tests.servers.tls.conftest import Authority
from tests.servers.working import HANDLERS


def test_a_reload_takes_the_new_certificate(authority: Authority, tmp_path: Path) -> None:
    app, cert, key = (tmp_path / name for name in ("app.py", "cert.pem", "key.pem"))
    app.write_text(HANDLERS)

    def issue() -> None:
        issued = authority.ca.issue_cert("localhost")
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(cert))

    issue()
    options = ("--workers", "2", "--certfile", str(cert), "--keyfile", str(key))
    with served(f"{app}:pid", *options) as server, ExitStack() as opened:

        def connect() -> ssl.SSLSocket:
            plain = opened.enter_context(server.connect())
            return opened.enter_context(
                authority.client().wrap_socket(plain, server_hostname="localhost")
            )

        before = [connect() for _ in range(4)]
        assert len({exactly(client, 10) for client in before}) == 2
        old = before[0].getpeercert(binary_form=True)
        issue()
        server.send(signal.SIGHUP)
        server.wait_until_logged("reloaded: ")
        assert connect().getpeercert(binary_form=True) != old
        for client in before:
            client.sendall(b"x")
            assert exactly(client, 1) == b"x"
        key.write_text("no key")
        server.send(signal.SIGHUP)
        server.wait_until_logged("cannot reload, those before go on: keyfile: ")
        connect()
        assert server.stop() == 0
