"""Mail messages: subject, people and date, then the body. Attachments are named, not read."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage

from appliance.knowledge.extract.errors import Unreadable
from appliance.knowledge.extract.html import blocks_of
from appliance.knowledge.extract.plain import read_text
from appliance.knowledge.text import Block

SHOWN_HEADERS = ("From", "To", "Cc", "Date")


def read_mail(content: bytes) -> Iterator[Block]:
    message = email.message_from_bytes(content, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise Unreadable("it is no mail message: it has no headers")
    yield Block("heading", str(message.get("Subject", "")), 1)
    shown = [f"{name}: {message[name]}" for name in SHOWN_HEADERS if message[name]]
    yield Block("paragraph", "\n".join(shown))
    body = message.get_body(preferencelist=("plain", "html"))
    if body is not None:
        payload = body.get_payload(decode=True)
        if isinstance(payload, bytes):
            text = _decoded(payload, body.get_content_charset())
            yield from blocks_of(text) if body.get_content_subtype() == "html" else read_text(text.encode())
    for part in message.iter_attachments():
        yield Block("paragraph", f"[attachment, not read: {part.get_filename() or part.get_content_type()}]")


def _decoded(payload: bytes, charset: str | None) -> str:
    try:
        return payload.decode(charset or "utf-8", "replace")
    except (LookupError, UnicodeError):  # unknown, or no encoding of texts
        return payload.decode("utf-8", "replace")
