"""A configuration larger than a transaction, applied to a gateway that runs: live when `apply` returns, never half of it."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

from shared.yaml_document import encode_yaml
from tests.support.command import run
from tests.support.gateway import answering, ok, upstream
from tests.support.up import KEY, Up, waspgate_up

ROUTES = 300


def configuration(up: Up, generation: str) -> str:
    routes = [{"id": str(n), "uri": f"/{generation}/{n}", "upstream_id": "u"} for n in range(ROUTES)]
    return encode_yaml({"upstreams": [{"id": "u", **up.upstream}], "routes": routes})


def apply(up: Up, folder: Path, generation: str) -> str:
    file = folder / f"{generation}.yaml"
    file.write_text(configuration(up, generation))
    admin = urlsplit(str(up.admin.base_url)).netloc
    done = run(["apply", str(file), "--wait", "30", "--admin", admin, "--admin-key", KEY], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def statuses(up: Up, generation: str) -> tuple[int, int]:
    """Of the first route and the last."""
    return up.get(f"/{generation}/0").status_code, up.get(f"/{generation}/{ROUTES - 1}").status_code


def test_a_large_configuration_is_live_at_once(tmp_path: Path) -> None:
    with upstream(answering(ok())) as server, waspgate_up(tmp_path, server.port) as up:
        first = apply(up, tmp_path, "old")
        assert statuses(up, "old") == (200, 200)

        seen: set[tuple[int, int]] = set()
        stop = threading.Event()

        def look() -> None:
            # Asked in this order, a whole change shows as old-old, old-gone or gone-gone; half of one as gone-old.
            while not stop.is_set():
                seen.add(statuses(up, "old"))

        looking = threading.Thread(target=look)
        looking.start()
        second = apply(up, tmp_path, "new")
        stop.set()
        looking.join()

        assert first.endswith("301 created, 0 changed, 0 deleted, 0 unchanged\n")
        assert second.endswith("0 created, 300 changed, 0 deleted, 1 unchanged\n")
        assert statuses(up, "new") == (200, 200)
        assert (404, 200) not in seen
        assert (200, 200) in seen
