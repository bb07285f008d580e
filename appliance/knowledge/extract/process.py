"""The extractor process: documents are read in children of it, which can harm nothing but themselves.

The process itself sees no more of a document than its first bytes. It holds what all children need, libraries
and tokenizer, so that a child starts in milliseconds by forking. A document that a library has to parse has a
child of its own. Plain texts that come together share one; those that it did not come to answer, because one
of them was too much for it, are each read again alone. So what a document becomes never depends on its
company. A child has limits on memory, processor time, wall time and output; whatever it does alone, crash
included, becomes that document's refusal.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import BinaryIO, NoReturn

from msgspec import DecodeError

from appliance.encoders.tokenizer import Tokenizer
from appliance.errors import HearthError
from appliance.knowledge.chunk import Piece, chunk, embedded_text
from appliance.knowledge.extract import reader
from appliance.knowledge.extract.errors import Unreadable
from appliance.knowledge.extract.kinds import START_BYTES, is_plain
from appliance.knowledge.extract.messages import (
    Job,
    Limits,
    Measure,
    Pieces,
    Refusal,
    Reply,
    encode,
    jobs_decoder,
    reply_decoder,
)
from appliance.knowledge.text import DocumentText, pack_spans, unpack_spans
from appliance.workers.frames import HEADER
from appliance.workers.process import PR_SET_PDEATHSIG

PR_SET_NO_NEW_PRIVS = 38
OPEN_FILES = 64
OUTPUT_BYTES_PER_CHAR = 8
LEAST_OUTPUT_BYTES = 64 * 1024 * 1024
TOKEN_BATCH_CHARS = 1_000_000
KEPT_TOKENIZERS = 2
LIBRARIES = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".pptx": "pptx",
    ".xlsx": "xlsx",
    ".csv": "tables",
    ".epub": "epub",
    ".html": "html",
    ".htm": "html",
    ".eml": "mail",
}


def run(connection: socket.socket) -> int:
    """Answer jobs until the gateway hangs up. Returns the exit status."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive a fork
    tokenizers: dict[Measure, Tokenizer] = {}
    with connection, connection.makefile("rb") as stream:
        while (payload := _read(stream)) is not None:
            replies = encode(answer_all(jobs_decoder.decode(payload), tokenizers))
            try:
                connection.sendall(HEADER.pack(len(replies)) + replies)
            except BrokenPipeError:
                return 0
    return 0


def answer_all(jobs: Sequence[Job], tokenizers: dict[Measure, Tokenizer]) -> list[Reply]:
    """Every job's reply, in order; `tokenizers` are those known already."""
    replies: dict[int, Reply] = {}
    able: dict[int, tuple[Job, Tokenizer]] = {}
    for place, job in enumerate(jobs):
        try:
            able[place] = job, _tokenizer(job.measure, tokenizers)
        except HearthError as error:
            replies[place] = Refusal("server_error", error.message)
    plain = [place for place, (job, _) in able.items() if _is_plain(job)]
    if len(plain) > 1:
        answered, _ = _in_child([able[place] for place in plain])
        replies.update(zip(plain, answered, strict=False))
    for place, (job, tokenizer) in able.items():
        if place not in replies:
            _load_library(job.name)
            answered, status = _in_child([(job, tokenizer)])
            replies[place] = answered[0] if answered else _autopsy(status, job.limits)
    return [replies[place] for place in range(len(jobs))]


def _is_plain(job: Job) -> bool:
    if not job.path:
        return True
    try:
        with Path(job.path).open("rb") as file:
            return is_plain(file.read(START_BYTES), job.name)
    except OSError:
        return False  # its own child will say why


def answer(job: Job, tokenizer: Tokenizer) -> Reply:
    """What a child does: read, then chunk. Raises MemoryError or RecursionError for what is too large."""
    try:
        if job.path:
            document = reader.read(Path(job.path), job.name, job.limits.text_chars)
        else:
            document = DocumentText(job.text, unpack_spans(job.spans))
        pieces = _chunks(document, tokenizer, job)
    except Unreadable as error:
        return Refusal(error.code, error.message)
    except (MemoryError, RecursionError):
        raise
    except OSError as error:
        return Refusal("server_error", f"it could not be read: {error.strerror}")
    except Exception as error:
        return Refusal("server_error", f"it could not be cut into pieces: {type(error).__name__}: {error}")
    return Pieces(
        document.text,
        pack_spans(document.spans),
        tuple((piece.begins, piece.ends, piece.page, piece.heading) for piece in pieces),
    )


