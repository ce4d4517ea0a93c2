"""The page that shows every operation and schema: Swagger UI over our own OpenAPI document.

The law: the page needs nothing but this server, so that it works on a machine without a network and tells nobody that it
was opened; the browser is told so too. It needs no key: it holds no data, and asks for the key when an operation is tried.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

# References are relative, so that the page also works behind a proxy that adds a prefix.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Waspgate Admin API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Without `validatorUrl: null` the page shows the document's address to a public validator.
START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null});
"""
# Swagger UI draws its icons from data URLs and sets styles on elements.
HEADERS = {"Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"}

BUNDLED = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


def register(router: APIRouter) -> None:
    folder = Path(str(files("fastapi_offline"))) / "static"

    async def page() -> Response:
        return Response(PAGE, headers=HEADERS, media_type="text/html")

    async def start() -> Response:
        return Response(START, media_type="text/javascript")

    _add(router, "", page)
    _add(router, "/start.js", start)
    for name, media_type in BUNDLED.items():
        _add(router, f"/{name}", _file(folder / name, media_type))


def _file(path: Path, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return FileResponse(path, media_type=media_type)

    return answer


def _add(router: APIRouter, path: str, answer: Callable[[], Awaitable[Response]]) -> None:
    router.add_api_route(f"/docs{path}", answer, methods=["GET"], include_in_schema=False)
