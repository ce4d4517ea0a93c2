"""Client certificates of upstreams in the Admin API: what is referred to stays, what is secret is not read back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.admin import NODES, Admin
from tests.support.certificates import make_certificates

SECURED = {**NODES, "scheme": "https"}
REFERRING = {**SECURED, "tls": {"client_cert_id": "c"}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = make_certificates(tmp_path_factory.mktemp("tls") / "certificates")
    return {"cert": made.cert.read_text(), "key": made.key.read_text()}


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/upstreams/1", REFERRING),
        ("/routes/1", {"uri": "/", "upstream": REFERRING}),
        ("/services/1", {"upstream": REFERRING}),
    ],
)
async def test_a_certificate_that_is_referred_to(api: Admin, pair: dict[str, str], path: str, document: dict[str, Any]) -> None:
    assert await api.refused(400, "PUT", path, document) == "failed to fetch ssl info by ssl id [c], response code: 404"
    await api.ok("PUT", "/ssls/c", {"type": "client", **pair})
    await api.ok("PUT", path, document)
    user = path.split("/")[1].removesuffix("s")
    assert await api.refused(400, "DELETE", "/ssls/c") == f"can not delete this ssl, {user} [1] is still using it now"


@pytest.mark.parametrize("owner", ["/upstreams/1", "/services/1"])
async def test_a_key_is_not_read_back(api: Admin, pair: dict[str, str], owner: str) -> None:
    upstream = {**SECURED, "tls": {"client_cert": pair["cert"], "client_key": pair["key"]}}
    document = upstream if owner.startswith("/upstreams") else {"upstream": upstream}
    written = await api.call("PUT", owner, document)
    assert written.status_code == 201
    read = [written, await api.call("GET", owner), await api.call("GET", owner.rpartition("/")[0])]
    assert all("PRIVATE KEY" not in answer.text and "BEGIN CERTIFICATE" in answer.text for answer in read)
    # A patch of something else keeps it.
    patched = await api.call("PATCH", owner, {"desc": "x"})
    assert (patched.status_code, "PRIVATE KEY" in patched.text) == (200, False)


async def test_a_key_of_another_certificate(api: Admin, pair: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_certificates(tmp_path_factory.mktemp("other") / "certificates")
    tls = {"client_cert": pair["cert"], "client_key": other.key.read_text()}
    message = await api.refused(400, "PUT", "/upstreams/1", {**SECURED, "tls": tls})
    assert "`client_cert`: the key does not belong to the certificate" in message
