"""The floors of the project, held by walking the imports: who may import whom, and which modules know no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The floors of the data plane, highest first: a module imports from its own floor or lower ones. A module stands where
# its longest name here does: the snapshot is the vocabulary of the floors below the compiler too.
FLOORS = (
    ("data_plane.__main__", "data_plane.supervisor"),
    ("data_plane.worker", "data_plane.following", "data_plane.explain"),
    ("data_plane.http", "data_plane.h2", "data_plane.callout", "data_plane.tcp", "data_plane.tls", "data_plane.process"),
    ("data_plane.health", "data_plane.dns"),
    ("data_plane.exchange",),
    ("data_plane.config",),
    ("data_plane.plugins", "data_plane.routing", "data_plane.balance", "data_plane.secrets", "data_plane.config.route_map"),
    ("data_plane.upstream_tls",),
    ("data_plane.config.snapshot", "data_plane.upstream_tls.client_tls", "data_plane.settings", "data_plane.observe"),
    ("data_plane.health.machine", "data_plane.health.rows"),
    ("shared",),
)

PURE = (
    "data_plane.routing",
    "data_plane.exchange",
    "data_plane.balance",
    "data_plane.health.checks",
    "data_plane.health.machine",
    "data_plane.health.rows",
    "data_plane.http.head",
    "data_plane.http.forwarded",
    "data_plane.http.trust",
    "data_plane.http.proxy_protocol",
    "data_plane.tcp.chain",
    "data_plane.tcp.client_hello",
    "data_plane.tcp.session",
    "data_plane.config.compiler",
    "data_plane.config.snapshot",
    "shared.schema",
    "shared.expression",
    "shared.regex",
    "shared.keys",
    "shared.secrets.places",
    "shared.secrets.references",
    "shared.host_pattern",
    "shared.server_name",
    "shared.path_pattern",
    "shared.request_path",
    "shared.plugin_merge",
    *(f"shared.limits.{name}" for name in ("bucket", "gauge", "windows")),
    # Not its builtin plugins: some wait, some tell the time.
    *(f"shared.plugin.{name}" for name in ("body", "facts", "fields", "head", "header_edits", "json_schema", "plugin")),
    *(f"shared.plugin.{name}" for name in ("program", "registry", "reply", "request", "template")),
    "shared.proxy_wasm",
)
# The engine's files, and nobody else, know wasmtime.
ENGINE = tuple(f"shared.proxy_wasm.{name}" for name in ("engine", "instance", "calls", "tap"))
# What the workers of a host share lies in LMDB; a thread watches the CPU clock; the compiler runs when the core is built.
STATE = ("shared.proxy_wasm.state",)
IMPURE_BY_PURPOSE = (*ENGINE, *STATE, "shared.proxy_wasm.watchdog", "shared.proxy_wasm.meter", "shared.proxy_wasm.core_build")
IO = {"asyncio", "socket", "ssl", "threading", "subprocess", "selectors", "signal", "wasmtime", "time", "logging"}
IO |= {"structlog", "uvloop", "httpx", "aetcd", "grpc", "sqlite3", "lmdb"}

STORE_ENGINES = ("shared.store.etcd", "shared.store.file", "shared.store.sqlite")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever it stands, except for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def floor(name: str) -> int | None:
    """Counted from the top; None outside of the data plane and `shared`."""
    found = [(len(package), index) for package, index in STANDING if within(name, (package,))]
    return max(found)[1] if found else None


STANDING = [(package, index) for index, packages in enumerate(FLOORS) for package in packages]
SHARED, CONTROL_PLANE, DATA_PLANE = modules("shared"), modules("control_plane"), modules("data_plane")


@pytest.mark.parametrize("path", SHARED, ids=module_name)
def test_shared_knows_neither_plane(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, ("control_plane", "data_plane"))]


@pytest.mark.parametrize("path", CONTROL_PLANE, ids=module_name)
def test_the_control_plane_does_not_import_the_data_plane(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, ("data_plane",))]


@pytest.mark.parametrize("path", DATA_PLANE, ids=module_name)
def test_the_data_plane_imports_only_what_is_below(path: Path) -> None:
    here = floor(module_name(path))
    for name in imports(path):
        assert not within(name, ("control_plane",))
        there = floor(name)
        if there is not None and module_name(path) != "data_plane":
            assert here is not None, f"{module_name(path)} stands on no floor"
            assert there >= here, f"{module_name(path)} imports {name} from above"


@pytest.mark.parametrize("path", [*SHARED, *DATA_PLANE], ids=module_name)
def test_pure_modules_do_no_io(path: Path) -> None:
    name = module_name(path)
    if within(name, PURE) and not within(name, IMPURE_BY_PURPOSE):
        assert not {imported.split(".")[0] for imported in imports(path)} & IO


@pytest.mark.parametrize("path", [*SHARED, *DATA_PLANE, *CONTROL_PLANE], ids=module_name)
@pytest.mark.parametrize(("library", "users"), [("wasmtime", ENGINE), ("lmdb", STATE)], ids=["wasmtime", "lmdb"])
def test_a_library_is_known_to_its_users_only(path: Path, library: str, users: tuple[str, ...]) -> None:
    if not within(module_name(path), users):
        assert library not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", [*DATA_PLANE, *CONTROL_PLANE], ids=module_name)
def test_the_planes_use_the_store_through_its_contract(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, STORE_ENGINES)]


@pytest.mark.parametrize("path", [*SHARED, *DATA_PLANE, *CONTROL_PLANE], ids=module_name)
def test_no_file_outgrows_its_reader(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 400


def test_no_circles() -> None:
    """Imports at module level form no cycle, in any of the packages."""
    paths = {module_name(path): path for path in [*SHARED, *DATA_PLANE, *CONTROL_PLANE]}
    graph = {name: {owner(target, paths) for target in imports(path)} for name, path in paths.items()}
    seen: dict[str, bool] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if seen.get(name):
            return
        for target in sorted(graph[name] - {name, ""}):
            visit(target, (*trail, name))
        seen[name] = True

    for name in sorted(graph):
        visit(name, ())


def owner(name: str, paths: dict[str, Path]) -> str:
    """The project's module that an imported name lives in, or an empty text."""
    while name and name not in paths:
        name = name.rpartition(".")[0]
    return name
