"""A plugin's stream without a chain, and what of it a chain takes over."""

from __future__ import annotations

from data_plane.plugins.chain import NOBODY, WasmChain
from data_plane.plugins.link import Link
from data_plane.plugins.slots import Unavailable
from tests.support.exchange import BINDING
from tests.support.guest import Facts


class Owner:
    def stream_failed(self, link: Link, failure: Exception) -> None: ...

    def stream_ended(self, link: Link) -> None: ...


def test_what_a_plugin_has_set_on_a_request_is_still_there_when_a_chain_takes_over() -> None:
    link = Link(Unavailable(BINDING), Facts())
    link.own_properties = {b"user": b"bob"}
    chain = WasmChain([link], NOBODY, Owner())
    assert chain.properties == {b"user": b"bob"}
    assert link.plugin_properties() is chain.properties
