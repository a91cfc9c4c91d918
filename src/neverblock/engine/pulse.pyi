from typing import Self, final

from neverblock.multiplexers import Multiplexer

@final
class Pulse:
    def __new__(cls, multiplexer: Multiplexer) -> Self: ...
    @property
    def multiplexer(self) -> Multiplexer: ...
    def running(self) -> object: ...
