"""What nobody can have is refused before anything is served: one line, exit code 2, no traceback.

Binds and handlers have their refusals in test_serve.py, limits in tests/servers/test_limits.py.
"""

import socket
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.servers.serving import WAYS, neverblock, neverblock_here

ECHO = "examples/echo.py:handle"


@pytest.fixture
def pems(tmp_path: Path) -> Path:
    """A directory of certificates, keys, and what is none."""
    authority = trustme.CA()
    for name in ("one", "other"):
        issued = authority.issue_cert(f"{name}.example")
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    (tmp_path / "notes.txt").write_text("no certificate")
    return tmp_path


@pytest.mark.parametrize("check", [(), ("--check",)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--certfile", "absent.pem"), "--certfile: no file "),
        (("--certfile", "notes.txt"), "notes.txt is not a certificate chain in PEM"),
        (("--certfile", "one.pem"), "one.pem holds no private key; name its --keyfile"),
        (("--certfile", "one.pem", "--keyfile", "absent.key"), "--keyfile: no file "),
        (("--certfile", "one.pem", "--keyfile", "other.key"), "other.key is not the certificate's"),
        (
            ("--certfile", "one.pem", "--keyfile", "one.key", "--client-ca", "notes.txt"),
            "--client-ca: ",
        ),
        (("--keyfile", "one.key"), "--keyfile: it is for TLS, which needs a --certfile; name one"),
        (("--alpn", "h2"), "--alpn: it is for TLS, which needs a --certfile; name one"),
    ],
)
def test_a_bad_certificate(
    pems: Path, options: tuple[str, ...], message: str, check: tuple[str, ...]
) -> None:
    files = [
        str(pems / option) if option.endswith((".pem", ".key", ".txt")) else option
        for option in options
    ]
    assert_refused(neverblock("serve", ECHO, *files, *check), message)


def test_a_bad_certificate_in_a_file_of_options(pems: Path) -> None:
    file = pems / "app.toml"
    file.write_text('certfile = "one.pem"\nkeyfile = "other.key"\n')
    refused = neverblock("serve", ECHO, "--config", str(file))
    assert_refused(refused, f"neverblock: {file}: keyfile: the key in {pems}/other.key is not")


@pytest.mark.parametrize("how", WAYS, ids=" ".join)
def test_a_port_in_use_and_a_missing_handler(how: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        refused = neverblock("serve", ECHO, *how, "--bind", bind)
        assert_refused(refused, "is in use; stop the other server or choose another port (0: any)")
    refused = neverblock("serve", "examples/echo.py:absent", *how)
    assert_refused(refused, "examples/echo.py has no absent; it has handle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "thread", "--backend", "poll"), "--backend is for the loop model"),
        (("--model", "thread", "--workers", "2"), "--workers: the thread model has no use for it"),
        (("--model", "thread", "--pool-size", "2"), "--pool-size: the thread model has no use"),
        (
            ("--model", "pool", "--max-connections", "5"),
            "of the 64 threads of the pool without work; make --pool-size 5 at most",
        ),
        (("--workers", "some"), "write a whole number or \"auto\", not 'some'"),
        (("--workers", "-1"), "--workers: must be at least 0, not -1"),
        (("--stack-size", "1T"), "write bytes, like 262144"),
        (("--model", "thread", "--stack-size", "1K"), "--stack-size: must be a multiple of 4096"),
        (("--unix-mode", "rw"), "write an octal mode, like 0660, not 'rw'"),
        (("--unix-mode", "77777"), "--unix-mode: 77777 is no mode; write one like 0o660"),
        (("--keepalive", "nan"), "--keepalive: must be 0 or more seconds, not nan"),
        (("--keepalive", "40000"), "--keepalive: must be 32767 seconds at most, not 40000"),
        (("--idle-timeout", "0"), "--idle-timeout"),
        (("--drain-timeout", "inf"), "--drain-timeout: must be 0 or more seconds, not inf"),
        (("--log-format", "xml"), "--log-format"),
    ],
)
def test_a_wrong_value(options: tuple[str, ...], message: str) -> None:
    assert_refused(neverblock_here("serve", ECHO, *options), message)


def assert_refused(result: "subprocess.CompletedProcess[str]", message: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
