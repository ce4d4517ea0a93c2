"""Modules from URLs and registries: fetched, checked against digests, kept from private addresses, pinned."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from control_plane.sources import download
from control_plane.sources.addresses import resolve
from control_plane.sources.download import Downloader
from control_plane.sources.failure import SourceError
from control_plane.sources.oci import OciSource
from control_plane.sources.sources import Sources
from shared.store.contract import ConfigStore
from tests.support.admin import Admin, admin
from tests.support.certificates import make_certificates
from tests.support.guests import GUEST, assemble
from tests.support.registry import (
    INDEX,
    MANIFEST,
    TAR_LAYER,
    USER,
    WASM_LAYER,
    Registry,
    archive,
    basic,
    digest_of,
    registry,
)

WASM = assemble()
OTHER = assemble(GUEST.replace("1024", "2048"))
DIGEST = hashlib.sha256(WASM).hexdigest()
OTHER_DIGEST = hashlib.sha256(OTHER).hexdigest()

# A path -> status, fields, pieces of the body.
Page = tuple[int, dict[str, str], list[bytes]]


class Files:
    """A server of pages; `asked` are the paths and Host fields that it saw."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self.stop = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def took(self, path: str) -> int:
        return [seen for seen, _ in self.asked].count(path)


@contextmanager
def serving(files: Files, tls: ssl.SSLContext | None = None) -> Iterator[Files]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            files.asked.append((self.path, self.headers["host"]))
            status, fields, pieces = files.pages.get(self.path, (404, {}, []))
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            if "content-length" not in fields:
                self.send_header("connection", "close")
                self.close_connection = True
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                if self.path == "/stalls":
                    files.stop.wait(20)
            except OSError:
                # The control plane had enough.
                self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        files.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield files
        finally:
            files.stop.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def files() -> Iterator[Files]:
    with serving(Files()) as served:
        served.pages["/p.wasm"] = (200, {"content-length": str(len(WASM))}, [WASM])
        yield served


@pytest.fixture
async def api(store: ConfigStore) -> AsyncIterator[Admin]:
    async with admin(store, sources=Sources.of(allow_private=True)) as opened:
        yield opened


@pytest.fixture
async def strict(store: ConfigStore) -> AsyncIterator[Admin]:
    """As it is when nobody says otherwise."""
    async with admin(store) as opened:
        yield opened


async def put(api: Admin, **module: str) -> dict[str, str]:
    value = (await api.ok("PUT", "/wasm_plugins/p", {"module": module}))["value"]["module"]
    assert isinstance(value, dict)
    return value


async def refusal(api: Admin, **module: str) -> str:
    """Nothing is there afterwards."""
    message = await api.refused(400, "PUT", "/wasm_plugins/p", {"module": module})
    assert (await api.call("GET", "/wasm_plugins/p")).status_code == 404
    return message


# --- URLs


async def test_a_url_is_fetched_once(api: Admin, files: Files) -> None:
    url = files.url("/p.wasm")
    assert await put(api, url=url, sha256=DIGEST) == {"url": url, "sha256": DIGEST}
    assert (await api.call("GET", "/wasm_plugins/p/module")).content == WASM
    await put(api, url=url, sha256=DIGEST)
    await api.ok("PATCH", "/wasm_plugins/p", {"priority": 5})
    await api.ok("PUT", "/wasm_plugins/q", {"module": {"url": files.url("/elsewhere"), "sha256": DIGEST}})
    assert files.asked == [("/p.wasm", f"127.0.0.1:{files.port}")]


async def test_what_is_fetched_must_have_its_digest(api: Admin, files: Files) -> None:
    url = files.url("/p.wasm")
    message = await refusal(api, url=url, sha256=OTHER_DIGEST)
    assert message == f"module url {url}: its sha256 is {DIGEST}, expected {OTHER_DIGEST}"


