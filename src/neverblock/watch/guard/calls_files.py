"""Blocking calls: files, directories, and descriptors of any kind."""

from typing import Final

from neverblock.watch.guard import waits
from neverblock.watch.guard.call import LOOP, Call, each, rows

IN_THREAD: Final = "await asyncio.to_thread({}, …)"
AROUND: Final = "await asyncio.to_thread(…) around all that is done with the file"
TRANSPORT: Final = (
    "loop.connect_read_pipe/connect_write_pipe for pipes, asyncio.to_thread for files"
)
DATA: Final = (
    "one function that connects, executes and closes, run by asyncio.to_thread, or an executor "
    "with max_workers=1: a connection belongs to its thread"
)

READ: Final = "RandomAccessFile.read0/readBytes, FileInputStream.read0/readBytes"
WRITE: Final = "RandomAccessFile.write0/writeBytes, FileOutputStream.write/writeBytes"

CALLS: Final = rows(
    Call("open", "event", "open", IN_THREAD.format("open"), waits.opening),
    Call(
        "os.open",
        *("event", "open"),
        IN_THREAD.format("os.open"),
        waits.opening,
        meant=waits.without_mode,
    ),
    # Files that are open.
    each(
        "io.FileIO.read io.FileIO.readall io.FileIO.readinto",
        *("entry", "_io:FileIO.{}", AROUND, waits.reading, READ),
    ),
    each(
        "io.BufferedReader.read io.BufferedReader.read1 io.BufferedReader.readinto "
        "io.BufferedReader.readinto1 io.BufferedReader.readline io.BufferedReader.peek",
        *("entry", "_io:BufferedReader.{}", AROUND, waits.reading, READ),
    ),
    each(
        "io.BufferedRandom.read io.BufferedRandom.read1 io.BufferedRandom.readinto "
        "io.BufferedRandom.readinto1 io.BufferedRandom.readline io.BufferedRandom.peek",
        *("entry", "_io:BufferedRandom.{}", AROUND, waits.reading, READ),
    ),
    each(
        "io.TextIOWrapper.read io.TextIOWrapper.readline",
        *("entry", "_io:TextIOWrapper.{}", AROUND, waits.reading, READ),
    ),
    Call(
        "io.TextIOWrapper.__next__",
        *("next", "_io:TextIOWrapper", AROUND, waits.reading, READ),
    ),
    each(
        "io.FileIO.write io.FileIO.truncate",
        *("entry", "_io:FileIO.{}", AROUND, waits.writing, WRITE),
    ),
    Call(
        "io.BufferedWriter.write",
        *("entry", "_io:BufferedWriter.write", AROUND, waits.writing, WRITE),
    ),
    Call(
        "io.BufferedRandom.write",
        *("entry", "_io:BufferedRandom.write", AROUND, waits.writing, WRITE),
    ),
    Call(
        "io.TextIOWrapper.write",
        *("entry", "_io:TextIOWrapper.write", AROUND, waits.writing, WRITE),
    ),
    each("io.FileIO.close", "shield", "_io:FileIO.{}", ""),
    each("io.BufferedReader.close", "shield", "_io:BufferedReader.{}", ""),
    each("io.BufferedWriter.close io.BufferedWriter.flush", "shield", "_io:BufferedWriter.{}", ""),
    each("io.BufferedRandom.close io.BufferedRandom.flush", "shield", "_io:BufferedRandom.{}", ""),
    each("io.TextIOWrapper.close io.TextIOWrapper.flush", "shield", "_io:TextIOWrapper.{}", ""),
    # Descriptors.
    each(
        "os.read os.readv os.pread os.preadv os.eventfd_read",
        *("entry", "posix:{}", TRANSPORT, waits.descriptor("fd"), READ),
    ),
    each(
        "os.write os.writev os.pwrite os.pwritev",
        *("entry", "posix:{}", TRANSPORT, waits.descriptor("fd"), WRITE),
    ),
    Call(
        "os.sendfile",
        *("entry", "posix:sendfile", "await loop.sendfile(…)"),
        waits.descriptor("out_fd"),
        WRITE,
    ),
    each(
        "os.copy_file_range os.splice",
        *("entry", "posix:{}", IN_THREAD, waits.descriptor("src"), WRITE),
    ),
    each("os.fsync os.fdatasync os.sync os.posix_fallocate", "entry", "posix:{}", IN_THREAD),
    Call("mmap.mmap.flush", "entry", "mmap:mmap.flush", "await asyncio.to_thread(map.flush)"),
    Call("os.truncate", "event", "os.truncate", IN_THREAD.format("os.truncate")),
    Call(
        "os.ftruncate",
        *("event", "os.truncate"),
        IN_THREAD.format("os.ftruncate"),
        meant=waits.of_descriptor,
    ),
    # What is in a directory, and what is known of it.
    each(
        "os.stat os.lstat os.statvfs os.fstatvfs os.access os.readlink os.getcwd os.getcwdb "
        "os.mkfifo os.mknod",
        *("entry", "posix:{}", IN_THREAD),
    ),
    Call("os.fstat", "entry", "posix:fstat", IN_THREAD.format("os.fstat"), waits.file_status),
    each(
        "os.listdir os.rename os.remove os.mkdir os.rmdir os.link os.symlink os.utime "
        "os.chmod os.chown os.getxattr os.setxattr os.listxattr os.removexattr",
        *("event", "os.{}", IN_THREAD),
    ),
    each("os.replace", "event", "os.rename", IN_THREAD),
    each("os.unlink", "event", "os.remove", IN_THREAD),
    Call(
        "os.fchmod",
        *("event", "os.chmod"),
        IN_THREAD.format("os.fchmod"),
        meant=waits.of_descriptor,
    ),
    each("os.lchmod", "event", "os.chmod", IN_THREAD),
    Call(
        "os.fchown",
        *("event", "os.chown"),
        IN_THREAD.format("os.fchown"),
        meant=waits.of_descriptor,
    ),
    each("os.lchown", "event", "os.chown", IN_THREAD),
    Call("os.scandir", "event", "os.scandir", LOOP),
    Call("os.scandir.__next__", "next", "posix:ScandirIterator", LOOP),
    Call(
        "os.path.abspath",
        *("body", "posixpath:abspath"),
        "paths that are absolute from the start",
        waits.of_relative_path,
    ),
    each(
        "os.path.exists os.path.isfile os.path.isdir os.path.getsize os.path.getmtime "
        "os.path.samefile os.makedirs os.removedirs os.path.islink os.path.ismount "
        "os.path.realpath os.path.sameopenfile",
        *("through", "os.stat", IN_THREAD),
    ),
    each("os.walk os.fwalk", "through", "os.scandir", LOOP),
    each(
        "pathlib.Path.read_text pathlib.Path.read_bytes pathlib.Path.write_text "
        "pathlib.Path.write_bytes pathlib.Path.open",
        *("through", "open", IN_THREAD),
    ),
    each(
        "pathlib.Path.exists pathlib.Path.stat pathlib.Path.is_file pathlib.Path.is_dir "
        "pathlib.Path.mkdir pathlib.Path.unlink pathlib.Path.rename",
        *("through", "os.stat", IN_THREAD),
    ),
    each(
        "pathlib.Path.iterdir pathlib.Path.glob pathlib.Path.rglob",
        *("through", "os.scandir", LOOP),
    ),
    each(
        "shutil.copyfile shutil.copy shutil.copytree shutil.move shutil.rmtree glob.glob "
        "tempfile.NamedTemporaryFile tempfile.TemporaryFile tempfile.mkdtemp tempfile.mkstemp "
        "zipfile.ZipFile tarfile.open gzip.open json.load pickle.load",
        *("through", "open", IN_THREAD),
    ),
    # Locks on files.
    Call("fcntl.flock", "event", "fcntl.flock", "fcntl.LOCK_NB, or in a thread", waits.locking),
    Call("fcntl.lockf", "event", "fcntl.lockf", "fcntl.LOCK_NB, or in a thread", waits.locking),
    Call("fcntl.fcntl", "event", "fcntl.fcntl", "F_SETLK for F_SETLKW", waits.locking_record),
    Call("os.lockf", "event", "os.lockf", "os.F_TLOCK, or in a thread", waits.locking_file),
    # Data bases.
    Call("sqlite3.connect", "event", "sqlite3.connect", DATA),
    each(
        "sqlite3.Cursor.execute sqlite3.Cursor.executemany sqlite3.Cursor.executescript "
        "sqlite3.Cursor.fetchone sqlite3.Cursor.fetchmany sqlite3.Cursor.fetchall",
        *("entry", "_sqlite3:Cursor.{}", DATA),
    ),
    each(
        "sqlite3.Connection.execute sqlite3.Connection.executemany "
        "sqlite3.Connection.executescript sqlite3.Connection.commit sqlite3.Connection.rollback "
        "sqlite3.Connection.backup sqlite3.Connection.__exit__",
        *("entry", "_sqlite3:Connection.{}", DATA),
    ),
    Call("sqlite3.Cursor.__next__", "next", "_sqlite3:Cursor", DATA),
)
