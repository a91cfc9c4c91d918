from neverblock.load.client import Client, Meter, _Keeper

def command(*words: bytes) -> bytes: ...
def spread(weights: list[int]) -> list[int]: ...

class Commands:
    size: int
    keys: int
    values: int
    pattern: bytes
    sets: list[bytes]
    gets: list[bytes]
    ping: bytes
    turns: bytes

    def __init__(self, size: int, keys: int, weights: dict[str, int]) -> None: ...
    def value(self, key: int) -> bytes: ...

class Redis(Client):
    def __init__(
        self, meter: Meter, keeper: _Keeper, depth: int, commands: Commands, first: int = 0
    ) -> None: ...
