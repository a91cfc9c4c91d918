from neverblock.load.client import Client, Meter, _Keeper

class Http(Client):
    def __init__(self, meter: Meter, keeper: _Keeper, depth: int, request: bytes) -> None: ...
