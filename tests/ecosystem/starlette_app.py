"""The application that uvicorn serves in the tests."""

import asyncio
import contextlib
import time

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute


async def which(request):
    loop = asyncio.get_running_loop()
    return JSONResponse({"loop": type(loop).__module__, "backend": loop.backend})


async def reverse(request):
    return PlainTextResponse((await request.body())[::-1])


async def count(request):
    async def lines():
        for number in range(int(request.query_params["to"])):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(lines())


async def in_thread(request):
    return PlainTextResponse(await asyncio.to_thread(lambda: "from a thread"))


async def block(request):
    time.sleep(0.001)
    return PlainTextResponse("blocked")


async def echo(websocket):
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


@contextlib.asynccontextmanager
async def lifespan(app):
    print("application starts", flush=True)
    yield
    print("application stops", flush=True)


app = Starlette(
    routes=[
        Route("/which", which),
        Route("/reverse", reverse, methods=["POST"]),
        Route("/count", count),
        Route("/thread", in_thread),
        Route("/block", block),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