def _chunks(document: DocumentText, tokenizer: Tokenizer, job: Job) -> list[Piece]:
    """The chunks, each of which the embedder is known to take."""

    def count(texts: Sequence[str]) -> list[int]:
        return count_tokens(tokenizer, texts)

    measure = job.measure
    around = tokenizer.single.size + count([measure.prefix])[0]
    room = measure.max_tokens - around
    while True:
        limit = max(1, min(job.chunk_tokens, room))
        pieces = chunk(document, count, limit, min(job.overlap_tokens, limit // 2), room)
        sizes = count(
            [
                measure.prefix + embedded_text(piece.heading, document.text[piece.begins : piece.ends])
                for piece in pieces
            ]
        )
        if max(sizes, default=0) + tokenizer.single.size <= measure.max_tokens:
            return pieces
        # Joined, the parts have made more tokens than apart: rare, and less room cures it.
        room -= room // 8 + 1
        if room < 1:
            raise Unreadable("it cannot be cut into pieces that the embedder takes")


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Each text's tokens, a bounded number of characters at a time."""
    sizes: list[int] = []
    batch: list[str] = []
    chars = 0
    for text in texts:
        batch.append(text)
        chars += len(text)
        if chars > TOKEN_BATCH_CHARS:
            sizes += map(len, tokenizer.encode(batch))
            batch, chars = [], 0
    return sizes + [len(ids) for ids in tokenizer.encode(batch)]


def _in_child(work: Sequence[tuple[Job, Tokenizer]]) -> tuple[list[Reply], int | None]:
    """The replies to the first of the jobs, all of them if nothing happened, and how the child ended as
    `_wait` tells it. Together they have the limits that each has alone."""
    output = os.memfd_create("replies", os.MFD_CLOEXEC)
    limits = work[0][0].limits
    gc.freeze()  # what is here already is shared with the child: its collector need not touch it
    try:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _child(work, output, parent)
        status = _wait(child, limits.seconds)
        os.lseek(output, 0, os.SEEK_SET)
        with os.fdopen(os.dup(output), "rb") as file:
            return list(_replies(file)), status
    finally:
        os.close(output)


def _replies(file: BinaryIO) -> Iterator[Reply]:
    """Those that were written to their end."""
    with contextlib.suppress(DecodeError):  # a child that a document has taken over may write anything
        while (payload := _read(file)) is not None:
            yield reply_decoder.decode(payload)


def _child(work: Sequence[tuple[Job, Tokenizer]], output: int, parent: int) -> NoReturn:
    """Never returns: whatever happens, the process ends here."""
    status = 1
    try:
        _confine(work[0][0].limits, parent)
        for job, tokenizer in work:
            reply = encode(answer(job, tokenizer))
            view = memoryview(HEADER.pack(len(reply)) + reply)
            while view:
                view = view[os.write(output, view) :]
        status = 0
    finally:
        os._exit(status)


def _confine(limits: Limits, parent: int) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with Path("/proc/self/statm").open() as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    memory = mapped + limits.memory_bytes
    written = max(LEAST_OUTPUT_BYTES, OUTPUT_BYTES_PER_CHAR * limits.text_chars)
    seconds = int(limits.seconds) + 1
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)


def _wait(child: int, seconds: float) -> int | None:
    """The child's exit status as `waitstatus_to_exitcode` gives it; None when its time ran out."""
    descriptor = os.pidfd_open(child)
    try:
        is_over = select.select([descriptor], [], [], seconds)[0]
    finally:
        os.close(descriptor)
    if not is_over:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if is_over else None


def _autopsy(status: int | None, limits: Limits) -> Refusal:
    if status is None or status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Refusal("invalid_file", f"reading it took longer than {limits.seconds:g} seconds")
    if status == -signal.SIGXFSZ:
        return Refusal("invalid_file", "it gives more text than is taken from one document; split it")
    if status < 0:
        name = signal.Signals(-status).name
        return Refusal("invalid_file", f"it is damaged, or made to harm: its reader crashed ({name})")
    return _too_large(limits)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        "invalid_file", f"reading it takes more than {limits.memory_bytes // 1024**2:,} MiB of memory"
    )


def _load_library(name: str) -> None:
    """Import what the child will need, so that the next child has it already."""
    module = LIBRARIES.get(PurePath(name).suffix.lower())
    if module is not None:
        importlib.import_module(f"appliance.knowledge.extract.{module}")


def _tokenizer(measure: Measure, known: dict[Measure, Tokenizer]) -> Tokenizer:
    if measure not in known:
        if len(known) >= KEPT_TOKENIZERS:
            known.clear()
        known[measure] = Tokenizer(measure.tokenizer, offset=measure.offset, size=measure.bytes)
    return known[measure]


def _read(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None
