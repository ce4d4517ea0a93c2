"""One case, run: the reason why it failed, or nothing."""

from __future__ import annotations

from shared.proxy_wasm.abi import AbiVersion
from tests.conformance.stage import Stage
from tests.conformance.table import Row
from tests.support.chain import KeptEngine


def run(engine: KeptEngine, row: Row, version: AbiVersion) -> str:
    stage = Stage(engine, version)
    try:
        row.act(stage)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        stage.close()
    return ""
