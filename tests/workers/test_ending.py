"""How a server ends: in order when asked, and without orphans when it is killed."""

from __future__ import annotations

import signal
import socket
import threading
import time

import httpx
import psutil
import pytest

from tests.conftest import StartServer
from tests.serving import CHAT, EMBED, chat_body, parse_events


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    return False


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a dead one that nobody has collected yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_streams_finish_and_takes_nothing_new(
    start_server: StartServer, how: signal.Signals
) -> None:
    served = start_server(models=(CHAT, EMBED))
    host, _, port = served.url.removeprefix("http://").partition(":")
    body = chat_body(ignore_eos=True, max_tokens=60, stream=True)
    stopping = threading.Thread(target=served.stop, args=(how,))
    raw = b""
    with (
        httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        chunks = response.iter_raw()
        raw += next(chunks)
        stopping.start()
        served.wait_until(lambda: "Shutting down" in served.log, seconds=5)
        served.wait_until(lambda: refuses((host, int(port))), seconds=2)
        raw += b"".join(chunks)
    stopping.join()
    events, is_done = parse_events(raw)
    assert is_done, "the stream was cut"
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert served.process.returncode == 0


def test_a_stream_longer_than_the_drain_is_cut_and_the_server_still_ends(start_server: StartServer) -> None:
    served = start_server("limits.drain=1")
    body = chat_body(ignore_eos=True, max_tokens=8000, stream=True)
    with served.http.stream("POST", "/v1/chat/completions", json=body) as response:
        chunks = response.iter_raw()
        next(chunks)
        served.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in chunks:
                pass
    assert served.process.wait(10) == 0


def test_a_stop_while_the_models_load_is_obeyed_at_once(start_server: StartServer) -> None:
    served = start_server()
    old = served.worker("generator")
    old.kill()
    served.wait_until(lambda: served.has_new_worker("generator", old), seconds=10)
    served.stop(seconds=5)


def test_a_killed_gateway_takes_its_workers_along(start_server: StartServer) -> None:
    served = start_server(models=(CHAT, EMBED))
    workers = psutil.Process(served.process.pid).children(recursive=True)
    assert len(workers) == 2
    served.process.kill()
    served.process.wait()
    ends_at = time.monotonic() + 1
    while any(map(lives, workers)):
        assert time.monotonic() < ends_at, f"{workers} outlive their gateway"
        time.sleep(0.02)


def test_a_workers_signals_are_the_gateways_business(start_server: StartServer) -> None:
    """Ctrl-C in a terminal reaches the whole group: only the gateway may act on it."""
    served = start_server()
    worker = served.worker("generator")
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGTERM)
    assert served.chat(max_tokens=1).status_code == 200
    assert served.worker("generator") == worker
    served.stop()
