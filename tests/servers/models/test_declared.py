"""What is refused before anything is served: models that a module does not declare, options."""

from pathlib import Path

import pytest

from tests.servers.models.matrix import SHARING
from tests.servers.serving import neverblock, served


@pytest.fixture
def declaring(tmp_path: Path) -> str:
    (tmp_path / "sharing.py").write_text(
        'models = ("thread", "pool", "loop")\nasync def handle(stream): pass\n'
    )
    return str(tmp_path / "sharing.py")


def test_a_module_may_declare_its_models(declaring: str, model: str) -> None:
    if model in SHARING:
        with served(f"{declaring}:handle", "--model", model) as server:
            assert server.stop() == 0
        return
    refused = neverblock("serve", f"{declaring}:handle", "--model", model)
    assert refused.returncode == 2
    assert (
        f"{declaring}:handle cannot be served under the {model} model: its module declares "
        f"models = ('thread', 'pool', 'loop'); choose one of these, like --model thread"
    ) in refused.stderr


@pytest.mark.parametrize(
    ("declared", "message"),
    [('("loop", "magic")', "there is no 'magic'"), ("{}", None), ('("a", "b")', None)],
)
def test_what_is_declared_must_make_sense(
    tmp_path: Path, declared: str, message: str | None
) -> None:
    path = tmp_path / "declaring.py"
    path.write_text(f"models = {declared}\nasync def handle(stream): pass\n")
    if message is None:
        with served(f"{path}:handle") as server:
            assert server.stop() == 0
        return
    refused = neverblock("serve", f"{path}:handle")
    assert refused.returncode == 2
    assert message in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "magic"), "'magic' is not one of"),
        (("--model", "pool", "--pool-size", "0"), "0 is not in the range"),
        (("--model", "pool", "--max-connections", "5"), "make --pool-size 5 at most"),
        (("--model", "iterative", "--max-connections", "5"), "has no use for it; leave it out"),
        (("--model", "thread", "--offload"), "has no use for it; leave it out"),
        (("--pool-size", "5"), "the loop model has a pool only with offload"),
        (("--model", "thread", "--backend", "poll"), "--backend is for the loop model"),
    ],
)
def test_a_wrong_option_is_refused_with_the_cure(
    app: str, options: tuple[str, ...], message: str
) -> None:
    refused = neverblock("serve", f"{app}:echo", *options)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
