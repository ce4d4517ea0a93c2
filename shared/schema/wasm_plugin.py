"""Wasm plugins: a module under a name, and how its VM is run.

The law: a stored plugin is pinned to bytes by `module.sha256`; `module.file`, `url` or `oci` beside it only records where they
came from.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from shared.proxy_wasm.capabilities import CAPABILITIES
from shared.schema.common import Described, Integer, Maybe, SomeUnique, Spec, TextOrObject
from shared.schema.oci_reference import OciReference

MIB = 1024 * 1024
# The limit bounds the memory of the host's core as well, which lies in the same Store: the heads and bodies of all open
# requests, the configurations, the contexts. Below 16 MiB a few hundred requests at once would starve it.
MIN_MEMORY = 16 * MIB
# All that a 32-bit module can address.
MAX_MEMORY = 4096 * MIB
# A held body lies in one block of the core's memory, which is 128 MiB at most and twice as large as what it is to hold.
MAX_BODY_BUFFER = 64 * MIB
# While a body grows, its block and the next one, twice as large, lie beside each other in the core's memory.
MEMORY_PER_BODY_BYTE = 4
# Longer than this and a callback holds up the whole worker for a minute.
MAX_CPU_MS = 60_000
# Each holds a connection; a worker has a thousand or so to share.
MAX_CALLOUTS = 1024
# Beyond it a worker does little else than to write its log.
MAX_LOG_LINES = 20_000
# Half of what all plugins of a host have together.
MAX_SHARED_DATA = 512 * MIB

CpuMilliseconds = Annotated[int, Field(ge=1, le=MAX_CPU_MS)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
AbsolutePath = Annotated[str, Field(max_length=4096, pattern=r"^/[^\x00]+$")]
EnvironmentName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^=\x00]+$")]
EnvironmentValue = Annotated[str, Field(max_length=32768, pattern=r"^[^\x00]*$")]


def _known_capabilities(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in CAPABILITIES]
    if unknown:
        words = f"no host function, callback or WASI function: {', '.join(map(repr, unknown))}"
        raise PydanticCustomError("capability", "{words}", {"words": words})
    return names


Capabilities = Annotated[SomeUnique[str], AfterValidator(_known_capabilities)]


def _fetchable(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.fragment:
        raise PydanticCustomError("url", "expected an http or https URL without user, password and fragment")
    return text


def _pullable(text: str) -> str:
    try:
        OciReference.parse(text)
    except ValueError as error:
        raise PydanticCustomError("oci", "{words}", {"words": str(error)}) from None
    return text


Url = Annotated[str, Field(max_length=4096, pattern=r"^[!-~]+$"), AfterValidator(_fetchable)]
Oci = Annotated[str, AfterValidator(_pullable)]


class ModuleSpec(Spec):
    file: Maybe[AbsolutePath] = None
    sha256: Maybe[Sha256] = None
    url: Maybe[Url] = None
    oci: Maybe[Oci] = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        given = [name for name in ("file", "url", "oci") if getattr(self, name) is not None]
        if len(given) > 1:
            words = f"{given[0]} and {given[1]} exclude each other"
            raise PydanticCustomError("module", "{words}", {"words": words})
        if self.url is not None and self.sha256 is None:
            raise PydanticCustomError("module", 'property "sha256" is required beside "url"')
        if not given and self.sha256 is None:
            raise PydanticCustomError("module", 'object matches none of the required: ["file"], ["url"], ["oci"] or ["sha256"]')
        return self


class LimitsSpec(Spec):
    callback_cpu_ms: CpuMilliseconds = 20
    start_cpu_ms: CpuMilliseconds = 1000
    memory_bytes: Annotated[int, Field(ge=MIN_MEMORY, le=MAX_MEMORY)] = 128 * MIB
    body_buffer_bytes: Annotated[int, Field(ge=1, le=MAX_BODY_BUFFER)] = MIB
    stream_cpu_ms: Maybe[CpuMilliseconds] = None
    pending_callouts: Annotated[int, Field(ge=1, le=MAX_CALLOUTS)] = 256
    log_lines_per_second: Annotated[int, Field(ge=1, le=MAX_LOG_LINES)] = 1000
    shared_data_bytes: Annotated[int, Field(ge=1, le=MAX_SHARED_DATA)] = 16 * MIB

    @model_validator(mode="after")
    def _a_held_body_has_room(self) -> Self:
        needed = self.body_buffer_bytes * MEMORY_PER_BODY_BYTE
        if needed > self.memory_bytes:
            words = (
                f"body_buffer_bytes {self.body_buffer_bytes} needs memory_bytes of at least {needed}, got {self.memory_bytes}"
            )
            raise PydanticCustomError("limits", "{words}", {"words": words})
        return self


class WasmPluginSpec(Described):
    priority: Integer = 0
    http_request_phase: Literal["access", "rewrite"] = "access"
    module: Maybe[ModuleSpec] = None
    limits: LimitsSpec = LimitsSpec()
    failure_policy: Literal["fail_closed", "fail_open", "fail_reload"] = "fail_closed"
    capabilities: Maybe[Capabilities] = None
    dialect: Literal["proxy-wasm", "apisix"] = "proxy-wasm"
    vm_configuration: Maybe[TextOrObject] = None
    environment: dict[EnvironmentName, EnvironmentValue] = Field(default_factory=dict)
