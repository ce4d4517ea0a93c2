"""`make test-cluster`: docker-compose.yml on a real Docker engine, hurt in every way that clusters meet, under constant load.

The law: it ends with status 1 when a request failed that should not have, or when a change did not arrive. What it brings up
has a name and ports of its own, and is gone at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from contextlib import ExitStack
from time import strftime

import httpx

from tests.cluster import dashboard
from tests.cluster.books import books, table
from tests.cluster.configuration import Configuration
from tests.cluster.engine import Cluster, EngineError, compose_command, run
from tests.cluster.load import Load
from tests.cluster.steps import Run
from tests.support.command import ROOT

MODULE = ROOT / ".build/plugins/c-greeting.wasm"
KEY = ROOT / ".waspgate/secrets/admin_key"
PORTS = ("GATEWAY_PORT", "ADMIN_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
# Of failures, in full.
SHOWN = 20


def tell(words: str) -> None:
    print(strftime("%H:%M:%S"), words, flush=True)  # noqa: T201


def free_ports() -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return {name: one.getsockname()[1] for name, one in zip(PORTS, sockets, strict=True)}


def key_of_the_cluster() -> str:
    return KEY.read_text().strip()


def url(cluster: Cluster, port: str) -> str:
    return f"http://127.0.0.1:{cluster.ports[port]}"


async def measure(cluster: Cluster, key: str, module: bytes, options: argparse.Namespace) -> list[str]:
    """What is wrong."""
    base = f"{url(cluster, 'ADMIN_PORT')}/apisix/admin/"
    async with httpx.AsyncClient(base_url=base, headers={"X-API-KEY": key}, timeout=10, trust_env=False) as client:
        configuration = Configuration(cluster, client)
        await configuration.put_example(module)
        await configuration.change()
        load = Load(url(cluster, "GATEWAY_PORT"), options.rate)
        todo = Run(cluster, configuration, tell)
        wrong = []
        async with load.running():
            try:
                await todo.all(options.only)
            except (TimeoutError, EngineError) as error:
                wrong.append(f"{todo.steps[-1].name}: {error}")
        async with httpx.AsyncClient(base_url=load.base_url, timeout=10, trust_env=False) as gateway:
            status = await configuration.admin_through(gateway)
        if status != 403:
            wrong.append(f"the Admin API was reached through the gateway, and answered {status}")
        wrong += await dashboard.ask(url(cluster, "PROMETHEUS_PORT"))
    rows = books(todo.steps, load.requests)
    failed = [f"{row.step.name}: {request}" for row in rows for request in row.failed]
    tell(f"{options.rate:g} requests a second, {configuration.changes} changes\n\n{table(rows)}\n")
    return [*wrong, *failed[:SHOWN], *([f"and {len(failed) - SHOWN} failures more"] if len(failed) > SHOWN else [])]


async def test(module: bytes, options: argparse.Namespace) -> int:
    cluster = Cluster(await compose_command(), free_ports())
    await run(["sh", "deploy/secrets.sh"])
    try:
        tell("building the images, and bringing them up with one data plane")
        await cluster.scale(1, "--build")
        wrong = await measure(cluster, key_of_the_cluster(), module, options)
        for line in wrong:
            tell(line)
        if wrong:
            print((await cluster.compose("logs", "--tail=30"))[-20_000:])  # noqa: T201
        tell("failed" if wrong else "all is well")
        return 1 if wrong else 0
    finally:
        if not options.keep:
            await cluster.compose("down", "--volumes", "--timeout", "5")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-cluster", description="The compose cluster, hurt under load.")
    parser.add_argument("--rate", type=float, default=50, metavar="N", help="requests a second, default 50")
    parser.add_argument("--only", default="", metavar="PREFIX", help="steps whose names begin so, as etcd-2 or scale")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    try:
        return asyncio.run(test(MODULE.read_bytes(), parser.parse_args()))
    except EngineError as error:
        print(f"test-cluster: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
