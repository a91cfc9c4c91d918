from typing import final

@final
class Sample: ...
