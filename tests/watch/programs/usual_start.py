"""What programs do to start, to serve and to end: none of it is refused by a strict loop.

Arguments: a directory for files; the loop, neverblock, asyncio or uvloop. Prints "well" for each
run.
"""

import asyncio
import concurrent.futures
import logging
import logging.handlers
import signal
import ssl
import sys
import time
import traceback
import warnings
from pathlib import Path

PLACE = Path(sys.argv[1])
PATH = str(PLACE / "socket")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()


async def asked(server: asyncio.AbstractServer) -> None:
    """A server, asked once and closed."""
    address = server.sockets[0].getsockname()  # type: ignore[attr-defined]
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        reader, writer = await asyncio.open_connection("localhost", address[1])
    writer.write(b"x\n")
    assert await reader.readline() == b"x\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def log() -> None:
    handlers = [
        logging.StreamHandler(),
        logging.FileHandler(PLACE / "log", delay=True),
        logging.handlers.RotatingFileHandler(PLACE / "more", maxBytes=100, backupCount=2),
    ]
    logging.basicConfig(handlers=handlers)
    for number in range(20):
        logging.getLogger("usual").warning("some text %d", number)
    warnings.warn("a warning", stacklevel=1)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        traceback.print_exc()


async def start_programs() -> None:
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe, stderr=nowhere)
    assert (await process.communicate(b"x"))[0] == b"x"
    shell = await asyncio.create_subprocess_shell("exit 3")
    assert await shell.wait() == 3
    loop = asyncio.get_running_loop()
    transport, _ = await loop.subprocess_exec(
        asyncio.SubprocessProtocol, "true", stdin=nowhere, stdout=nowhere, stderr=nowhere
    )
    while transport.get_returncode() is None:
        await asyncio.sleep(0.01)
    transport.close()


async def start_servers() -> None:
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve)

    await asked(await asyncio.start_server(serve, "localhost", 0))
    await asked(await asyncio.start_unix_server(serve, PATH))
    await asked(await asyncio.start_unix_server(serve, PATH))
    await asked(await loop.create_unix_server(protocol, PATH))
    await asked(await asyncio.create_task(loop.create_unix_server(protocol, PATH)))


async def use_threads() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(time.sleep, 0.001)
    await loop.run_in_executor(None, time.sleep, 0.001)
    with concurrent.futures.ThreadPoolExecutor() as executor:
        await loop.run_in_executor(executor, time.sleep, 0.001)
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.001) for _ in range(50)))


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, print)
    loop.remove_signal_handler(signal.SIGTERM)
    await log()
    await start_programs()
    await start_servers()
    ssl.create_default_context()
    await use_threads()
    print("well", flush=True)


for debug in (False, True):
    if sys.argv[2] == "uvloop":
        import uvloop

        uvloop.run(main(), debug=debug)
    elif sys.argv[2] == "asyncio":
        asyncio.run(main(), debug=debug)
    else:
        import neverblock

        neverblock.run(main(), watch=neverblock.Guard(), debug=debug)
