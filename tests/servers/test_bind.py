"""Bind URLs: what is read from them, and that nothing is lost on the way back."""

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neverblock.errors import BindError
from neverblock.servers.listen import Bind

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTS = (
    st.lists(LABELS, min_size=1, max_size=4).map(".".join)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.just("*")
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
BINDS = (
    st.builds(Bind, st.just("tcp"), host=HOSTS, port=st.integers(0, 65535))
    | st.builds(
        Bind, st.just("unix"), path=TEXT.map("/{}".format).filter(lambda path: path[-1] != "/")
    )
    | st.builds(Bind, st.just("fd"), descriptor=TEXT)
)


@given(BINDS)
def test_a_bind_is_what_its_url_says(bind: Bind) -> None:
    assert Bind.parse(bind.url) == bind


@given(
    st.text()
    | st.builds("{}://{}".format, st.sampled_from(["tcp", "unix", "fd"]), st.text())
    | st.builds(
        "tcp://{}:{}{}".format, HOSTS | st.text(), st.integers(), st.sampled_from(["", "/"])
    )
)
@example("tcp://[::1%lo]:7000")
@example("tcp://[v1.x]:7000")
@example("tcp://a\tb:7000")
@example("tcp://\u2100:7000")
@example("tcp://a:\u0667")
def test_any_other_text_is_refused_or_means_what_it_says(text: str) -> None:
    try:
        bind = Bind.parse(text)
    except BindError as error:
        refused = str(error)
    else:
        refused = ""
        assert Bind.parse(bind.url) == bind
    assert re.fullmatch("(cannot listen on .*: .+)?", refused, re.DOTALL)


@pytest.mark.parametrize(
    ("url", "bind"),
    [
        ("tcp://localhost:7000", Bind("tcp", host="localhost", port=7000)),
        ("tcp://[::1]:0", Bind("tcp", host="::1", port=0)),
        ("tcp://*:7000", Bind("tcp", host="*", port=7000)),
        ("unix:///run/a b?c#d.sock", Bind("unix", path="/run/a b?c#d.sock")),
        ("fd://3", Bind("fd", descriptor="3")),
        ("fd://web.socket", Bind("fd", descriptor="web.socket")),
    ],
)
def test_a_url_says_where(url: str, bind: Bind) -> None:
    assert Bind.parse(url) == bind
    assert bind.url == url


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_may_be_written_in_any_way(address: ipaddress.IPv6Address) -> None:
    assert Bind.parse(f"tcp://[{address.exploded}]:1").host == address.exploded
