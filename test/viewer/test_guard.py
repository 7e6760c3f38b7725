"""Who is let in, over plain ASGI."""

from __future__ import annotations

import asyncio

import pytest

from wildseg3d_ros.viewer.guard import COOKIE, Guard

TOKEN = "secret"


def knock(token, kind="http", host="127.0.0.1:8080", query="", **headers):
    """What is sent to somebody who knocks; [] where the page itself answers."""
    sent = []

    async def page(scope, receive, send):
        sent.append("page")

    async def send(message):
        sent.append(message)

    given = {"host": host, **headers}
    scope = {
        "type": kind,
        "path": "/",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }
    asyncio.run(Guard(page, token)(scope, None, send))
    return [] if sent == ["page"] else sent


def test_guard_takes_the_token_once_and_then_its_cookie():
    answer = knock(TOKEN, host="robot:8080", query=f"token={TOKEN}&a=b")
    headers = dict(answer[0]["headers"])
    assert answer[0]["status"] == 303
    assert headers[b"location"] == b"/?a=b"
    cookie = headers[b"set-cookie"].decode().split(";")[0]
    assert "HttpOnly" in headers[b"set-cookie"].decode()
    for kind in ("http", "websocket"):
        assert knock(TOKEN, kind, host="robot:8080", cookie=cookie) == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("given", [{}, {"cookie": f"{COOKIE}=guess"}, {"query": "token=guess"}])
def test_guard_refuses_who_has_no_token(kind, given):
    answer = knock(TOKEN, kind, host="robot:8080", **given)
    assert answer[0].get("status", answer[0].get("code")) in (403, 1008)


def test_guard_without_token_answers_this_machine_alone():
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        assert knock(None, host=host) == []
    # A name of somebody else's that leads to 127.0.0.1.
    assert knock(None, host="evil.example:8080")[0]["status"] == 403


@pytest.mark.parametrize("token", [None, TOKEN])
def test_guard_refuses_web_sockets_of_other_sites(token):
    own = {"cookie": f"{COOKIE}={TOKEN}", "origin": "http://127.0.0.1:8080"}
    assert knock(token, "websocket", **own) == []
    foreign = {**own, "origin": "https://evil.example"}
    assert knock(token, "websocket", **foreign)[0]["type"] == "websocket.close"
