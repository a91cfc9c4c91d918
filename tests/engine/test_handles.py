"""Handles and timer handles: what they show of themselves."""

import contextvars
import sys

import pytest

from .test_callbacks import turn


def callback_with_a_name(*args):
    pass


def test_repr_names_the_callback(loop):
    handle = loop.call_soon(callback_with_a_name, "an argument")
    assert repr(handle).startswith("<Handle ")
    assert "callback_with_a_name" in repr(handle)
    timer = loop.call_later(1000, callback_with_a_name)
    assert repr(timer).startswith("<TimerHandle ")
    assert "callback_with_a_name" in repr(timer)
    assert "when=" in repr(timer)
    timer.cancel()


def test_repr_tells_cancelled(loop):
    for handle in (loop.call_soon(callback_with_a_name), loop.call_later(9, callback_with_a_name)):
        assert "cancelled" not in repr(handle)
        handle.cancel()
        assert "cancelled" in repr(handle)


def test_repr_after_the_run(loop):
    handles = [loop.call_soon(callback_with_a_name), loop.call_later(0, callback_with_a_name)]
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    for handle in handles:
        assert repr(handle).startswith("<")
        handle.cancel()
        assert repr(handle).startswith("<")


def test_repr_in_debug_mode_tells_where_it_was_made(loop):
    loop.set_debug(True)
    for handle in (loop.call_soon(callback_with_a_name), loop.call_later(9, callback_with_a_name)):
        assert f"created at {__file__}" in repr(handle)
        handle.cancel()
        assert "cancelled" in repr(handle)
        assert "callback_with_a_name" in repr(handle)  # debug mode remembers it


def test_cancelled(loop):
    handle, timer = loop.call_soon(print), loop.call_later(10, print)
    for one in (handle, timer):
        assert one.cancelled() is False
        assert one.cancel() is None
        assert one.cancelled() is True
        one.cancel()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is of 3.12")
def test_get_context(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(print, context=context).get_context() is context
    timer = loop.call_later(10, print, context=context)
    assert timer.get_context() is context
    timer.cancel()
    assert isinstance(loop.call_soon(callback_with_a_name).get_context(), contextvars.Context)
    for handle in (loop.call_soon(callback_with_a_name, context=context),):
        turn(loop)
        handle.get_context()  # whatever it is by now, no crash


def test_timers_compare_by_deadline(loop):
    early, late = loop.call_at(1e12, print), loop.call_at(2e12, print)
    same = loop.call_at(1e12, print)
    assert early < late
    assert late > early
    assert early <= same
    assert early >= same
    assert early == same
    assert early != late
    assert not early == late  # noqa: SIM201
    assert hash(early) == hash(same)
    assert sorted([late, early]) == [early, late]
    with pytest.raises(TypeError):
        early < 5  # noqa: B015
    assert early != 5
    for timer in (early, late, same):
        timer.cancel()


def test_handles_are_hashable_and_can_be_referred_to_weakly(loop):
    import weakref

    handles = {loop.call_soon(callback_with_a_name) for _ in range(3)}
    assert len(handles) == 3
    timer = loop.call_later(5, callback_with_a_name)
    refs = weakref.WeakSet([*handles, timer])
    assert len(refs) == 4
    timer.cancel()


def test_a_timer_handle_from_the_past_tells_when(loop):
    when = loop.time() - 5
    timer = loop.call_at(when, callback_with_a_name)
    turn(loop)
    assert timer.when() == when
    timer.cancel()
    assert timer.when() == when
