"""The protocol's state machine, h2's, with the few rules of RFC 9113 that a gateway reads differently.

The law: whether a frame may come, what it does to windows and tables, and what must be answered is decided by h2. What is
changed here makes one stream's fault that stream's alone, or keeps what a GOAWAY must not end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import Event
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from data_plane.h2.compression import RememberingDecoder, RememberingEncoder
from data_plane.h2.limits import CONCURRENT_STREAMS, FRAME_BYTES, HEADER_LIST_BYTES

_GOAWAYS = (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)


class _States(H2ConnectionStateMachine):
    """h2 takes GOAWAY for the end of everything; RFC 9113 6.8 lets streams that were begun go on to their ends."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        return [] if input_ in _GOAWAYS else super().process_input(input_)


class _Stream(H2Stream):
    """h2 ends the connection over a length that is not kept, RFC 9113 8.1.1 the stream: its owner counts."""

    def _initialize_content_length(
        self, headers: Iterable[HeaderTuple | NeverIndexedHeaderTuple | tuple[bytes, bytes]]
    ) -> None:
        pass

    def _process_received_headers(self, headers: Any, *_: object) -> Any:  # noqa: ANN401 - as h2 has it
        """As they came: a block that comes again shall be the same object."""
        return headers

    def _track_content_length(self, length: int, end_stream: bool) -> None:
        pass


class _Settings(Settings):
    """A client may open more streams than it does not know yet to be too many: those are refused, not the connection."""

    max_concurrent_streams = 2**31


class Machine(H2Connection):
    """Fields are not checked here, neither way: fields.py does, and a malformed message costs its stream only."""

    DEFAULT_MAX_HEADER_LIST_SIZE = HEADER_LIST_BYTES
    # How many ended streams are remembered with how they ended, for frames that were on their way; h2's own 65,536 hold 6 MiB.
    MAX_CLOSED_STREAMS = 1024

    def __init__(self, *, client_side: bool, window: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=client_side,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.state_machine = _States()
        self.decoder = RememberingDecoder(HEADER_LIST_BYTES)
        self.encoder = RememberingEncoder()
        values = {
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_FRAME_SIZE: FRAME_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES,
        }
        if client_side:
            values[SettingCodes.ENABLE_PUSH] = 0
            self.local_settings = Settings(client=True, initial_values=values)
        else:
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = CONCURRENT_STREAMS
            self.local_settings = _Settings(client=False, initial_values=values)

    def clear_outbound_data_buffer(self) -> None:
        """Nothing: h2 would throw away what is to be sent when a GOAWAY comes."""

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        stream.__class__ = _Stream
        return stream
