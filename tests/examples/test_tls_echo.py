"""The TLS example, made and talked to as its first lines say: by openssl, as a person would."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from examples import tls_echo
from neverblock.servers import MODELS
from tests.servers.serving import PATIENCE, Process, served

HANDLER = "examples/tls_echo.py:handle"


def commands() -> list[list[str]]:
    """What the example tells to type: a certificate, a server, a client."""
    assert tls_echo.__doc__ is not None
    joined = re.sub(r"\\?\n {8}", " ", tls_echo.__doc__)
    return [shlex.split(line) for line in joined.splitlines() if line.startswith("    ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the example's certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    path = tmp_path_factory.mktemp("tls")
    make, *_ = commands()
    subprocess.run(make, cwd=path, check=True, capture_output=True, timeout=PATIENCE)
    return path


@contextmanager
def client(server: Process, place: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    *_, command = commands()
    port = server.url.rpartition(":")[2]
    command = [word.replace("localhost:7443", f"127.0.0.1:{port}") for word in command]
    with subprocess.Popen(
        [*command, *options],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def options_of(place: Path) -> list[str]:
    _, serve, _ = commands()
    assert serve[:3] == ["neverblock", "serve", HANDLER]
    [start] = [at for at, word in enumerate(serve) if word == "--certfile"]
    return [str(place / word) if word.endswith(".pem") else word for word in serve[start:]]


@pytest.mark.parametrize("model", MODELS)
def test_what_is_typed_comes_back(place: Path, model: str) -> None:
    with served(HANDLER, "--model", model, *options_of(place)) as server:
        with client(server, place) as openssl:
            assert openssl.stdin is not None
            assert openssl.stdout is not None
            greeting = openssl.stdout.readline()
            assert re.fullmatch(r"hello whoever you are: TLSv1\.3, TLS_\w+, echo\n", greeting)
            for line in ("hello\n", "world\n"):
                openssl.stdin.write(line)
                openssl.stdin.flush()
                assert openssl.stdout.readline() == line
            assert server.stop() == 0
            assert openssl.stdout.read() == ""
            assert openssl.wait(PATIENCE) == 0
        assert "ERROR" not in server.log


def test_it_knows_its_clients(place: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert(common_name="alice")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "alice.pem")
    ca = ("--client-ca", str(tmp_path / "ca.pem"))
    with served(HANDLER, *options_of(place), *ca) as server:
        with client(server, place, "-cert", str(tmp_path / "alice.pem")) as openssl:
            assert openssl.stdout is not None
            assert openssl.stdout.readline().startswith("hello alice: TLSv1.3")
        assert server.stop() == 0


def test_without_tls_it_says_so() -> None:
    with served(HANDLER) as server, server.connect() as plain:
        assert plain.recv(100) == b"hello, in the clear\n"
