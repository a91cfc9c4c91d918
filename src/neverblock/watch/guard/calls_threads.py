"""Blocking calls: time, threads, processes, signals, a person at a keyboard."""

import os
from typing import Final

from neverblock.watch.guard import waits
from neverblock.watch.guard.call import NUMBER, Call, each, rows

SLEEP: Final = f"await asyncio.sleep({NUMBER})"
LOCK: Final = "asyncio.Lock between tasks; asyncio.to_thread around what waits for a thread"
QUEUE: Final = "asyncio.Queue; janus-like queues, or asyncio.to_thread, between threads"
EVENT: Final = "asyncio.Event, set from threads by loop.call_soon_threadsafe(event.set)"
CHILD: Final = "await process.wait() of asyncio.create_subprocess_exec(…)"
PROGRAM: Final = "await asyncio.create_subprocess_exec(…)"
SHELL: Final = "await asyncio.create_subprocess_shell(…)"
FUTURE: Final = "await asyncio.wrap_future(future): waiting for the own loop would never end"
IN_THREAD: Final = "await asyncio.to_thread(…)"

PARK: Final = "Unsafe.park"
FORK: Final = "ProcessImpl.forkAndExec"

CALLS: Final = rows(
    Call("time.sleep", "entry", "time:sleep", SLEEP, java="Thread.sleep"),
    Call(
        "os.sched_yield",
        "entry",
        "posix:sched_yield",
        "await asyncio.sleep(0)",
        java="Thread.yield",
    ),
    # Threads.
    each(
        "threading.Lock.acquire threading.Lock.acquire_lock threading.Lock.__enter__",
        *("lock", "_thread:LockType.{}", LOCK),
        java=PARK,
    ),
    each(
        "threading.RLock.acquire threading.RLock.__enter__",
        *("lock", "_thread:RLock.{}", LOCK),
        java=PARK,
    ),
    Call(
        "threading._ThreadHandle.join",
        "entry",
        "_thread:_ThreadHandle.join",
        IN_THREAD,
        waits.running,
    ),
    Call("queue.SimpleQueue.get", "entry", "_queue:SimpleQueue.get", QUEUE, waits.empty, PARK),
    each(
        "threading.Thread.join",
        "through",
        "threading.Lock.acquire",
        "await asyncio.to_thread(thread.join)",
        java=PARK,
    ),
    each(
        "threading.Event.wait threading.Barrier.wait",
        "through",
        "threading.Lock.acquire",
        EVENT,
        java="Object.wait",
    ),
    each(
        "threading.Condition.wait threading.Condition.wait_for",
        "through",
        "threading.Lock.acquire",
        "asyncio.Condition; asyncio.to_thread between threads",
        java="Object.wait",
    ),
    each(
        "threading.Semaphore.acquire",
        "through",
        "threading.Lock.acquire",
        "asyncio.Semaphore; asyncio.to_thread between threads",
        java=PARK,
    ),
    each(
        "queue.Queue.get queue.Queue.put queue.Queue.join",
        "through",
        "threading.Lock.acquire",
        QUEUE,
        java=PARK,
    ),
    each(
        "concurrent.futures.Future.result concurrent.futures.Future.exception "
        "concurrent.futures.wait concurrent.futures.as_completed",
        *("through", "threading.Lock.acquire", FUTURE),
        java=PARK,
    ),
    each(
        "concurrent.futures.Executor.shutdown concurrent.futures.ThreadPoolExecutor.shutdown "
        "concurrent.futures.ProcessPoolExecutor.shutdown",
        "through",
        "threading.Thread.join",
        "await asyncio.to_thread(executor.shutdown)",
        java=PARK,
    ),
    # Processes.
    Call("os.system", "event", "os.system", SHELL, java=FORK),
    Call("subprocess.Popen", "event", "subprocess.Popen", PROGRAM, java=FORK),
    each("os.posix_spawn os.posix_spawnp", "event", "os.posix_spawn", PROGRAM, java=FORK),
    each(
        "subprocess.run subprocess.call subprocess.check_call subprocess.check_output",
        "through",
        "subprocess.Popen",
        PROGRAM,
        java=FORK,
    ),
    each(
        "subprocess.getoutput subprocess.getstatusoutput os.popen",
        "through",
        "subprocess.Popen",
        SHELL,
        java=FORK,
    ),
    each("subprocess.Popen.wait subprocess.Popen.communicate", "through", "os.waitpid", CHILD),
    each("os.spawnv os.spawnl os.spawnlp os.spawnvp", "through", "os.waitpid", PROGRAM, java=FORK),
    Call("os.waitpid", "entry", "posix:waitpid", CHILD, waits.unless(os.WNOHANG, 1)),
    Call("os.wait", "entry", "posix:wait", CHILD),
    Call("os.wait3", "entry", "posix:wait3", CHILD, waits.unless(os.WNOHANG, 0)),
    Call("os.wait4", "entry", "posix:wait4", CHILD, waits.unless(os.WNOHANG, 1)),
    Call("os.waitid", "entry", "posix:waitid", CHILD, waits.unless(os.WNOHANG, 2)),
    each(
        "multiprocessing.SemLock.acquire multiprocessing.SemLock.__enter__",
        "lock",
        "_multiprocessing:SemLock.{}",
        IN_THREAD,
        java=PARK,
    ),
    each(
        "multiprocessing.Process.join",
        "through",
        "os.waitpid",
        "await asyncio.to_thread(process.join)",
    ),
    each(
        "multiprocessing.Queue.get multiprocessing.Connection.recv "
        "multiprocessing.Connection.recv_bytes",
        "through",
        "os.read",
        "await asyncio.to_thread(…), or loop.add_reader(connection.fileno(), …)",
    ),
    each(
        "multiprocessing.Connection.poll multiprocessing.connection.wait",
        "through",
        "select.poll.poll",
        "loop.add_reader(connection.fileno(), …)",
    ),
    each(
        "multiprocessing.Pool.map multiprocessing.pool.AsyncResult.get multiprocessing.Pool.apply",
        "through",
        "threading.Lock.acquire",
        "loop.run_in_executor(ProcessPoolExecutor(), …)",
        java=PARK,
    ),
    # Signals, and a person.
    each(
        "signal.sigwait signal.sigwaitinfo signal.pause",
        "entry",
        "_signal:{}",
        "loop.add_signal_handler(…)",
    ),
    Call(
        "signal.sigtimedwait",
        "entry",
        "_signal:sigtimedwait",
        "loop.add_signal_handler(…)",
        waits.for_signal,
    ),
    Call(
        "input",
        "event",
        "builtins.input",
        "await asyncio.to_thread(input)",
        java="FileInputStream.readBytes",
    ),
    each("getpass.getpass", "through", "open", "await asyncio.to_thread(getpass.getpass)"),
)
