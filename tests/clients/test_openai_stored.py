"""Chat completions that are kept, batches and uploads, through the real openai SDK."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch, BatchRequestCounts

from appliance.api.batches.records import OPEN_STATES
from tests.conftest import StartServer
from tests.serving import CHAT, Served


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


def test_a_kept_answer_is_found_changed_and_deleted(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(
        model=CHAT,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        store=True,
        metadata={"topic": "greeting"},
        max_tokens=6,
    )
    found = sdk.chat.completions.retrieve(made.id)
    assert found.choices == made.choices
    assert found.usage == made.usage
    assert made.id in [each.id for each in sdk.chat.completions.list(metadata={"topic": "greeting"})]
    assert made.id not in [each.id for each in sdk.chat.completions.list(metadata={"topic": "other"})]
    assert made.id not in [each.id for each in sdk.chat.completions.list(model="another")]
    messages = list(sdk.chat.completions.messages.list(made.id))
    assert [(message.role, message.content) for message in messages] == [
        ("system", "Be brief."),
        ("user", "Hello?"),
    ]
    changed = sdk.chat.completions.update(made.id, metadata={"topic": "other"})
    assert changed.to_dict()["metadata"] == {"topic": "other"}
    assert made.id in [each.id for each in sdk.chat.completions.list(metadata={"topic": "other"})]
    assert sdk.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.retrieve(made.id)


def test_a_kept_stream_is_whole(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello?"}], store=True, max_tokens=6, stream=True
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    found = sdk.chat.completions.retrieve(chunks[0].id)
    assert found.choices[0].message.content == text
    told = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert [found.choices[0].finish_reason] == told


def test_what_is_not_to_be_kept_is_not(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello?"}], max_tokens=4
    )
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.retrieve(made.id)


def line(number: int, **body: object) -> dict[str, object]:
    asked = {"model": CHAT, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4, **body}
    return {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": asked}


def upload(sdk: openai.OpenAI, lines: list[dict[str, object]]) -> str:
    raw = "\n".join(json.dumps(each) for each in lines).encode()
    return sdk.files.create(file=("in.jsonl", raw), purpose="batch").id


def finished(sdk: openai.OpenAI, id: str) -> Batch:
    ends_at = time.monotonic() + 90
    while (batch := sdk.batches.retrieve(id)).status in OPEN_STATES:
        assert time.monotonic() < ends_at, batch
        time.sleep(0.05)
    return batch


def results(sdk: openai.OpenAI, file: str | None) -> dict[str, Any]:
    assert file is not None
    lines = [json.loads(each) for each in sdk.files.content(file).text.splitlines()]
    return {each["custom_id"]: each for each in lines}


def start(sdk: openai.OpenAI, lines: list[dict[str, object]]) -> Batch:
    return sdk.batches.create(
        input_file_id=upload(sdk, lines), endpoint="/v1/chat/completions", completion_window="24h"
    )


def test_a_batch_is_answered_line_by_line(sdk: openai.OpenAI) -> None:
    made = start(sdk, [line(1), line(2, temperature=9), line(3, n=2)])
    assert made.status == "validating"
    done = finished(sdk, made.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed, done.request_counts.total) == (2, 1, 3)
    answers = results(sdk, done.output_file_id)
    assert set(answers) == {"n1", "n3"}
    assert len(answers["n3"]["response"]["body"]["choices"]) == 2
    assert answers["n1"]["response"]["status_code"] == 200
    errors = results(sdk, done.error_file_id)
    assert errors["n2"]["response"]["body"]["error"]["param"] == "temperature"
    assert done.usage is not None
    assert 3 <= done.usage.output_tokens <= 12
    assert made.id in [batch.id for batch in sdk.batches.list()]


def test_a_file_that_is_no_batch_fails_with_its_lines(sdk: openai.OpenAI) -> None:
    file = sdk.files.create(file=("in.jsonl", b'{"custom_id": "a"}\nnonsense\n'), purpose="batch")
    made = sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    failed = finished(sdk, made.id)
    assert failed.status == "failed"
    assert failed.errors is not None
    assert [error.line for error in failed.errors.data or []] == [1, 2]
    twice = finished(sdk, start(sdk, [line(1), line(1)]).id)
    assert twice.errors is not None
    assert [error.code for error in twice.errors.data or []] == ["duplicate_custom_id"]
    other = sdk.files.create(file=("in.jsonl", b"{}"), purpose="assistants")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        sdk.batches.create(input_file_id=other.id, endpoint="/v1/chat/completions", completion_window="24h")


def test_a_cancelled_batch_keeps_what_it_has(sdk: openai.OpenAI) -> None:
    made = start(sdk, [line(n, max_tokens=200, ignore_eos=True) for n in range(60)])
    cancelled = sdk.batches.cancel(made.id)
    assert cancelled.status == "cancelling"
    done = finished(sdk, made.id)
    assert done.status == "cancelled"
    assert done.request_counts is not None
    assert done.request_counts.completed < 60


def test_a_batch_goes_on_after_a_restart(start_server: StartServer) -> None:
    served = start_server("archive.batch_parallel=2")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        made = start(sdk, [line(n, max_tokens=30, ignore_eos=True) for n in range(12)])
        served.wait_until(lambda: (counts(sdk, made.id).completed) >= 3, 60)
        before = counts(sdk, made.id).completed
    served.process.kill()
    served.process.wait()
    assert before < 12
    again = start_server("archive.batch_parallel=8", home=served.home)
    with openai.OpenAI(base_url=f"{again.url}/v1", api_key="any", max_retries=0) as sdk:
        done = finished(sdk, made.id)
        assert done.status == "completed"
        answers = results(sdk, done.output_file_id)
        assert set(answers) == {f"n{n}" for n in range(12)}
        assert len(sdk.files.content(done.output_file_id or "").text.splitlines()) == 12


def counts(sdk: openai.OpenAI, id: str) -> BatchRequestCounts:
    found = sdk.batches.retrieve(id).request_counts
    assert found is not None
    return found


def test_a_file_comes_in_parts(sdk: openai.OpenAI) -> None:
    content = bytes(range(256)) * 40
    upload = sdk.uploads.create(
        filename="a.bin", bytes=len(content), mime_type="application/octet-stream", purpose="user_data"
    )
    assert upload.status == "pending"
    second = sdk.uploads.parts.create(upload.id, data=content[5000:])
    first = sdk.uploads.parts.create(upload.id, data=content[:5000])
    with pytest.raises(openai.BadRequestError, match="were announced"):
        sdk.uploads.complete(upload.id, part_ids=[first.id])
    with pytest.raises(openai.BadRequestError, match="md5"):
        sdk.uploads.complete(upload.id, part_ids=[first.id, second.id], md5="0" * 32)
    done = sdk.uploads.complete(
        upload.id, part_ids=[first.id, second.id], md5=hashlib.md5(content).hexdigest()
    )
    assert done.status == "completed"
    assert done.file is not None
    assert sdk.files.content(done.file.id).read() == content
    with pytest.raises(openai.BadRequestError, match="completed"):
        sdk.uploads.parts.create(upload.id, data=b"more")


def test_the_upload_helper_and_a_cancelled_upload(sdk: openai.OpenAI) -> None:
    content = b"words " * 5000
    done = sdk.uploads.upload_file_chunked(
        file=content,
        filename="w.txt",
        bytes=len(content),
        mime_type="text/plain",
        purpose="user_data",
        part_size=10_000,
    )
    assert done.file is not None
    assert done.file.bytes == len(content)
    upload = sdk.uploads.create(filename="a", bytes=3, mime_type="text/plain", purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="more than the 3 bytes"):
        sdk.uploads.parts.create(upload.id, data=b"much more")
    assert sdk.uploads.cancel(upload.id).status == "cancelled"
