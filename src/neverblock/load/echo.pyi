from neverblock.load.client import Client, Meter, _Keeper

class Messages:
    size: int
    count: int
    pattern: bytes
    all: list[bytes]

    def __init__(self, size: int) -> None: ...

class Echo(Client):
    def __init__(self, meter: Meter, keeper: _Keeper, depth: int, messages: Messages) -> None: ...
