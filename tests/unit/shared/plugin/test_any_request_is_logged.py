"""An access log with every variable there is, for requests that lack what the variables are about."""

from __future__ import annotations

import asyncio
import json

import pytest

from data_plane.exchange.opening import open_exchange
from data_plane.http.forwarded import Forwarding
from data_plane.http.head import parse_request
from shared.expression.variables import _OF_REQUEST, _OF_ROUTE, _PREFIXES
from shared.plugin.host import Fetched
from shared.plugin.log_entry import _AT_THE_END
from tests.support.native import Native, Recorded, RecordingClient, RecordingConn

NAMES = [*_OF_REQUEST, *_OF_ROUTE, *_AT_THE_END, *(f"{prefix}x" for prefix in _PREFIXES)]
# Those of bodies are refused.
FORMAT = {name: f"${name}" for name in NAMES if not name.startswith("post_arg")}


def sent(native: Native) -> list[dict[str, object]]:
    async def ended() -> None:
        for _, work in native.host.work:
            task = asyncio.ensure_future(work)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(ended())
    native.host.work.clear()
    return [entry for _, _, _, body in native.host.calls for entry in json.loads(body)]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n",
        b"GET /?%ff=%01&=&a HTTP/1.0\r\nCookie: =;;x\r\nX: \xff\xfe\r\nReferer: \r\n",
        b"GET /?%c3%28 HTTP/1.0\r\nContent-Type: \x80\r\nAuthorization: \r\n",
    ],
)
def test_a_log_survives_any_request(head: bytes) -> None:
    native = Native(
        {"http-logger": {"uri": "http://logs.test/in", "log_format": FORMAT}}, answer=lambda method, url: Fetched(200, (), b"")
    )
    recorded = native.recorded = Recorded()
    native.stage.pool.idle = [RecordingConn(native.stage, recorded)]
    parsed = parse_request(head, forwarded=Forwarding("", 80).lines)
    native.exchange = open_exchange(native.stage, RecordingClient(native.stage, recorded, ("", 0)), parsed)
    native.exchange.start(b"", True)
    native.exchange.client_gone()
    (entry,) = sent(native)
    assert entry
