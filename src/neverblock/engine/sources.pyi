from typing import final

@final
class Sources: ...
