"""What holds for a TCP session whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_plane.tcp.ports import CLIENT, UPSTREAM, Side
from tests.support.session import Port, Stage

SIDES = st.sampled_from([CLIENT, UPSTREAM])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), SIDES),
        st.tuples(st.sampled_from(["eof", "blocked", "writable", "reset", "lost"]), SIDES),
        st.tuples(st.sampled_from(["connected", "refused", "expired", "close", "abort"]), st.just(CLIENT)),
    ),
    max_size=40,
)


class Recorded(Port):
    """A port that keeps what it is commanded, and says what must not be."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.sent = b""
        self.ended = self.paused = self.over = False

    def send(self, data: bytes) -> None:
        assert data
        assert not self.ended
        assert not self.over
        self.sent += data

    def send_eof(self) -> None:
        assert not self.ended
        assert not self.over
        self.ended = True

    def pause_reading(self) -> None:
        assert not self.paused
        assert not self.over
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        assert not self.over
        self.paused = False

    def close(self) -> None:
        assert not self.over
        self.over = True

    reset = close


class Run:
    """A session without plugins between two recorded ports; tells only what sockets can tell."""

    def __init__(self) -> None:
        self.stage = Stage("a", "b")
        self.client, self.upstream = Recorded(self.stage, "client"), Recorded(self.stage, "upstream")
        self.stage.session._client = self.client
        self.came = [b"", b""]
        self.finished = [False, False]
        self.connected = False
        self.stage.session.start(b"")

    def tell(self, event: str, side: Side) -> None:
        session = self.stage.session
        if event in ("connected", "refused") and not self.connected and not self.stage.over:
            self.connected = event == "connected"
            if self.connected:
                session.connected(self.upstream)
            else:
                session.connect_failed()
        elif event in ("expired", "close", "abort"):
            {"expired": session.expired, "close": session.close, "abort": session.abort}[event]()
        elif event not in ("connected", "refused") and (side == CLIENT or self.connected):
            self._of_a_side(event, side)

    def _of_a_side(self, event: str, side: Side) -> None:
        session, port = self.stage.session, self.upstream if side else self.client
        if event == "data" and not self.finished[side] and not port.over:
            piece = bytes((len(self.came[side]) % 251,))
            self.came[side] += piece
            session.data(side, piece)
        elif event == "eof":
            self.finished[side] = True
            session.eof(side)
        elif event in ("blocked", "writable"):
            {"blocked": session.blocked, "writable": session.writable}[event](side)
        elif event in ("reset", "lost"):
            session.lost(side, event == "reset")


@given(EVENTS)
def test_whatever_happens(events: list[tuple[str, Side]]) -> None:
    run = Run()
    for event, side in events:
        run.tell(event, side)
        assert run.came[CLIENT].startswith(run.upstream.sent)
        assert run.came[UPSTREAM].startswith(run.client.sent)
        assert not run.upstream.ended or run.finished[CLIENT]
        assert not run.client.ended or run.finished[UPSTREAM]
        assert run.connected is False or run.stage.over or run.upstream.sent == run.came[CLIENT]
    run.stage.session.stop()
    assert run.client.over
    assert run.upstream.over is run.connected
    assert len(run.stage.over) == 1
    assert run.stage.session.received == [len(run.came[CLIENT]), len(run.came[UPSTREAM])]
