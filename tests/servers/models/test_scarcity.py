"""The system has no room: for a descriptor, a process, a thread. The server says so and goes on."""

import errno
import os
import resource
import signal
import subprocess

import pytest

from tests.servers.models.matrix import APP, Serve
from tests.servers.proc import children, eventually, limits, no_more_descriptors, sockets
from tests.servers.serving import neverblock, served
from tests.servers.tools import tool, tried
from tests.servers.wire import ask, everything

#: A user that nobody is, so that no other process counts as theirs (RLIMIT_NPROC: getrlimit(2)).
NOBODY = "61337"


def test_out_of_descriptors_it_waits_and_accepts_again(serve: Serve, model: str) -> None:
    with serve("lines") as server:
        at_first = sockets(server.pid)
        with server.connect() as earlier:
            assert ask(earlier, b"hello\n") == b"hello\n"
            if model == "iterative":
                earlier.close()  # Or nobody else would be accepted anyhow.
            held = at_first + (model not in ("iterative", "process"))
            eventually(lambda: sockets(server.pid) == held)
            before = no_more_descriptors(server.pid)
            with server.open() as waiting:
                server.wait_until_logged("Too many open files")
                if model != "iterative":
                    assert ask(earlier, b"again\n") == b"again\n"
                limits(server.pid, resource.RLIMIT_NOFILE, before)
                with server.secured(waiting) as client:
                    assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOBUFS], ids=errno.errorcode.get)
def test_the_kernel_s_own_limits_are_waited_out(model: str, number: int) -> None:
    wrapper = injecting("accept4", f"error={errno.errorcode[number]}:when=1")
    with served(f"{APP}:lines", "--model", model, wrapper=wrapper) as server:
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert os.strerror(number) in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO], ids=errno.errorcode.get)
def test_a_connection_that_broke_before_it_was_accepted_is_no_reason_to_wait(
    model: str, number: int
) -> None:
    """Errors of the network that accept(2) passes on; they are that connection's own."""
    wrapper = injecting("accept4", f"error={errno.errorcode[number]}:when=1")
    with served(f"{APP}:lines", "--model", model, wrapper=wrapper) as server:
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "ERROR" not in server.log


@pytest.mark.parametrize("model", ["process", "thread"])
def test_no_process_or_thread_can_be_started_for_a_client(model: str) -> None:
    with served(f"{APP}:lines", "--model", model, wrapper=unprivileged()) as server:
        with server.connect() as earlier:
            assert ask(earlier, b"hello\n") == b"hello\n"
            allowed = allow_processes(server.pid, "1")
            with server.connect() as refused:
                assert everything(refused) == b""
            server.wait_until_logged("cannot serve a connection, closing it")
            assert ask(earlier, b"again\n") == b"again\n"
            allow_processes(server.pid, allowed)
            with server.connect() as later:
                assert ask(later, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_pool_that_cannot_have_its_threads_does_not_start() -> None:
    refused = neverblock(
        *("serve", f"{APP}:lines", "--model", "pool", "--bind", "tcp://127.0.0.1:0"),
        wrapper=(*unprivileged(), tool("prlimit"), "--nproc=10:10"),
    )
    assert refused.returncode == 2
    assert "pool_size" in refused.stderr.replace("-", "_")
    assert len(refused.stderr.splitlines()) == 1, refused.stderr


def test_workers_that_cannot_be_forked_are_refused_in_one_line() -> None:
    refused = neverblock(
        *("serve", f"{APP}:lines", "--workers", "4", "--bind", "tcp://127.0.0.1:0"),
        wrapper=(*unprivileged(), tool("prlimit"), "--nproc=3:3"),
    )
    assert refused.returncode == 2
    assert "--workers: cannot start number 3: " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1, refused.stderr


def test_a_worker_that_cannot_be_forked_is_tried_again() -> None:
    with served(f"{APP}:lines", "--workers", "2", wrapper=unprivileged()) as server:
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
            allowed = allow_processes(server.pid, "1")
            for worker in children(server.pid):
                os.kill(worker, signal.SIGKILL)
            server.wait_until_logged("cannot start worker")
            with server.connect() as later:
                allow_processes(server.pid, allowed)
                assert ask(later, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_without_pidfd_a_signal_tells_that_a_worker_ended() -> None:
    """Before Linux 5.3, elsewhere, or out of descriptors (pidfd_open(2))."""
    wrapper = injecting("pidfd_open", "error=ENOSYS")
    with served(f"{APP}:lines", "--workers", "2", wrapper=wrapper) as server:
        for _ in range(2):
            os.kill(children(server.pid)[0], signal.SIGKILL)
            server.wait_until_logged("died by SIGKILL; another starts")
            server.log = ""
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "Traceback" not in server.log


def allow_processes(pid: int, soft: str) -> str:
    """Let the user of a server have so many processes and threads; how many it could before."""
    command = (*unprivileged(), tool("prlimit"), f"--pid={pid}")
    before = subprocess.run(
        [*command, "--nproc", "--output=SOFT", "--noheadings", "--raw"],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run([*command, f"--nproc={soft}:"], check=True)
    return before.stdout.strip()


def unprivileged() -> tuple[str, ...]:
    """Before a command: runs it as a user to whom limits apply, with this one's files."""
    if os.geteuid() != 0:
        return ()
    return tried(
        *(tool("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"),
    )


def injecting(call: str, what: str) -> tuple[str, ...]:
    """Before a command: a system call of its first thread comes to another end (strace(1))."""
    return tried(
        *(tool("strace"), "--daemonize", "--quiet=all", "--output=/dev/null"),
        *(f"--trace={call}", f"--inject={call}:{what}"),
    )
