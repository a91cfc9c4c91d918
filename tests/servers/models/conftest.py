"""Fixtures of the models' tests: each model, each kind of bind, a server of them."""

from pathlib import Path

import pytest

from neverblock.servers import MODELS
from tests.servers.models.matrix import APP, Bind, Serve, serving
from tests.servers.tls.conftest import Authority, authority

__all__ = ["authority"]


@pytest.fixture
def app() -> str:
    return APP


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["tcp", "unix", "tls"])
def bind(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Bind:
    match request.param:
        case "unix":
            return Bind("unix", f"unix://{tmp_path}/app.sock")
        case "tls":
            options = ("--certfile", authority.certfile, "--keyfile", authority.keyfile)
            context = authority.client()
            return Bind("tls", "tcp://127.0.0.1:0", options, context, authority.client_ca)
    return Bind("tcp", "tcp://127.0.0.1:0")


@pytest.fixture
def serve(model: str, bind: Bind) -> Serve:
    return serving(bind, "--model", model)
