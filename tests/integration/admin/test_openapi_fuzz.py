"""Requests made from the OpenAPI document itself, good and bad ones: none is answered by a 5xx, or by what is not announced."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from control_plane.app import create_app
from shared.store.url import open_store
from tests.support.admin import KEY, shared_sandbox

# schemathesis imports `requests` when it is first used, which looks for a package that nobody here needs.
pytestmark = pytest.mark.filterwarnings("ignore:SOCKS support in urllib3")

CHECKED = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# All kinds have the same handlers: of most of them one request will do.
EXAMPLES = {"routes": 6, "transaction": 12, "configs": 8}
FEW = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Admin API in a thread of its own: what makes the requests is no coroutine."""
    folder = tmp_path_factory.mktemp("admin")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(_serve(folder, listener, stop)))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join()


async def _serve(folder: Path, listener: socket.socket, stop: threading.Event) -> None:
    async with open_store(f"sqlite:///{folder}/config.db") as store:
        app = create_app(store, keys=[KEY], sandbox=shared_sandbox())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, server_header=False))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            await asyncio.to_thread(stop.wait)
            server.should_exit = True


def test_nothing_unforeseen(server: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server}/apisix/admin/openapi.json")
    # Modules are no JSON: test_modules.py has bad ones.
    others = schema.exclude(method="PUT", path_regex="/module$")
    tried = 0
    for result in others.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        kind = operation.path.removeprefix("/apisix/admin/").partition("/")[0]
        quiet = settings(
            max_examples=EXAMPLES.get(kind, FEW),
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        @quiet
        @given(case=operation.as_strategy())
        def one(case: schemathesis.Case[Any]) -> None:
            response = case.call(base_url=server, headers={"X-API-KEY": KEY})
            case.validate_response(response, checks=CHECKED)

        one()
        tried += 1
    assert tried > 100
