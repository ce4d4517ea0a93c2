from collections.abc import Callable

class Entry:
    """A core's export as a native function of (input, a, b, flags); native_entry.c. Addresses are of objects in `keep`."""

    def __init__(
        self,
        *,
        invoke: int,
        context: int,
        function: int,
        values: int,
        count: int,
        trap: int,
        memory: int,
        memory_size: int,
        watch: int,
        io: int,
        out: int,
        limit: int,
        wire: int,
        rearm: Callable[[], None],
        grow: Callable[[int], None],
        fail: Callable[[int], None],
        keep: object,
    ) -> None: ...
    def __call__(self, data: bytes, a: int, b: int, flags: int, /) -> int | bytes: ...
