"""A way to make each blocking call that the guard knows, for real.

Each is a function of a Stage that makes ready what the call needs, outside of the loop, and
returns what is then called in it.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import ftplib
import gc
import getpass
import glob
import gzip
import http.client
import imaplib
import json
import mmap
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import pathlib
import pickle
import poplib
import queue
import select
import selectors
import shutil
import signal
import smtplib
import socket
import socketserver
import sqlite3
import ssl
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

Call: TypeAlias = Callable[[], object]


class Stage:
    """Files, sockets and locks, made when they are first asked for."""

    def __init__(self, directory: Path, left: ExitStack) -> None:
        self.directory = directory
        self.left = left
        self.file = directory / "file"
        self.file.write_bytes(b"some\nlines\n")

    def opened(self, mode: str, **options: Any) -> Any:
        return self.left.enter_context(open(self.file, mode, **options))

    @cached_property
    def descriptor(self) -> int:
        return int(self.opened("r+b").fileno())

    @cached_property
    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self.left.callback(os.close, end)
        return ends

    @cached_property
    def sock(self) -> socket.socket:
        """One end of a pair, which blocks."""
        ends = socket.socketpair()
        for end in ends:
            self.left.enter_context(end)
        return ends[0]

    @cached_property
    def listening(self) -> socket.socket:
        return self.left.enter_context(socket.create_server(("127.0.0.1", 0)))

    @cached_property
    def tcp(self) -> socket.socket:
        return self.left.enter_context(socket.socket())

    @cached_property
    def udp(self) -> socket.socket:
        return self.left.enter_context(socket.socket(type=socket.SOCK_DGRAM))

    @cached_property
    def tls(self) -> ssl.SSLSocket:
        """A client whose handshake is not done, over a socket that blocks."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client = self.left.enter_context(socket.create_connection(self.address))
        return self.left.enter_context(context.wrap_socket(client, do_handshake_on_connect=False))

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.listening.getsockname()[1])

    @cached_property
    def data(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.directory / "data")
        self.left.callback(connection.close)
        connection.execute("create table numbers(number)")
        connection.executemany("insert into numbers values (?)", [(1,), (2,), (3,)])
        connection.commit()
        return connection

    @cached_property
    def rows(self) -> sqlite3.Cursor:
        rows = self.data.execute("select * from numbers")
        self.left.callback(rows.close)
        return rows

    @cached_property
    def held(self) -> threading.Lock:
        lock = threading.Lock()
        lock.acquire()
        return lock

    @cached_property
    def held_elsewhere(self) -> threading.RLock:
        lock, held, end = threading.RLock(), threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                held.set()
                end.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        self.left.callback(thread.join)
        self.left.callback(end.set)
        return lock

    @cached_property
    def thread(self) -> threading.Thread:
        end = threading.Event()
        thread = threading.Thread(target=end.wait)
        thread.start()
        self.left.callback(thread.join)
        self.left.callback(end.set)
        return thread

    @cached_property
    def executor(self) -> concurrent.futures.ThreadPoolExecutor:
        end = threading.Event()
        executor = concurrent.futures.ThreadPoolExecutor(1)
        executor.submit(end.wait)
        self.left.enter_context(executor)
        self.left.callback(end.set)
        return executor

    @cached_property
    def child(self) -> subprocess.Popen[bytes]:
        """A program that runs for as long as its input is open."""
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.left.enter_context(child)
        return child

    @cached_property
    def process(self) -> multiprocessing.process.BaseProcess:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=time.sleep, args=(60,), daemon=True)
        process.start()
        self.left.callback(process.join)
        self.left.callback(process.kill)
        return process

    @cached_property
    def connection(self) -> Any:
        ours, theirs = multiprocessing.Pipe()
        self.left.callback(theirs.close)
        self.left.callback(ours.close)
        return ours

    @cached_property
    def semaphore(self) -> Any:
        self.left.callback(stop_tracker)
        return multiprocessing.get_context("spawn").Semaphore(0)

    @cached_property
    def pool(self) -> Any:
        from multiprocessing.pool import ThreadPool

        end = threading.Event()
        pool = ThreadPool(1)
        # Its locks are known to the resource tracker, where processes are not forked (3.14).
        self.left.callback(stop_tracker)
        self.left.callback(gc.collect)
        self.left.callback(self.__dict__.pop, "pool", None)
        self.left.callback(pool.join)
        self.left.callback(pool.close)
        self.left.callback(end.set)
        pool.apply_async(end.wait)
        return pool


