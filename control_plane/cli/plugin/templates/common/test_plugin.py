"""The plugin under test, without a gateway: `waspgate plugin build`, then `pytest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.proxy_wasm import Plugin, Refused, Response

MODULE = Path(__file__).parent / "build" / "{{name}}.wasm"


def test_it_greets() -> None:
    with Plugin.load(MODULE, name="{{name}}", configuration="hello") as plugin:
        stream = plugin.request(path="/", response=Response(200, body=b"from the upstream"))
        assert stream.response.headers["x-greeting"] == "hello"
        assert stream.response.body == b"from the upstream"


def test_it_is_not_configured_with_nothing() -> None:
    with pytest.raises(Refused) as refused:
        Plugin.load(MODULE, name="{{name}}", configuration="")
    assert any("a text is expected" in line.message for line in refused.value.logs)
