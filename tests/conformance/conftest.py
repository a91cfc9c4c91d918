"""Fixtures of the tests of compatibility: those of the engine's, and TLS contexts."""

import ssl
from pathlib import Path

import pytest

from tests.engine.fixtures import *  # noqa: F403

CERTIFICATE = Path(__file__).with_name("localhost.pem")


@pytest.fixture(scope="session")
def server_tls():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture(scope="session")
def client_tls():
    return ssl.create_default_context(cafile=CERTIFICATE)