def handle(thread: threading.Thread) -> Any:
    return getattr(thread, "_os_thread_handle" if sys.version_info >= (3, 14) else "_handle")


def stop_tracker() -> None:
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def epoll(stage: Stage) -> Any:
    return stage.left.enter_context(select.epoll())


def selector(stage: Stage) -> Any:
    chosen = stage.left.enter_context(selectors.DefaultSelector())
    chosen.register(stage.sock, selectors.EVENT_READ)
    return chosen


def mapped(stage: Stage) -> mmap.mmap:
    return stage.left.enter_context(mmap.mmap(stage.descriptor, 0))


def full(stage: Stage) -> queue.Queue[int]:
    some: queue.Queue[int] = queue.Queue(1)
    some.put(1)
    return some


def archive(stage: Stage) -> Path:
    path = stage.directory / "archive.zip"
    zipfile.ZipFile(path, "w").close()
    return path


def with_connection(connection: sqlite3.Connection) -> None:
    with connection:
        pass


def serving(stage: Stage) -> socketserver.TCPServer:
    return stage.left.enter_context(
        socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    )


def waiting(stage: Stage, name: str) -> Call:
    """concurrent.futures.wait and as_completed, for a future that will never be done."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    if name == "wait":
        return lambda: concurrent.futures.wait([future])
    return lambda: list(concurrent.futures.as_completed([future]))


def locked_record(stage: Stage) -> Call:
    lock = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
    descriptor = stage.descriptor
    return lambda: fcntl.fcntl(descriptor, fcntl.F_SETLKW, lock)


def condition(stage: Stage, name: str) -> Call:
    some = threading.Condition()

    def wait() -> None:
        with some:
            if name == "wait":
                some.wait()
            else:
                some.wait_for(lambda: False)

    return wait


def never() -> concurrent.futures.Future[None]:
    return concurrent.futures.Future()


def child_ended(stage: Stage) -> int:
    return stage.child.pid


FILE_METHODS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("read", "read1", "readall", "readline", "peek"), ()),
    **dict.fromkeys(("readinto", "readinto1"), (bytearray(4),)),
    "truncate": (4,),
}
FILES = {
    "FileIO": partial(Stage.opened, mode="r+b", buffering=0),
    "BufferedReader": partial(Stage.opened, mode="rb"),
    "BufferedWriter": partial(Stage.opened, mode="wb"),
    "BufferedRandom": partial(Stage.opened, mode="r+b"),
    "TextIOWrapper": partial(Stage.opened, mode="r+", encoding="utf-8"),
}


def of_file(name: str) -> Callable[[Stage], Call]:
    _, kind, method = name.split(".")
    arguments = FILE_METHODS.get(method, ("x" if kind == "TextIOWrapper" else b"x",))
    if method == "__next__":
        return lambda stage: partial(next, FILES[kind](stage))
    return lambda stage: partial(getattr(FILES[kind](stage), method), *arguments)


def of_descriptor(function: str, *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(getattr(os, function), stage.descriptor, *arguments)


def of_path(function: Callable[..., Any], *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(function, stage.file, *arguments)


def other(function: Callable[..., Any]) -> Callable[[Stage], Call]:
    """Of a path and another one."""
    return lambda stage: partial(function, stage.file, stage.directory / "other")


def of_socket(method: str, *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(getattr(stage.sock, method), *arguments)


def of_tls(method: str, *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(getattr(stage.tls, method), *arguments)


def cursor(method: str, *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(getattr(stage.rows, method), *arguments)


def connection(method: str, *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(getattr(stage.data, method), *arguments)


def just(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(function, *arguments, **named)


def path_of(method: str, *arguments: Any) -> Callable[[Stage], Call]:
    return lambda stage: partial(getattr(pathlib.Path(stage.file), method), *arguments)


SQL = "insert into numbers values (?)"
TRUE = [sys.executable, "-S", "-c", ""]

WAYS: dict[str, Callable[[Stage], Call]] = {
    # Time, threads
    "time.sleep": just(time.sleep, 0.01),
    "os.sched_yield": lambda stage: os.sched_yield,
    "threading.Lock.acquire": lambda stage: stage.held.acquire,
    "threading.Lock.acquire_lock": lambda stage: stage.held.acquire_lock,  # type: ignore[attr-defined]
    "threading.Lock.__enter__": lambda stage: stage.held.__enter__,
    "threading.RLock.acquire": lambda stage: stage.held_elsewhere.acquire,
    "threading.RLock.__enter__": lambda stage: stage.held_elsewhere.__enter__,
    "threading._ThreadHandle.join": lambda stage: handle(stage.thread).join,
    "queue.SimpleQueue.get": lambda stage: queue.SimpleQueue().get,
    "threading.Thread.join": lambda stage: stage.thread.join,
    "threading.Event.wait": lambda stage: threading.Event().wait,
    "threading.Barrier.wait": lambda stage: threading.Barrier(2).wait,
    "threading.Condition.wait": lambda stage: condition(stage, "wait"),
    "threading.Condition.wait_for": lambda stage: condition(stage, "wait_for"),
    "threading.Semaphore.acquire": lambda stage: threading.Semaphore(0).acquire,
    "queue.Queue.get": lambda stage: queue.Queue().get,
    "queue.Queue.put": lambda stage: partial(full(stage).put, 2),
    "queue.Queue.join": lambda stage: full(stage).join,
    "concurrent.futures.Future.result": lambda stage: never().result,
    "concurrent.futures.Future.exception": lambda stage: never().exception,
    "concurrent.futures.wait": lambda stage: waiting(stage, "wait"),
    "concurrent.futures.as_completed": lambda stage: waiting(stage, "as_completed"),
    "concurrent.futures.ThreadPoolExecutor.shutdown": lambda stage: stage.executor.shutdown,
    # Processes
    "os.system": just(os.system, "true"),
    "subprocess.Popen": just(subprocess.Popen, TRUE),
    "os.posix_spawn": just(os.posix_spawn, TRUE[0], TRUE, os.environ),
    "os.posix_spawnp": just(os.posix_spawnp, TRUE[0], TRUE, os.environ),
    **{
        f"subprocess.{name}": just(getattr(subprocess, name), TRUE)
        for name in ("run", "call", "check_call", "check_output")
    },
    "subprocess.getoutput": just(subprocess.getoutput, "true"),
    "subprocess.getstatusoutput": just(subprocess.getstatusoutput, "true"),
    "os.popen": just(os.popen, "true"),
    "subprocess.Popen.wait": lambda stage: stage.child.wait,
    "subprocess.Popen.communicate": lambda stage: stage.child.communicate,
    "os.waitpid": lambda stage: partial(os.waitpid, stage.child.pid, 0),
    "os.wait": lambda stage: (stage.child, os.wait)[1],
    "os.wait3": lambda stage: (stage.child, partial(os.wait3, 0))[1],
    "os.wait4": lambda stage: partial(os.wait4, stage.child.pid, 0),
    "os.waitid": lambda stage: partial(os.waitid, os.P_PID, stage.child.pid, os.WEXITED),
    "multiprocessing.SemLock.acquire": lambda stage: stage.semaphore.acquire,
    "multiprocessing.SemLock.__enter__": lambda stage: stage.semaphore.__enter__,
    "multiprocessing.Process.join": lambda stage: stage.process.join,
    "multiprocessing.Connection.recv": lambda stage: stage.connection.recv,
    "multiprocessing.Connection.recv_bytes": lambda stage: stage.connection.recv_bytes,
    "multiprocessing.Connection.poll": lambda stage: partial(stage.connection.poll, 1),
    "multiprocessing.connection.wait": lambda stage: partial(
        multiprocessing.connection.wait, [stage.connection]
    ),
    "multiprocessing.Pool.map": lambda stage: partial(stage.pool.map, str, [1]),
    "multiprocessing.Pool.apply": lambda stage: partial(stage.pool.apply, str, [1]),
    "multiprocessing.pool.AsyncResult.get": lambda stage: stage.pool.apply_async(str).get,
    # Signals, a person
    "signal.sigwait": just(signal.sigwait, [signal.SIGUSR2]),
    "signal.sigwaitinfo": just(signal.sigwaitinfo, [signal.SIGUSR2]),
    "signal.sigtimedwait": just(signal.sigtimedwait, [signal.SIGUSR2], 1),
    "signal.pause": lambda stage: signal.pause,
    "input": lambda stage: input,
    "getpass.getpass": lambda stage: getpass.getpass,
    # Files
    "open": of_path(open),
    "os.open": of_path(os.open, os.O_RDONLY),
    **{
        f"io.{kind}.{method}": of_file(f"io.{kind}.{method}")
        for kind, methods in {
            "FileIO": "read readall readinto write truncate",
            "BufferedReader": "read read1 readinto readinto1 readline peek",
            "BufferedRandom": "read read1 readinto readinto1 readline peek write",
            "BufferedWriter": "write",
            "TextIOWrapper": "read readline write __next__",
        }.items()
        for method in methods.split()
    },
    "os.read": lambda stage: partial(os.read, stage.pipe[0], 1),
    "os.readv": of_descriptor("readv", [bytearray(4)]),
    "os.pread": of_descriptor("pread", 4, 0),
    "os.preadv": of_descriptor("preadv", [bytearray(4)], 0),
    "os.write": lambda stage: partial(os.write, stage.pipe[1], b"x"),
    "os.writev": of_descriptor("writev", [b"x"]),
    "os.pwrite": of_descriptor("pwrite", b"x", 0),
    "os.pwritev": of_descriptor("pwritev", [b"x"], 0),
    "os.sendfile": lambda stage: partial(os.sendfile, stage.sock.fileno(), stage.descriptor, 0, 4),
    "os.copy_file_range": lambda stage: partial(
        os.copy_file_range, stage.descriptor, stage.pipe[1], 4
    ),
    "os.fsync": of_descriptor("fsync"),
    "os.fdatasync": of_descriptor("fdatasync"),
    "os.sync": lambda stage: os.sync,
    "os.posix_fallocate": of_descriptor("posix_fallocate", 0, 10),
    "mmap.mmap.flush": lambda stage: mapped(stage).flush,
    "os.truncate": of_path(os.truncate, 0),
    "os.ftruncate": of_descriptor("ftruncate", 0),
    "os.fstat": of_descriptor("fstat"),
    **{
        f"os.{name}": of_path(getattr(os, name))
        for name in ("stat", "lstat", "statvfs", "readlink", "remove", "unlink", "rmdir", "utime")
    },
    "os.fstatvfs": of_descriptor("fstatvfs"),
    "os.access": of_path(os.access, os.R_OK),
    "os.getcwd": lambda stage: os.getcwd,
    "os.getcwdb": lambda stage: os.getcwdb,
    "os.mkfifo": lambda stage: partial(os.mkfifo, stage.directory / "fifo"),
    "os.mknod": lambda stage: partial(os.mknod, stage.directory / "node"),
    "os.mkdir": lambda stage: partial(os.mkdir, stage.directory / "new"),
    "os.listdir": lambda stage: partial(os.listdir, stage.directory),
    "os.scandir": lambda stage: partial(os.scandir, stage.directory),
    "os.scandir.__next__": lambda stage: partial(
        next, stage.left.enter_context(os.scandir(stage.directory))
    ),
    **{f"os.{name}": other(getattr(os, name)) for name in ("rename", "replace", "link", "symlink")},
    "os.chmod": of_path(os.chmod, 0o600),
    "os.fchmod": of_descriptor("fchmod", 0o600),
    "os.chown": of_path(os.chown, -1, -1),
    "os.lchown": of_path(os.lchown, -1, -1),
    "os.fchown": of_descriptor("fchown", -1, -1),
    "os.path.abspath": just(os.path.abspath, "file"),
    **{
        f"os.path.{name}": of_path(getattr(os.path, name))
        for name in [
            "exists",
            "isfile",
            "isdir",
            "getsize",
            "getmtime",
            "islink",
            "ismount",
            "realpath",
        ]
    },
    "os.path.samefile": other(os.path.samefile),
    "os.path.sameopenfile": lambda stage: partial(
        os.path.sameopenfile, stage.descriptor, stage.descriptor
    ),
    "os.walk": lambda stage: lambda: list(os.walk(stage.directory)),
    "os.fwalk": lambda stage: lambda: list(os.fwalk(stage.directory)),
    "os.makedirs": lambda stage: partial(os.makedirs, stage.directory / "new" / "newer"),
    "os.removedirs": lambda stage: partial(os.removedirs, stage.directory / "new"),
    "pathlib.Path.read_text": path_of("read_text"),
    "pathlib.Path.read_bytes": path_of("read_bytes"),
    "pathlib.Path.write_text": path_of("write_text", "x"),
    "pathlib.Path.write_bytes": path_of("write_bytes", b"x"),
    **{
        f"pathlib.Path.{name}": path_of(name)
        for name in ["open", "exists", "stat", "is_file", "is_dir", "mkdir", "unlink"]
    },
    "pathlib.Path.rename": path_of("rename", "other"),
    "pathlib.Path.iterdir": lambda stage: lambda: list(stage.directory.iterdir()),
    "pathlib.Path.glob": lambda stage: lambda: list(stage.directory.glob("*")),
    "pathlib.Path.rglob": lambda stage: lambda: list(stage.directory.rglob("*")),
    "shutil.copyfile": other(shutil.copyfile),
    "shutil.copy": other(shutil.copy),
    "shutil.move": other(shutil.move),
    "shutil.copytree": lambda stage: partial(
        shutil.copytree, stage.directory, stage.directory / "copy"
    ),
    "shutil.rmtree": lambda stage: partial(shutil.rmtree, stage.directory),
    "glob.glob": lambda stage: partial(glob.glob, f"{stage.directory}/*"),
    "tempfile.NamedTemporaryFile": lambda stage: partial(
        tempfile.NamedTemporaryFile, dir=stage.directory
    ),
    "tempfile.TemporaryFile": lambda stage: partial(tempfile.TemporaryFile, dir=stage.directory),
    "tempfile.mkdtemp": lambda stage: partial(tempfile.mkdtemp, dir=stage.directory),
    "tempfile.mkstemp": lambda stage: partial(tempfile.mkstemp, dir=stage.directory),
    "zipfile.ZipFile": lambda stage: partial(zipfile.ZipFile, archive(stage)),
    "tarfile.open": of_path(tarfile.open),
    "gzip.open": of_path(gzip.open),
    "json.load": lambda stage: partial(json.load, stage.opened("r")),
    "pickle.load": lambda stage: partial(pickle.load, stage.opened("rb")),
    "fcntl.flock": lambda stage: partial(fcntl.flock, stage.descriptor, fcntl.LOCK_EX),
    "fcntl.lockf": lambda stage: partial(fcntl.lockf, stage.descriptor, fcntl.LOCK_EX),
    "fcntl.fcntl": locked_record,
    "os.lockf": of_descriptor("lockf", os.F_LOCK, 0),
    # Data bases
    "sqlite3.connect": just(sqlite3.connect, ":memory:"),
    "sqlite3.Cursor.execute": cursor("execute", "select 1"),
    "sqlite3.Cursor.executemany": cursor("executemany", SQL, [(1,)]),
    "sqlite3.Cursor.executescript": cursor("executescript", "select 1"),
    "sqlite3.Cursor.fetchone": cursor("fetchone"),
    "sqlite3.Cursor.fetchmany": cursor("fetchmany"),
    "sqlite3.Cursor.fetchall": cursor("fetchall"),
    "sqlite3.Cursor.__next__": lambda stage: partial(next, stage.rows),
    "sqlite3.Connection.execute": connection("execute", "select 1"),
    "sqlite3.Connection.executemany": connection("executemany", SQL, [(1,)]),
    "sqlite3.Connection.executescript": connection("executescript", "select 1"),
    "sqlite3.Connection.commit": connection("commit"),
    "sqlite3.Connection.rollback": connection("rollback"),
    "sqlite3.Connection.backup": lambda stage: partial(stage.data.backup, stage.data),
    "sqlite3.Connection.__exit__": lambda stage: partial(with_connection, stage.data),
    # Sockets
    "socket.socket.connect": lambda stage: partial(stage.tcp.connect, stage.address),
    "socket.socket.connect_ex": lambda stage: partial(stage.tcp.connect_ex, stage.address),
    "socket.socket.accept": lambda stage: stage.listening.accept,
    "socket.socket.recv": of_socket("recv", 1),
    "socket.socket.recv_into": of_socket("recv_into", bytearray(1)),
    "socket.socket.recvfrom": of_socket("recvfrom", 1),
    "socket.socket.recvfrom_into": of_socket("recvfrom_into", bytearray(1)),
    "socket.socket.recvmsg": of_socket("recvmsg", 1),
    "socket.socket.recvmsg_into": of_socket("recvmsg_into", [bytearray(1)]),
    "socket.socket.send": of_socket("send", b"x"),
    "socket.socket.sendall": of_socket("sendall", b"x"),
    "socket.socket.sendmsg": of_socket("sendmsg", [b"x"]),
    "socket.socket.sendto": lambda stage: partial(stage.udp.sendto, b"x", ("127.0.0.1", 9)),
    "socket.socket.sendfile": lambda stage: partial(stage.sock.sendfile, stage.opened("rb")),
    "socket.getaddrinfo": just(socket.getaddrinfo, "localhost", 80),
    "socket.gethostbyname": just(socket.gethostbyname, "localhost"),
    "socket.gethostbyname_ex": just(socket.gethostbyname_ex, "localhost"),
    "socket.gethostbyaddr": just(socket.gethostbyaddr, "127.0.0.1"),
    "socket.getfqdn": just(socket.getfqdn, "localhost"),
    "socket.getnameinfo": just(socket.getnameinfo, ("127.0.0.1", 80), 0),
    "socket.create_connection": lambda stage: partial(socket.create_connection, stage.address),
    "http.client.HTTPConnection.request": lambda stage: partial(
        http.client.HTTPConnection(*stage.address).request, "GET", "/"
    ),
    "http.client.HTTPConnection.connect": lambda stage: (
        http.client.HTTPConnection(*stage.address).connect
    ),
    "urllib.request.urlopen": lambda stage: partial(
        urllib.request.urlopen, f"http://127.0.0.1:{stage.address[1]}/"
    ),
    "smtplib.SMTP.connect": lambda stage: partial(
        smtplib.SMTP(local_hostname="x").connect, *stage.address
    ),
    "ftplib.FTP.connect": lambda stage: partial(ftplib.FTP().connect, *stage.address),
    "imaplib.IMAP4.open": lambda stage: partial(imaplib.IMAP4, *stage.address),
    "poplib.POP3": lambda stage: partial(poplib.POP3, *stage.address),
    "socketserver.BaseServer.serve_forever": lambda stage: serving(stage).serve_forever,
    # TLS
    "ssl.SSLSocket.read": of_tls("read", 1),
    "ssl.SSLSocket.write": of_tls("write", b"x"),
    "ssl.SSLSocket.do_handshake": of_tls("do_handshake"),
    "ssl.SSLSocket.unwrap": of_tls("unwrap"),
    "ssl.SSLSocket.recv": of_tls("recv", 1),
    "ssl.SSLSocket.recv_into": of_tls("recv_into", bytearray(1)),
    "ssl.SSLSocket.send": of_tls("send", b"x"),
    "ssl.SSLSocket.sendall": of_tls("sendall", b"x"),
    "ssl.get_server_certificate": lambda stage: partial(ssl.get_server_certificate, stage.address),
    # Waiting for descriptors
    "select.select": lambda stage: partial(select.select, [stage.sock], [], []),
    "select.poll.poll": lambda stage: select.poll().poll,
    "select.epoll.poll": lambda stage: epoll(stage).poll,
    "selectors.DefaultSelector.select": lambda stage: selector(stage).select,
}

#: Under the name that blockbuster has for it, where that is not ours.
ALSO = {"builtins.input": "input", "os.scandir": "os.scandir.__next__"}
