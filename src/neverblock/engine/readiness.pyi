from typing import final

from neverblock.engine.driver import Driver

@final
class Readiness(Driver): ...
