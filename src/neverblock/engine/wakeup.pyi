from typing import final

@final
class Wakeup: ...
