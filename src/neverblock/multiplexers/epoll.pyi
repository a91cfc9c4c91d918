from neverblock.multiplexers.base import Multiplexer
from neverblock.multiplexers.selector import Selector

class EpollMultiplexer(Multiplexer):
    def fileno(self) -> int: ...

class Epoll(EpollMultiplexer, Selector): ...