async def test_redirects_are_followed_so_far(api: Admin, files: Files) -> None:
    files.pages["/to"] = (302, {"location": "/p.wasm"}, [])
    files.pages["/round"] = (307, {"location": "/round"}, [])
    assert (await put(api, url=files.url("/to"), sha256=DIGEST))["url"] == files.url("/to")
    assert "redirected more than 5 times" in await api.refused(
        400, "PUT", "/wasm_plugins/q", {"module": {"url": files.url("/round"), "sha256": OTHER_DIGEST}}
    )


LIMIT = 32 * 1024 * 1024
# A page -> part of what is said of it.
BAD_PAGES: dict[str, tuple[Page, str]] = {
    "/absent": ((404, {}, []), "status 404"),
    "/broken": ((500, {}, [b"x"]), "status 500"),
    "/announced": ((200, {"content-length": str(LIMIT + 1)}, []), f"{LIMIT + 1} bytes, more than the maximum of {LIMIT}"),
    "/endless": ((200, {}, [bytes(1 << 20)] * 34), f"more than the maximum of {LIMIT} bytes"),
    "/packed": ((200, {"content-encoding": "gzip"}, [WASM]), "content-encoding is gzip"),
    "/short": ((200, {"content-length": "99999", "connection": "close"}, [WASM]), "127.0.0.1: "),
    "/other-scheme": ((302, {"location": "ftp://127.0.0.1/x"}, []), "redirected from http to ftp"),
    "/no-module": ((200, {}, [b"text"]), "its sha256 is"),
}


@pytest.mark.parametrize("path", BAD_PAGES)
async def test_pages_that_are_no_module(api: Admin, files: Files, path: str) -> None:
    files.pages[path], said = BAD_PAGES[path]
    message = await refusal(api, url=files.url(path), sha256=DIGEST)
    assert message.startswith(f"module url {files.url(path)}: ")
    assert said in message


async def test_a_digest_of_something_that_is_no_plugin(api: Admin, files: Files) -> None:
    files.pages["/text"] = (200, {}, [b"text"])
    message = await refusal(api, url=files.url("/text"), sha256=hashlib.sha256(b"text").hexdigest())
    assert "not a Wasm module" in message


async def test_a_server_that_says_nothing(store: ConfigStore, files: Files) -> None:
    downloader = Downloader(allow_private=True, total_seconds=0.3)
    files.pages["/stalls"] = (200, {}, [WASM[:10]])
    async with admin(store, sources=Sources(downloader, OciSource(downloader))) as api:
        assert "not within 0.3 s" in await refusal(api, url=files.url("/stalls"), sha256=DIGEST)


async def test_nobody_listens(api: Admin, files: Files) -> None:
    message = await refusal(api, url="http://127.0.0.1:1/", sha256=DIGEST)
    assert "127.0.0.1 cannot be reached" in message
    assert "no.such.host.invalid cannot be resolved" in await refusal(api, url="http://no.such.host.invalid/", sha256=DIGEST)


# --- private addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1"])
async def test_private_addresses_are_not_asked(strict: Admin, files: Files, host: str) -> None:
    message = await refusal(strict, url=files.url("/p.wasm", host), sha256=DIGEST)
    assert "which is not public; --allow-private-module-sources allows it" in message
    assert files.asked == []


async def test_a_redirect_to_a_private_address_is_not_followed(
    strict: Admin, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "resolve", resolving({"modules.test": ["127.0.0.1"]}))
    files.pages["/away"] = (302, {"location": files.url("/p.wasm")}, [])
    message = await refusal(strict, url=files.url("/away", "modules.test"), sha256=DIGEST)
    assert "127.0.0.1 has the address 127.0.0.1, which is not public" in message
    assert files.asked == [("/away", f"modules.test:{files.port}")]


def resolving(known: dict[str, list[str]]) -> Callable[..., object]:
    """As `resolve`, but for these names."""

    async def resolving_these(host: str, port: int, *, allow_private: bool) -> list[str]:
        return known[host] if host in known else await resolve(host, port, allow_private=allow_private)

    return resolving_these


