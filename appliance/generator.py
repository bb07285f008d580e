"""The generator process, from its first breath to its last: load, serve, drain, exit.

Three threads: this module's reader takes commands off the channel; the preparing thread renders templates and
tokenises; the main thread is the engine's. The process is a crash boundary: whatever kills it, the gateway
starts it anew.
"""

from __future__ import annotations

import logging
import socket
import threading

from appliance import errors, memory
from appliance.engine_room import build_engine, load, load_draft_model
from appliance.launch import GeneratorOrder
from appliance.llm.engine import Engine
from appliance.llm.prepare import Preparer
from appliance.preparation import Preparation
from appliance.records import Cancel, Command, Detokenize, Failed, Generate, Measure, Ready, Stop, Tokenize
from appliance.workers.frames import WorkerChannel

log = logging.getLogger("hearth.generator")


def run(connection: socket.socket) -> int:
    """Serve until told to stop, or until the gateway is gone. Returns the exit status."""
    try:
        return serve(WorkerChannel(connection))
    except (BrokenPipeError, EOFError):
        return 0  # the gateway is gone; nobody is left to serve


def serve(channel: WorkerChannel) -> int:
    """Raises BrokenPipeError or EOFError when the gateway leaves."""
    order = channel.read_order()
    assert isinstance(order, GeneratorOrder)
    try:
        backend, facts = load(order, channel.send)
        draft_model = load_draft_model(order, backend)
    except errors.HearthError as error:
        channel.send(Failed(id=0, error=errors.pack(error)))
        return 1
    engine = build_engine(order, backend, channel.send, draft_model)
    preparer = Preparer(
        backend.vocabulary,
        context_length=facts.context_length,
        chat_template=order.chat_template,
        seconds_per_template=order.seconds_per_template,
    )
    memory.give_back()
    channel.send(Ready(models=(facts,)))
    most = order.slots + order.queue_requests
    preparation = Preparation(preparer, engine, channel, most, backend.model.refused_adapters)
    reader = threading.Thread(
        target=read_commands,
        args=(channel, preparation, engine),
        daemon=True,
    )
    reader.start()
    engine.run()
    if draft_model is not None:
        draft_model.close()
    backend.close()
    return 0


def read_commands(channel: WorkerChannel, preparation: Preparation, engine: Engine) -> None:
    """Sort commands to where they belong, until the gateway leaves, says stop or is not understood."""
    try:
        for command in channel.commands():
            if isinstance(command, Stop):
                break
            _route(command, preparation, engine)
    finally:
        preparation.finish()
        engine.inbox.put(Stop())


def _route(command: Command, preparation: Preparation, engine: Engine) -> None:
    match command:
        case Generate() | Tokenize() | Detokenize():
            preparation.submit(command)
        case Cancel():
            preparation.cancel(command)
        case Measure():
            engine.inbox.put(command)
        case _:
            log.error("a generator has no use for the command %s", type(command).__name__)
