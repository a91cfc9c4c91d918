"""An aiohttp server on our loop by `web.run_app(loop=…)`: run as a program."""

from aiohttp import web

import neverblock


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def tell_port(app: web.Application) -> None:
    print("application starts", flush=True)


def main() -> None:
    app = web.Application()
    app.router.add_get("/", hello)
    app.on_startup.append(tell_port)
    web.run_app(app, host="127.0.0.1", port=0, loop=neverblock.new_event_loop())


if __name__ == "__main__":
    main()
