"""What plugins share: data, queues and metrics, on the host's state in a directory of its own."""

from __future__ import annotations

import select
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_plane.plugins.sharing import HostSharing
from shared.proxy_wasm.state.host_state import HostState
from tests.conformance.stage import Stage, answers
from tests.conformance.table import TABLE
from tests.support.chain import bind

case = TABLE.case
GET, SET = "proxy_get_shared_data", "proxy_set_shared_data"
REGISTER, RESOLVE = "proxy_register_shared_queue", "proxy_resolve_shared_queue"
ENQUEUE, DEQUEUE, READY = "proxy_enqueue_shared_queue", "proxy_dequeue_shared_queue", "proxy_on_queue_ready"
DEFINE, INCREMENT = "proxy_define_metric", "proxy_increment_metric"
RECORD, READ = "proxy_record_metric", "proxy_get_metric"


class Readers:
    """The loop's part in the state's events: a file descriptor that is looked at when a case wants it."""

    def __init__(self, stage: Stage) -> None:
        self._call_later = stage.worker.loop.call_later
        self._readers: dict[int, Callable[[], None]] = {}

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self._readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self._readers[fd]

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> object:
        return self._call_later(delay, callback, *arguments)

    def deliver(self) -> None:
        for fd in select.select(list(self._readers), [], [], 0)[0]:
            self._readers[fd]()


@contextmanager
def shared(stage: Stage) -> Iterator[Readers]:
    with tempfile.TemporaryDirectory() as folder:
        readers, runtime = Readers(stage), stage.worker.runtime
        runtime.sharing = HostSharing(HostState(Path(folder) / "state"), readers, runtime._queue_ready)  # type: ignore[arg-type]
        try:
            yield readers
        finally:
            stage.close()
            runtime.sharing.close()
            runtime.sharing = None


def asks(subject: str, behaviour: str, commands: tuple[str, ...], *expected: str) -> None:
    """In the request's headers."""

    @case(subject, behaviour)
    def _(stage: Stage) -> None:
        with shared(stage):
            lines = stage.open(*(f"request_headers {command}" for command in commands)).request()
            stage.expect(answers(lines), list(expected))


# --- data

asks(GET, "what was set, with a cas that is not 0", ("set_data key value 0", "get_data key"), "OK", "OK value cas")
asks(GET, "an absent key is NotFound", ("get_data absent",), "NOT_FOUND")
asks(GET, "an empty value is Ok with a null pointer, and a cas", ("set_data key % 0", "get_data key"), "OK", "OK cas")
asks(SET, "cas 0 always sets", ("set_data key a 0", "set_data key b 0", "get_data key"), "OK", "OK", "OK b cas")
asks(
    SET,
    "the cas that was read sets, once",
    ("set_data k a 0", "get_data k", "set_data k b @", "set_data k c @", "get_data k"),
    "OK",
    "OK a cas",
    "OK",
    "CAS_MISMATCH",
    "OK b cas",
)
asks(
    SET,
    "another cas is CasMismatch",
    ("set_data k a 0", "set_data k b 4000000", "get_data k"),
    "OK",
    "CAS_MISMATCH",
    "OK a cas",
)
asks(SET, "an absent key takes any cas", ("set_data k a 77", "get_data k"), "OK", "OK a cas")
asks(SET, "keys and values may have any byte", ("set_data %00%ff %00%01 0", "get_data %00%ff"), "OK", "OK %00%01 cas")


@case(GET, "plugins have their data apart")
def _(stage: Stage) -> None:
    with shared(stage):
        lines = stage.chain(a="request_headers set_data k 1 0", b="request_headers get_data k").request()
        stage.expect(answers(lines), ["OK", "NOT_FOUND"])


@case(GET, "all plugin contexts of a plugin see the same")
def _(stage: Stage) -> None:
    with shared(stage):
        plugin = stage.bind("p").plugin
        lines = stage.worker.open(bind(plugin, "request_headers set_data k 1 0", owner="route/1")).request()
        lines += stage.worker.open(bind(plugin, "request_headers get_data k", owner="route/2")).request()
        stage.expect(answers(lines), ["OK", "OK 1 cas"])


# --- queues

asks(
    REGISTER,
    "an id that is not 0; the same name has the same id, with what is in it",
    ("register_queue q", "enqueue @ a", "register_queue q", "dequeue @"),
    "OK id",
    "OK",
    "OK id",
    "OK a",
)
asks(
    RESOLVE,
    "a queue by its name; an empty vm_id is the plugin's own",
    ("register_queue q", "enqueue @ a", "resolve_queue % q", "dequeue @"),
    "OK id",
    "OK",
    "OK id",
    "OK a",
)
asks(
    RESOLVE,
    "another plugin's by its vm_id, which is its name",
    ("register_queue q", "resolve_queue p q", "enqueue @ a"),
    "OK id",
    "OK id",
    "OK",
)
asks(
    RESOLVE,
    "an unknown name or vm_id is NotFound",
    ("register_queue q", "resolve_queue % other", "resolve_queue x q"),
    "OK id",
    "NOT_FOUND",
    "NOT_FOUND",
)
asks(ENQUEUE, "of an unknown queue NotFound", ("enqueue 4711 a",), "NOT_FOUND")
asks(
    ENQUEUE,
    "an empty item is an item",
    ("register_queue q", "enqueue @ %", "dequeue @", "dequeue @"),
    "OK id",
    "OK",
    "OK",
    "EMPTY",
)
asks(
    DEQUEUE,
    "first in, first out; then Empty",
    ("register_queue q", "enqueue @ a", "enqueue @ b", "dequeue @", "dequeue @", "dequeue @"),
    "OK id",
    "OK",
    "OK",
    "OK a",
    "OK b",
    "EMPTY",
)
asks(DEQUEUE, "of an unknown queue NotFound", ("dequeue 4711",), "NOT_FOUND")


