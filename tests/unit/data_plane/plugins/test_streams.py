"""Several plugins without a chain behave as the chain does, to the line: whatever one says, at whatever point."""

from __future__ import annotations

import itertools

import pytest

from data_plane.config.snapshot import PluginBinding
from data_plane.plugins.chain import WasmChain
from data_plane.plugins.interface import PluginStream
from tests.support.chain import GET, OK, Case, Worker, bind
from tests.support.guest import Facts, console

# What the plugin in the middle does, while those around it change every head and look at the final ones in the end.
MIDDLE = [
    (),
    ("request_headers add 0 m 1", "response_headers add 2 m 1"),
    ("request_headers return 1",),
    ("request_headers reply 403 % no %",),
    ("request_headers close 0",),
    ("request_headers trap",),
    ("request_headers set_property k v", "log property k"),
    ("response_headers return 1",),
    ("response_headers reply 403 % no %",),
    ("response_headers close 1",),
    ("response_headers trap",),
    ("done trap",),
    ("log trap",),
    ("log get 0 first", "log get 0 last", "log get 2 first", "log get 2 last"),
]
FIRST = ("request_headers add 0 first 1", "response_headers add 2 first 1", "log get 0 last", "log get 2 last")
LAST = ("request_headers add 0 last 1", "response_headers add 2 last 1", "log get 2 first", "log property k")


class Streams(Case):
    """The exchange's side as HeadExchange does it: a chain only where one is needed."""

    def __init__(self, worker: Worker, bindings: tuple[PluginBinding, ...]) -> None:
        self.journal = worker.journal
        self.replies = []
        self.has_left = self.is_cut = False
        self.facts = Facts()
        self.runtime = worker.runtime
        stream = worker.runtime.open_stream(bindings, self.facts)
        assert stream is not None
        self.stream: PluginStream | None = stream

    def forward_response_head(self, head: bytes) -> None:
        self._line("<", head)
        self.has_left = True

    def _take_over(self, stream: PluginStream) -> None:
        self.stream = None
        chain = self.runtime.take_over(stream, self)
        assert isinstance(chain, WasmChain)
        self.chain = chain

    def request(self, *pieces: bytes, head: bytes = GET) -> list[str]:
        assert self.stream is not None
        passed = self.stream.request_head(head, b"", True)
        if passed is not None:
            self.forward_request_head(passed or head)
            return self.journal.take()
        self._take_over(self.stream)
        return super().request(head=head)

    def response(self, *pieces: bytes, head: bytes = OK) -> list[str]:
        """In full, or with a body to come."""
        if self.stream is None:
            return super().response(*pieces, head=head)
        if not pieces:
            passed = self.stream.last_response(head, b"", True)
            if passed is not None:
                self.stream = None
        else:
            passed = self.stream.response_head(head, b"", False)
        if passed is not None:
            self.forward_response_head(passed or head)
            for k, piece in enumerate(pieces):
                self.forward_response_body(piece, k == len(pieces) - 1)
            return self.journal.take()
        assert self.stream is not None
        self._take_over(self.stream)
        return super().response(*pieces, head=head)

    def finish(self) -> list[str]:
        if self.stream is not None:
            self.runtime.finish(self.stream)
        elif hasattr(self, "chain"):
            self.chain.finish()
        return self.journal.take()


def ready(worker: Worker, scripts: list[tuple[str, ...]]) -> tuple[PluginBinding, ...]:
    plugins = [worker.plugin(name, module=console("NO_BODIES")) for name in "abc"[: len(scripts)]]
    bindings = tuple(bind(plugin, *script) for plugin, script in zip(plugins, scripts, strict=True))
    Case(worker.runtime, bindings, worker.journal).finish()
    worker.take()
    return bindings


def life(case: Case, pieces: tuple[bytes, ...]) -> list[str]:
    """Everything that was seen and said, in order."""
    lines = case.request()
    if any(line.startswith(">") for line in lines):
        lines += case.response(*pieces)
    return lines + case.finish()


@pytest.mark.parametrize("pieces", [(), (b"body",)], ids=["whole", "in pieces"])
@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("middle", MIDDLE, ids=lambda script: " ".join(script)[:40] or "nothing")
def test_it_is_as_in_a_chain(worker: Worker, middle: tuple[str, ...], position: int, pieces: tuple[bytes, ...]) -> None:
    scripts: list[tuple[str, ...]] = [FIRST, LAST]
    scripts.insert(position, middle)
    bindings = ready(worker, scripts)
    expected = life(worker.open(*bindings), pieces)
    failures, worker.journal.failures = worker.journal.failures, []
    if failures:
        # Its VM comes back after a while.
        worker.loop.advance(60)
    bindings = bindings if not failures else ready(worker, scripts)
    seen = life(Streams(worker, bindings), pieces)
    assert seen_of_others(seen) == seen_of_others(expected)
    assert worker.journal.failures == failures


def seen_of_others(lines: list[str]) -> list[str]:
    """Where the response has left, the end of the streams may be told before or after that."""
    ends = [line for line in lines if line.split()[1:2] and line.split()[1] in {"done", "log", "delete", "get:", "property:"}]
    return [line for line in lines if line not in ends] + ends


def test_streams_are_used_again_with_their_ids(worker: Worker) -> None:
    bindings = ready(worker, [("request_headers add 0 a 1",), ("response_headers add 2 b 1",)])
    lines = [life(Streams(worker, bindings), ()) for _ in range(3)]
    assert lines[0] == lines[1] == lines[2]
    assert {line.split()[2] for line in itertools.chain(*lines) if "headers" in line} == {"2"}
    assert [len(slot.vm.streams) for slot in worker.runtime._vms.values() if slot.vm is not None] == [0, 0]
