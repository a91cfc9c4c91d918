from neverblock.multiplexers.base import Multiplexer
from neverblock.multiplexers.selector import Selector

class KqueueMultiplexer(Multiplexer):
    def fileno(self) -> int: ...

class Kqueue(KqueueMultiplexer, Selector): ...
