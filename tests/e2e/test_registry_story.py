"""From a registry to a request: pulled by tag with credentials, asked before it is bound, replaced, gone back to."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path

from tests.support.command import wait_until
from tests.support.gateway import answering, ok, upstream
from tests.support.guest import build
from tests.support.registry import TAR_LAYER, USER, WASM_LAYER, archive, registry
from tests.support.up import Up, waspgate_up

SOURCE = (Path(__file__).parents[1] / "support" / "guest_sources" / "edition.c").read_text()


def edition(number: int, *defines: str) -> bytes:
    return build(SOURCE, defines=[f"NUMBER={number}", *defines])


def serves(up: Up, number: int) -> bool:
    return "x-edition" in (fields := up.get("/story").headers) and int(fields["x-edition"]) == number


def test_the_story(tmp_path: Path) -> None:
    with registry() as images, upstream(answering(ok(b"hello"))) as server:
        images.access = "user-token"
        credentials = {"auths": {images.host: {"auth": base64.b64encode(USER.encode()).decode()}}}
        (tmp_path / "config.json").write_text(json.dumps(credentials))
        with waspgate_up(
            tmp_path,
            server.port,
            WASPGATE_ALLOW_PRIVATE_MODULE_SOURCES="true",
            WASPGATE_REGISTRY_CONFIG=str(tmp_path / "config.json"),
        ) as up:
            images.push("latest", (TAR_LAYER, archive({"plugin.wasm": edition(1)})))
            plugin = {"module": {"oci": f"oci://{images.host}/team/plugin:latest"}}
            up.put("wasm_plugins/story", plugin)
            up.put("routes/story", {"uri": "/story", "upstream": up.upstream, "plugins": {"story": {"conf": "x"}}})
            wait_until(partial(serves, up, 1), "the first edition serves")

            images.push("latest", (WASM_LAYER, edition(2)))
            up.put("wasm_plugins/story", plugin)
            wait_until(partial(serves, up, 2), "the second edition serves")

            images.push("latest", (WASM_LAYER, edition(3, "REFUSE_CONFIGURE")))
            refused = up.admin.put("wasm_plugins/story", json=plugin)
            assert refused.status_code == 400
            assert "does not run with its configuration in route [story]" in refused.json()["error_msg"]
            assert serves(up, 2)

            assert up.write("POST", "wasm_plugins/story/rollback")["version"] == 1
            wait_until(partial(serves, up, 1), "the first edition serves again")
