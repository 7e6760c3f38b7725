"""Who may see the page: those with the token, and no other web site in somebody's browser."""

from __future__ import annotations

import hmac
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

COOKIE = "wildseg3d"
_LOCAL = ("127.0.0.1", "localhost", "::1")


class Guard:
    """ASGI middleware about all pages, files and WebSockets.

    With a token, a request needs it in its address, ``?token=...``, or in the cookie that such a
    request leaves. Without one the page is for this machine alone, and a request must name this
    machine as its host: a web site whose name was bound to 127.0.0.1 does not. A WebSocket must
    come from a page of this server: browsers let any site open one to anywhere.

    Args:
        app: what is guarded.
        token: None where only this machine can connect.
    """

    def __init__(self, app: Any, token: str | None = None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        problem = self._problem(headers) or self._strange_origin(headers)
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        given = query.pop("token", None)
        if problem:
            await _refuse(scope, send, problem)
        elif self._token is None or self._fits(_cookie(headers)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and given is not None and self._fits(given):
            target = scope["path"] + ("?" + urlencode(query) if query else "")
            await _redirect(send, target, f"{COOKIE}={given}; Path=/; HttpOnly; SameSite=Strict")
        else:
            await _refuse(
                scope, send, "This page needs the token: open the whole address that was printed."
            )

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _problem(self, headers: dict[str, str]) -> str:
        if self._token is not None:
            return ""
        host = urlsplit("//" + headers.get("host", "")).hostname
        if host in _LOCAL:
            return ""
        return "This page is for this machine alone; start it with --host to open it elsewhere."

    @staticmethod
    def _strange_origin(headers: dict[str, str]) -> str:
        origin = headers.get("origin")
        if origin is None or urlsplit(origin).netloc == headers.get("host"):
            return ""
        return "Requests of other web sites are refused."


def _cookie(headers: dict[str, str]) -> str:
    cookies = SimpleCookie(headers.get("cookie", ""))
    return cookies[COOKIE].value if COOKIE in cookies else ""


async def _redirect(send: Any, target: str, cookie: str) -> None:
    headers = [(b"location", target.encode()), (b"set-cookie", cookie.encode())]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: dict, send: Any, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode() + b"\n"})