async def test_the_address_that_was_checked_is_the_one_that_is_asked(
    strict: Admin, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name is looked up a second time. Addresses are tried in order."""
    monkeypatch.setattr(download, "resolve", resolving({"modules.test": ["127.0.0.2", "127.0.0.1"]}))
    url = files.url("/p.wasm", "modules.test")
    assert await put(strict, url=url, sha256=DIGEST) == {"url": url, "sha256": DIGEST}
    assert files.asked == [("/p.wasm", f"modules.test:{files.port}")]


async def test_tls_is_checked_against_the_name(strict: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # For localhost, among others.
    made = make_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    trusting = ssl.create_default_context(cafile=made.ca)
    monkeypatch.setattr(download, "_tls", lambda: trusting)
    names = {"localhost": ["127.0.0.1"], "other.test": ["127.0.0.1"]}
    monkeypatch.setattr(download, "resolve", resolving(names))
    files = Files()
    files.pages["/p.wasm"] = (200, {"content-length": str(len(WASM))}, [WASM])
    asked_for: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    with serving(files, context):
        port = files.port
        message = await refusal(strict, url=f"https://other.test:{port}/p.wasm", sha256=DIGEST)
        assert "certificate" in message
        await put(strict, url=f"https://localhost:{port}/p.wasm", sha256=DIGEST)
    assert asked_for == ["other.test", "localhost"]


# --- registries


@pytest.fixture
def images() -> Iterator[Registry]:
    with registry() as opened:
        yield opened


def reference(images: Registry, rest: str = ":1.0") -> str:
    return f"oci://{images.host}/team/plugin{rest}"


LAYOUTS = {
    "artefact": [(WASM_LAYER, WASM)],
    "cncf": [("application/wasm", WASM)],
    "image": [(TAR_LAYER, archive({"plugin.wasm": WASM}))],
    "docker": [("application/vnd.docker.image.rootfs.diff.tar.gzip", archive({"./plugin.wasm": WASM}))],
    "layers": [(TAR_LAYER, archive({"plugin.wasm": OTHER})), (TAR_LAYER, archive({"doc": b"x", "plugin.wasm": WASM}))],
    "plain tar": [("application/vnd.oci.image.layer.v1.tar", archive({"plugin.wasm": WASM}, packed=False))],
    "with config": [("application/vnd.module.wasm.config.v1+json", b"{}"), (WASM_LAYER, WASM)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_tag_is_pulled_and_pinned(api: Admin, images: Registry, layout: str) -> None:
    digest = images.push("1.0", *LAYOUTS[layout])
    pinned = reference(images, f":1.0@{digest}")
    assert await put(api, oci=reference(images)) == {"oci": pinned, "sha256": DIGEST}
    assert (await api.call("GET", "/wasm_plugins/p/module")).content == WASM
    # What is stored says all; nothing is asked again for it.
    asked = len(images.asked)
    await api.ok("PATCH", "/wasm_plugins/p", {"priority": 1})
    await put(api, oci=pinned, sha256=DIGEST)
    assert len(images.asked) == asked


async def test_a_digest_is_pulled_whatever_the_tag_is_now(api: Admin, images: Registry) -> None:
    digest = images.push("1.0", (WASM_LAYER, WASM))
    images.push("1.0", (WASM_LAYER, OTHER))
    assert (await put(api, oci=reference(images, f":1.0@{digest}")))["sha256"] == DIGEST
    assert (await put(api, oci=reference(images, f"@{digest}")))["oci"] == reference(images, f"@{digest}")
    assert (await put(api, oci=reference(images)))["sha256"] == OTHER_DIGEST


async def test_layers_that_the_store_has_are_not_pulled(api: Admin, images: Registry) -> None:
    images.push("1.0", (WASM_LAYER, WASM))
    for _ in range(3):
        await put(api, oci=reference(images))
    assert (images.took("manifests"), images.took("blobs")) == (3, 1)


async def test_the_manifest_for_wasm_is_chosen(api: Admin, images: Registry) -> None:
    wasm, other = images.push("x", (WASM_LAYER, WASM)), images.push("y", (WASM_LAYER, OTHER))
    entries = [
        {"mediaType": MANIFEST, "digest": other, "platform": {"os": "linux", "architecture": "amd64"}},
        {"mediaType": MANIFEST, "digest": wasm, "platform": {"os": "wasip1", "architecture": "wasm"}},
    ]
    digest = images.manifest("1.0", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    assert await put(api, oci=reference(images)) == {"oci": reference(images, f":1.0@{digest}"), "sha256": DIGEST}
    images.manifest("1.1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, entries[1]]})
    message = await api.refused(400, "PUT", "/wasm_plugins/p", {"module": {"oci": reference(images, ":1.1")}})
    assert "the image has 2 manifests (wasip1/wasm, wasip1/wasm)" in message


async def test_a_sha256_beside_the_reference_is_checked(api: Admin, images: Registry) -> None:
    images.push("1.0", (WASM_LAYER, WASM))
    message = await refusal(api, oci=reference(images), sha256=OTHER_DIGEST)
    assert message.endswith(f"its sha256 is {DIGEST}, expected {OTHER_DIGEST}")
    await put(api, oci=reference(images), sha256=DIGEST)
    images.push("2.0", (WASM_LAYER, OTHER))
    changed = await api.ok("PATCH", "/wasm_plugins/p", {"module": {"oci": reference(images, ":2.0")}})
    assert changed["value"]["module"]["sha256"] == OTHER_DIGEST, "the old digest belongs to the old reference"


def config(tmp_path: Path, host: str, user: str = USER) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(user.encode()).decode()}}}))
    return path


@pytest.mark.parametrize("access", ["token", "user-token", "basic"])
async def test_access(store: ConfigStore, images: Registry, tmp_path: Path, access: str) -> None:
    images.access = access  # type: ignore[assignment]  # one of its literals
    images.push("1.0", (WASM_LAYER, WASM))
    path = None if access == "token" else config(tmp_path, images.host)
    async with admin(store, sources=Sources.of(allow_private=True, registry_config=path)) as api:
        assert (await put(api, oci=reference(images)))["sha256"] == DIGEST
    assert images.shown[0] is None, "nothing is shown to a registry that has not asked"
    assert images.took("manifests") == 2
    assert images.took("blobs") == 1, "the access that was given is kept for the pull"


async def test_access_that_is_refused(store: ConfigStore, images: Registry, tmp_path: Path) -> None:
    images.push("1.0", (WASM_LAYER, WASM))
    wrong = Sources.of(allow_private=True, registry_config=config(tmp_path, images.host, "robot:wrong"))
    none = Sources.of(allow_private=True, registry_config=config(tmp_path / "..", "elsewhere.test"))
    for sources, access, said in (
        (wrong, "basic", "refuses access to team/plugin/manifests/1.0 with these credentials"),
        (wrong, "user-token", "gave no token (status 401)"),
        (none, "basic", "wants credentials, and there are none for it"),
        (none, "user-token", "gave no token (status 401)"),
        (none, "strange", "wants an access that is not known: Negotiate"),
    ):
        images.access = access  # type: ignore[assignment]  # one of its literals
        async with admin(store, sources=sources) as api:
            assert said in await refusal(api, oci=reference(images))


async def test_credentials_do_not_follow_a_redirect_to_another_origin(
    store: ConfigStore, images: Registry, tmp_path: Path
) -> None:
    images.access = "basic"
    with registry() as blobs:
        blobs.push("1.0", (WASM_LAYER, WASM))
        images.push("1.0", (WASM_LAYER, WASM))
        images.blobs_at = f"http://{blobs.host}"
        sources = Sources.of(allow_private=True, registry_config=config(tmp_path, images.host))
        async with admin(store, sources=sources) as api:
            await put(api, oci=reference(images))
    assert images.shown[-1] == basic(USER)
    assert blobs.shown == [None]


async def test_registries_on_private_addresses_are_not_asked(strict: Admin, images: Registry) -> None:
    images.push("1.0", (WASM_LAYER, WASM))
    assert "which is not public" in await refusal(strict, oci=reference(images))
    assert images.asked == []


def sent_otherwise(images: Registry) -> None:
    digest = images.push("1.0", (WASM_LAYER, WASM))
    images.documents[f"manifests/{digest}"] = (MANIFEST, b"{}")
    images.documents["manifests/1.0"] = images.documents[f"manifests/{digest}"]


def layer_sent_otherwise(images: Registry) -> None:
    images.push("1.0", (WASM_LAYER, WASM))
    images.documents[f"blobs/{digest_of(WASM)}"] = (WASM_LAYER, OTHER)


def pushing(*layers: tuple[str, bytes]) -> Callable[[Registry], object]:
    return lambda images: images.push("1.0", *layers)


BOMB = archive({"big": bytes(70 << 20)})
BAD_IMAGES: dict[str, tuple[Callable[[Registry], object], str]] = {
    "no image": (lambda _images: None, "the registry has no team/plugin/manifests/1.0"),
    "a layer that was changed": (layer_sent_otherwise, f"the digest sha256:{OTHER_DIGEST}, expected sha256:{DIGEST}"),
    "no layers": (pushing(), "the image has 0 Wasm layers, expected one; its layers: none"),
    "two modules": (pushing((WASM_LAYER, WASM), (WASM_LAYER, OTHER)), "the image has 2 Wasm layers"),
    "another kind": (pushing(("application/zip", b"PK")), "its layers: application/zip"),
    "no plugin in it": (pushing((TAR_LAYER, archive({"a": b"", "b": b""}))), "has no file plugin.wasm; it has a, b"),
    "no archive": (pushing((TAR_LAYER, b"text")), "cannot be unpacked"),
    "half an archive": (pushing((TAR_LAYER, archive({"plugin.wasm": WASM})[:-20])), "cannot be unpacked"),
    "a bomb": (pushing((TAR_LAYER, BOMB)), "more than 67108864 bytes unpacked"),
    "no plugin": (pushing((WASM_LAYER, b"text")), "not a Wasm module"),
    "no manifest": (lambda images: images.manifest("1.0", ["x"]), "the registry's manifest is not an object"),
    "an empty index": (
        lambda images: images.manifest("1.0", {"mediaType": INDEX, "manifests": []}),
        "the image has 0 manifests (none)",
    ),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
async def test_images_that_are_no_plugin(api: Admin, images: Registry, case: str) -> None:
    prepare, said = BAD_IMAGES[case]
    prepare(images)
    message = await refusal(api, oci=reference(images))
    assert message.startswith(f"module oci {reference(images)}: ")
    assert said in message


async def test_a_manifest_that_is_not_the_one_that_is_pinned(api: Admin, images: Registry) -> None:
    digest = images.push("1.0", (WASM_LAYER, WASM))
    images.documents[f"manifests/{digest}"] = (MANIFEST, b"{}")
    message = await refusal(api, oci=reference(images, f"@{digest}"))
    assert f"the manifest that the registry sent has the digest {digest_of(b'{}')}, expected {digest}" in message


async def test_damaged_credentials(images: Registry, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, said in (("{", "are not JSON"), (json.dumps({"auths": {images.host: {"auth": "*"}}}), "auth is not base64")):
        path.write_text(text)
        with pytest.raises(SourceError, match=said):
            await Sources.of(allow_private=True, registry_config=path).pull(reference(images), has_nothing)
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        await Sources.of(allow_private=True, registry_config=path).pull(reference(images), has_nothing)


async def has_nothing(_sha256: str) -> bool:
    return False
