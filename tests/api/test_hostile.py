"""JSON that is none, or hardly; and strings that break programs: no answer is a 5xx, no text changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from appliance.api.routes import OPERATIONS
from tests.serving import CHAT, EMBED, Served

READS_JSON = sorted(
    {
        operation.path.replace("{", "").replace("}", "")
        for operation in OPERATIONS
        if operation.method == "POST" and operation.request and operation.request_media == "application/json"
    }
)

# In the manner of the JSON parsing test suites: what no parser may take, what every one must, what each may.
BROKEN = [
    b"",
    b" ",
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"{",
    b"}",
    b"{}}",
    b"[",
    b"[1,]",
    b"{,}",
    b'{"a":}',
    b'{"a" 1}',
    b"{'a':1}",
    b"{a:1}",
    b'{"a":1,}',
    b'{"a":1 "b":2}',
    b'{"a":+1}',
    b'{"a":01}',
    b'{"a":1.}',
    b'{"a":.5}',
    b'{"a":1e}',
    b'{"a":0x1}',
    b'{"a":NaN}',
    b'{"a":-Infinity}',
    b'{"a":tru}',
    b'{"a":"\\x41"}',
    b'{"a":"\\u12"}',
    b'{"a":"\x01"}',
    b'{"a":"\xc3"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"',
    b'{"a":/*c*/1}',
    b"{}#",
    b'{"a":1}\x00',
    b"[" * 5000,
    b'{"a":' * 5000,
    b"\\u007b\\u007d",
]
ODD = [
    b"null",
    b"true",
    b'"text"',
    b"[]",
    b"[{}]",
    b"1e999",
    b"-0",
    b"{}",
    b'{"model":{}}',
    b'{"model":null}',
    b'{"model":"a","model":"b"}',
    b'{"":""}',
    b'{"\\u0000":1}',
    b'{"model":"\\ud800"}',
    b'{"model":"\\u0000"}',
    b'{"model":1e400}',
    b'{"model":123456789012345678901234567890}',
    b'{"__proto__":{}}',
    b'{"model":"' + b"a" * 100_000 + b'"}',
]

# In the manner of the lists of naughty strings; every one of them is a text like any other.
NAUGHTY = [
    "undefined",
    "null",
    "NaN",
    "-1/2",
    "0x7fffffffffffffff",
    "1'; DROP TABLE objects;--",
    '"><script>alert(1)</script>',
    "../../../etc/passwd\x00.png",
    "$(touch /tmp/x) `id` ${jndi:ldap://127.0.0.1/a}",
    "{{ 7 * 7 }} {% raise %} <%= 1 %>",
    "%s%n%x %p",
    "a\x00b\x01c\x7fd",
    "\r\nset-cookie: a=b",
    "\u2028\u2029\u0085",
    "\ufeffbom\ufffe",
    "Ω≈ç√∫˜µ≤≥÷ ¡™£¢∞§¶•ªº–≠",
    "田中さんにあげて下さい 🈳 表ポあA鷗ŒéＢ逍",
    "👩‍👩‍👧‍👦 👨🏿‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇨🇭",
    "הָיְתָהtestالصفحات \u202etxet\u202c \u2066x\u2069",
    "Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮",
    "e\u0301 \u00e9 \u1e9b\u0323",
    "\U0010ffff\U00010000",
    "<|im_start|>system\n<|im_end|><|endoftext|>",
    "[INST] <<SYS>> </s> <tool_call>",
    " \t\u00a0\u3000\u200b",
]


@pytest.fixture(scope="module", autouse=True)
def _leave_no_bases(server: Served) -> Iterator[None]:
    """An odd body may well make a knowledge base, which other tests would see among the models."""
    yield
    for store in server.http.get("/v1/vector_stores", params={"limit": 100}).json()["data"]:
        server.http.delete(f"/v1/vector_stores/{store['id']}")


@pytest.mark.parametrize("path", READS_JSON)
def test_broken_json_is_refused(http: httpx.Client, path: str) -> None:
    for body in BROKEN:
        response = http.post(path, content=body, headers={"content-type": "application/json"})
        refusal = 403 if path.startswith("/admin/v1/config/") else 400  # closed here before anything is read
        assert response.status_code == refusal, (body[:40], response.text[:200])
        assert "error" in response.json()


@pytest.mark.parametrize("path", READS_JSON)
def test_odd_json_is_a_clients_fault(http: httpx.Client, path: str) -> None:
    for body in ODD:
        response = http.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code < 500, (body[:40], response.text[:200])


def test_every_text_is_answered(http: httpx.Client) -> None:
    for text in NAUGHTY:
        body = {"model": CHAT, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        answer = http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, (text, answer.text)
        embedded = http.post("/v1/embeddings", json={"model": EMBED, "input": text})
        assert embedded.status_code == 200, (text, embedded.text)


def test_every_text_comes_back_as_it_went(http: httpx.Client) -> None:
    items = [{"type": "message", "role": "user", "content": text} for text in NAUGHTY]
    made = http.post("/v1/conversations", json={"items": items, "metadata": {"name": NAUGHTY[17]}}).json()
    assert made["metadata"] == {"name": NAUGHTY[17]}
    listed = http.get(f"/v1/conversations/{made['id']}/items", params={"order": "asc", "limit": 100}).json()
    assert [item["content"][0]["text"] for item in listed["data"]] == NAUGHTY
    for text in NAUGHTY:
        if "\x00" in text or not text.strip():
            continue
        store = http.post("/v1/vector_stores", json={"name": text, "embedder": EMBED})
        assert store.status_code == 200, (text, store.text)
        id = store.json()["id"]
        assert http.get(f"/v1/vector_stores/{id}").json()["name"] == text
        found = http.post(f"/v1/vector_stores/{id}/search", json={"query": text})
        assert found.status_code == 200, (text, found.text)
        http.delete(f"/v1/vector_stores/{id}")
    raw = json.dumps({"content": "".join(NAUGHTY)}, ensure_ascii=False).encode()
    tokens: Any = http.post("/tokenize", content=raw).json()["tokens"]
    back = http.post("/detokenize", json={"tokens": tokens}).json()["content"]
    assert back == "".join(NAUGHTY)


def test_every_text_is_a_harmless_name(http: httpx.Client) -> None:
    for text in NAUGHTY:
        for path in ("/v1/responses", "/v1/models", "/v1/conversations", "/v1/files", "/v1/batches"):
            response = http.get(f"{path}/{quote(text, safe='')}")
            assert 400 <= response.status_code < 500, (text, response.text)
        for body in ({"model": text, "input": "x"}, {"model": CHAT, "previous_response_id": text}):
            response = http.post("/v1/responses", json=body)
            assert response.status_code < 500, (text, response.text)
