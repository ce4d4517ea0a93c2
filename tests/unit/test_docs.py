"""What the handbooks state as fact is what the code does, and what they link to is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import wasmtime

from control_plane.cli.settings import Settings
from data_plane.exchange.replies import REPLIES
from data_plane.observe.families import FAMILIES
from shared.plugin.registry import registry
from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS
from shared.proxy_wasm.core_build import ensure_core
from shared.proxy_wasm.limits import Limits
from shared.schema.plugins import native_conf
from shared.schema.wasm_plugin import MIN_MEMORY, LimitsSpec, WasmPluginSpec

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/**/README.md")])
PAGES = [page for page in PAGES if "node_modules" not in page.parts]
PLUGINS = (ROOT / "docs/plugins.md").read_text()
UNIMPLEMENTED = "answers 12 (Unimplemented)"


def rows(text: str, columns: int) -> list[list[str]]:
    """The cells of all tables with so many columns, without heads and rules."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in cells if len(row) == columns and row[0].startswith("`")]


@pytest.fixture(scope="module")
def core() -> wasmtime.Module:
    return wasmtime.Module(wasmtime.Engine(), ensure_core().read_bytes())


def test_the_table_of_host_functions_is_what_is_linked(core: wasmtime.Module) -> None:
    table = {name.strip("`"): state for name, state in rows(PLUGINS, 2) if name.startswith("`proxy_")}
    assert list(table) == list(HOST_FUNCTIONS)
    answered = {export.name for export in core.exports}
    for name, state in table.items():
        # What the core does not export is linked to a constant 12 (link.py).
        assert (state == UNIMPLEMENTED) == (name not in answered), name
        assert state == UNIMPLEMENTED or state.startswith("done"), name


def test_the_callbacks_that_are_never_called_are_named(core: wasmtime.Module) -> None:
    sentence = PLUGINS.partition("These callbacks are never called yet:")[2].partition(".\n")[0]
    called = {item.name for item in core.imports}
    assert re.findall(r"`(\w+)`", sentence) == [name for name in CALLBACKS if name not in called]


def test_the_limits_and_their_defaults() -> None:
    table = {row[0].strip("`"): row for row in rows(PLUGINS, 4)}
    defaults = LimitsSpec()
    assert list(table) == list(LimitsSpec.model_fields)
    assert defaults.model_dump() == {name: getattr(Limits(), name) for name in table}
    units = {"ms": 1, "MiB": 1 << 20, "calls": 1, "lines": 1}
    for name, (_, _, default, _) in table.items():
        number, _, unit = default.partition(" ")
        assert (None if number == "none" else int(number) * units[unit]) == getattr(defaults, name), name
    assert f"{MIN_MEMORY >> 20} MiB at least" in table["memory_bytes"][1]
    reference = (ROOT / "docs/admin-api.md").read_text()
    for name, value in defaults.model_dump().items():
        assert f"`{name}` {'none' if value is None else value}" in reference, name


def test_the_metrics_are_those_of_the_page() -> None:
    table = [row for row in rows((ROOT / "docs/operations.md").read_text(), 3) if row[1] in ("counter", "gauge", "histogram")]
    assert table == [[f"`{name}`", family.kind, family.help] for name, family in FAMILIES.items()]


def test_the_table_of_native_plugins_and_its_examples() -> None:
    table = {row[0].strip("`"): row for row in rows((ROOT / "docs/native-plugins.md").read_text(), 4)}
    for name, (_, priority, _, example) in table.items():
        plugin = registry().plugins[name]
        assert int(priority) == plugin.priority, name
        native_conf(plugin, json.loads(example.strip("`").replace("\\|", "|")))


def test_the_other_defaults() -> None:
    assert f"| `{WasmPluginSpec().failure_policy}` (default) |" in PLUGINS
    options = {row[2].strip("`"): row[3].strip("`") for row in rows((ROOT / "docs/operations.md").read_text(), 4)}
    settings = Settings()
    assert options["workers"] == str(settings.workers)
    assert (options["admin"], options["listen"]) == (str(settings.admin), str(settings.listen))


def test_the_statuses_of_the_gateway_s_own_answers() -> None:
    table = (ROOT / "docs/http.md").read_text().partition("| status | when |")[2].partition("\n\n")[0]
    named = [int(status) for row in table.splitlines() for status in re.findall(r"[0-9]{3}", row.split("|")[1] if row else "")]
    assert sorted(named) == sorted({reply.status for reply in REPLIES.values()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def test_every_promise_names_tests_that_exist() -> None:
    rows_of = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows_of if row != "| promise | test |"]
    assert promises
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, f"no test holds: {promise}"
        for file, test in named:
            assert (ROOT / file).is_file(), file
            assert re.search(rf"^\s*(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_every_lesson_of_others_names_tests_that_exist() -> None:
    lessons = [
        line for line in (ROOT / "docs/security.md").read_text().splitlines() if "CVE-" in line and line.startswith("| ")
    ]
    assert len(lessons) > 10
    for lesson in lessons:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", lesson)
        assert named, f"no test holds: {lesson}"
        for file, test in named:
            assert re.search(rf"^\s*(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