@case(READY, "once for each item, for the plugin context that registered the queue, and not inside of enqueue")
def _(stage: Stage) -> None:
    with shared(stage) as readers:
        lines = stage.open("configure register_queue q", "request_headers enqueue @ a", "request_headers enqueue @ b").request()
        stage.expect([line for line in lines if line.startswith("queue_ready")], [])
        readers.deliver()
        stage.expect(stage.journal.take(), ["queue_ready 1 1"] * 2)


@case(READY, "the item may be gone already: Empty")
def _(stage: Stage) -> None:
    with shared(stage) as readers:
        stage.open(
            "configure register_queue q", "request_headers enqueue @ a", "request_headers dequeue @", "queue_ready dequeue @"
        ).request()
        stage.journal.take()
        readers.deliver()
        stage.expect(answers(stage.journal.take()), ["EMPTY"])


@case(READY, "only for the last of those that registered one name")
def _(stage: Stage) -> None:
    with shared(stage) as readers:
        plugin = stage.bind("p").plugin
        script = ("configure register_queue q", "request_headers enqueue @ a")
        for owner in ("route/1", "route/2"):
            stage.worker.open(bind(plugin, *script[: 1 + (owner == "route/2")], owner=owner)).request()
        stage.journal.take()
        readers.deliver()
        stage.expect(stage.journal.take(), ["queue_ready 3 1"])


# --- metrics

COUNTER, GAUGE, HISTOGRAM = 0, 1, 2
asks(
    DEFINE,
    "an id that is not 0, of each kind",
    tuple(f"define_metric {kind} name{kind}" for kind in (COUNTER, GAUGE, HISTOGRAM)),
    *["OK id"] * 3,
)
asks(DEFINE, "an unknown kind is BadArgument", ("define_metric 3 name",), "BAD_ARGUMENT")
asks(
    DEFINE,
    "the same name again is the same metric",
    ("define_metric 0 n", "increment_metric @ 2", "define_metric 0 n", "get_metric @"),
    "OK id",
    "OK",
    "OK id",
    "OK 2",
)
asks(
    INCREMENT,
    "a counter grows",
    ("define_metric 0 n", "increment_metric @ 2", "increment_metric @ 3", "get_metric @"),
    "OK id",
    "OK",
    "OK",
    "OK 5",
)
asks(
    INCREMENT,
    "a counter by 0 or less is BadArgument",
    ("define_metric 0 n", "increment_metric @ 0", "increment_metric @ -1"),
    "OK id",
    "BAD_ARGUMENT",
    "BAD_ARGUMENT",
)
asks(
    INCREMENT,
    "a gauge goes up and down",
    ("define_metric 1 n", "increment_metric @ 2", "increment_metric @ -5", "get_metric @"),
    "OK id",
    "OK",
    "OK",
    "OK -3",
)
asks(INCREMENT, "a histogram is BadArgument", ("define_metric 2 n", "increment_metric @ 1"), "OK id", "BAD_ARGUMENT")
asks(INCREMENT, "an unknown metric is NotFound", ("increment_metric 4711 1",), "NOT_FOUND")
asks(
    RECORD,
    "adds to a counter, sets a gauge, and takes a histogram's sample",
    (
        "define_metric 0 c",
        "record_metric @ 2",
        "record_metric @ 2",
        "get_metric @",
        "define_metric 1 g",
        "record_metric @ 2",
        "record_metric @ 7",
        "get_metric @",
        "define_metric 2 h",
        "record_metric @ 9",
    ),
    "OK id",
    "OK",
    "OK",
    "OK 4",
    "OK id",
    "OK",
    "OK",
    "OK 7",
    "OK id",
    "OK",
)
asks(RECORD, "an unknown metric is NotFound", ("record_metric 4711 1",), "NOT_FOUND")
asks(READ, "a histogram is BadArgument", ("define_metric 2 n", "get_metric @"), "OK id", "BAD_ARGUMENT")
asks(READ, "an unknown metric is NotFound", ("get_metric 4711",), "NOT_FOUND")


@case(DEFINE, "without anybody who keeps what is shared, all of these are Unimplemented")
def _(stage: Stage) -> None:
    commands = (
        "get_data k",
        "set_data k v 0",
        "register_queue q",
        "resolve_queue % q",
        "enqueue 1 a",
        "dequeue 1",
        "define_metric 0 n",
        "increment_metric 1 1",
        "record_metric 1 1",
        "get_metric 1",
    )
    stage.expect(stage.answers(*(f"request_headers {command}" for command in commands)), ["UNIMPLEMENTED"] * len(commands))
