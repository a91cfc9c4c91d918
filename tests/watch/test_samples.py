"""Stacks at any moment: right, harmless, and given up where they cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neverblock.watch import sampler, stack
from tests.watch import running


def program(text: str) -> subprocess.CompletedProcess[str]:
    return running.program(text, "-X", "faulthandler")


def samples(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench.samples", *options],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_many_samples_at_random_moments_do_no_harm() -> None:
    text = samples("--count", "15000")
    assert "no crash" in text
    assert "lost" not in text


def test_where_the_system_call_is_forbidden_a_pipe_does_it() -> None:
    assert "no crash" in samples("--count", "1500", "--way", "pipe")


#: A call somewhere in a line, at some column, that looks at its own stack.
SOURCES = st.builds(
    "{blank}def {name}(\n    look,\n):\n{more}    {call}\n    return found\n".format,
    blank=st.integers(0, 200).map(lambda count: "\n" * count),
    name=st.sampled_from(["f", "fünf", "名前", "n" * 300, "𐐨"]),
    more=st.integers(0, 40).map(lambda count: "    look and 1\n" * count),
    call=st.sampled_from(
        [
            "found = look()",
            "found = [1, 'ü', look(), len('')]",
            "x = len('wält'); found = look(*())",
            "for one in (1,): found = [look() for _ in '1']",
            "found = (lambda: look(\n    ))()",
            "found = (\n\n        1,\n   (look)())",
            "found = [" + "0, " * 90 + "look(), 1]",
        ]
    ),
)


@given(SOURCES, st.sampled_from(["a.py", "wält.py", "名前.py", "a\udcff.py", "d" * 900 + ".py"]))
@settings(max_examples=150)
def test_lines_and_columns_are_those_of_pythons_own_frames(source: str, file: str) -> None:
    space: dict[str, object] = {}
    exec(compile(source, file, "exec"), space)
    function = next(value for name, value in space.items() if not name.startswith("__"))
    seen: list[tuple[stack.Place, ...]] = []

    def look() -> int:
        seen.append((stack.from_lines(sampler.own_lines()), stack.from_frame(sys._getframe()))[0])
        seen.append(stack.from_frame(sys._getframe()))
        return 1

    function(look)  # type: ignore[operator]
    walked, real = seen
    for one, other in zip(walked[1:6], real[1:6], strict=True):
        assert one == other
        assert (one.column, one.end_column) == (other.column, other.end_column)


@pytest.fixture(autouse=True, scope="module")
def sampling() -> object:
    sampler.acquire(0)
    yield
    sampler.release()


def test_coroutines_and_generators_are_told_from_functions() -> None:
    async def inner() -> list[stack.Place]:
        return list(stack.from_lines(sampler.own_lines()))

    async def outer() -> list[stack.Place]:
        return await inner()

    try:
        outer().send(None)
    except StopIteration as done:
        places = done.value
    assert [place.coroutine for place in places[:3]] == [True, True, False]
    assert places[1].function.endswith("outer")


def test_a_deep_stack_is_cut() -> None:
    def deeper(depth: int) -> list[object]:
        return deeper(depth - 1) if depth else list(sampler.own_lines())

    lines = deeper(300)
    assert len(lines) == 100


def test_a_thread_that_is_gone_has_no_stack() -> None:
    assert sampler.lines(2**22 + 1) == []


def test_a_thread_that_blocks_the_signal_gets_no_queue_of_them() -> None:
    done = program(
        """
        import signal, threading, time
        from neverblock.watch import sampler

        number = sampler.acquire(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        main = threading.get_native_id()

        def ask():
            for _ in range(50):
                assert sampler.lines(main) == []
            over.append(True)

        over = []
        thread = threading.Thread(target=ask)
        thread.start()
        while not over:
            pass
        thread.join()
        assert not signal.sigpending()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        over.clear()

        def once():
            over.append(sampler.lines(main))

        thread = threading.Thread(target=once)
        thread.start()
        while not over:
            pass
        assert over[0][-1][4] == "<module>", over
        sampler.release()
        """
    )
    assert done.returncode == 0, done.stderr


def test_forks_while_samples_are_taken() -> None:
    done = program(
        """
        import os, threading, warnings
        from neverblock.watch import sampler

        warnings.simplefilter("ignore")  # of threads and fork
        import neverblock.watch.watcher  # which has the child give up its parent's watch
        sampler.acquire(0)
        main = threading.get_native_id()

        def sample():
            while not over:
                sampler.count_samples(main, 50)

        over = []
        thread = threading.Thread(target=sample)
        thread.start()
        for _ in range(60):
            child = os.fork()
            if child == 0:
                sampler.acquire(0)
                os._exit(not sampler.own_lines())
            assert os.waitpid(child, 0)[1] == 0
        over.append(True)
        thread.join()
        sampler.release()
        """
    )
    assert done.returncode == 0, done.stderr


def test_another_program_takes_over_while_samples_are_taken() -> None:
    done = program(
        """
        import os, sys, threading, time
        from neverblock.watch import sampler

        sampler.acquire(0)
        main = threading.get_native_id()

        def sample():
            while True:
                sampler.count_samples(main, 50)

        threading.Thread(target=sample, daemon=True).start()
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        os.execv(sys.executable, [sys.executable, "-c", "print('taken over')"])
        """
    )
    assert (done.returncode, done.stdout) == (0, "taken over\n"), done.stderr


def test_a_program_that_could_not_take_over_is_sampled_on() -> None:
    done = program(
        """
        import os, threading, time
        from neverblock.watch import sampler

        sampler.acquire(0)
        try:
            os.execv("/no/such/program", ["program"])
        except FileNotFoundError:
            pass
        main, counted = threading.get_native_id(), set()

        def sample():
            while not counted:
                counted.update(filter(None, sampler.count_samples(main, 1)))

        thread = threading.Thread(target=sample)
        thread.start()
        while not counted:
            pass
        thread.join()
        """
    )
    assert done.returncode == 0, done.stderr


FORBID = """
import ctypes, struct, platform
number = {"x86_64": 310, "aarch64": 270}[platform.machine()]
# Load the number of the call; is it that one? then EPERM, else allowed (seccomp(2)).
filters = struct.pack("=HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, number,
    0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7FFF0000)
memory = ctypes.create_string_buffer(filters)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
rules = struct.pack("@HP", 4, ctypes.addressof(memory))
assert libc.prctl(22, 2, ctypes.create_string_buffer(rules)) == 0, ctypes.get_errno()
"""


def test_where_a_container_forbids_the_call_stacks_are_still_taken() -> None:
    done = program(
        FORBID
        + textwrap.dedent(
            """
            from neverblock.watch import memory, sampler
            assert memory.open_guard() == "pipe"
            sampler.acquire(0)
            assert sampler.own_lines()[0][4] == "<module>"
            sampler.release()
            """
        )
    )
    assert done.returncode == 0, done.stderr


def test_where_nothing_reads_memory_frames_are_read_under_the_gil() -> None:
    done = program(
        FORBID
        + textwrap.dedent(
            """
            import asyncio, os, resource, time
            import neverblock
            found = []

            async def main():
                time.sleep(0.4)
                for _ in range(400):
                    await asyncio.sleep(0.01)
                    if len(found) == 2:
                        break

            loop = neverblock.Loop(watch=neverblock.Watch(threshold=0.05, on_stall=found.append))
            import neverblock.watch.watcher, json, linecache, logging
            neverblock.watch.watcher.stack.library()
            highest = max(map(int, os.listdir("/proc/self/fd")))
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            work = main()
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, most))
            loop._watched_by.enter()  # what run_until_complete does first
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            loop.run_until_complete(work)
            loop.close()
            assert found[0].place and found[0].place.function == "main", found
            """
        )
    )
    assert done.returncode == 0, done.stderr
    assert "stacks are taken under the GIL alone" in done.stderr


def test_frames_of_an_unknown_layout_are_refused() -> None:
    frame = sys._getframe()
    lines = sampler.own_lines()
    sampler.check_layout(sampler.own_lines(), sys._getframe())
    with pytest.raises(NotImplementedError, match="not where they are expected"):
        sampler.check_layout([], frame)
    wrong = [(*lines[0][:1], lines[0][1] + 1, *lines[0][2:]), *lines[1:]]
    with pytest.raises(NotImplementedError, match="not where they are expected"):
        sampler.check_layout(wrong, frame)


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    sampler.acquire(0, "pipe")
    sampler.release()
    assert len(os.listdir("/proc/self/fd")) == len(before)
