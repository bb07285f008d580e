"""Every format, read in the real extractor process; and files that are broken, or made to harm."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import docx
import openpyxl
import pptx
import psutil
import pytest
from pptx.util import Inches

from appliance import paths
from appliance.knowledge.extract.messages import Job, Limits, Measure, Pieces, Refusal, Reply
from appliance.knowledge.extraction import Extraction
from appliance.knowledge.text import Span, unpack_spans
from tests.conftest import require
from tests.faults.knowledge_writer import served_embedder
from tests.serving import EMBED

Extract = Callable[..., Reply]


@pytest.fixture(scope="module")
def measure() -> Measure:
    require((EMBED,))
    return served_embedder().measure


@pytest.fixture(scope="module")
def reader() -> Iterator[tuple[asyncio.Runner, Extraction]]:
    """One extractor process for all of these tests, as a server has it."""
    with asyncio.Runner() as runner:
        extraction = runner.run(_made(lambda: Extraction(paths.self_command())))
        yield runner, extraction
        runner.run(extraction.stop())


async def _made(make: Callable[[], Extraction]) -> Extraction:
    return make()


@pytest.fixture
def extract(reader: tuple[asyncio.Runner, Extraction], measure: Measure, tmp_path: Path) -> Extract:
    runner, extraction = reader

    def run(name: str, content: bytes | Path, limits: Limits | None = None) -> Reply:
        path = tmp_path / "content"  # stored files have no ending that would tell their format
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        job = Job(str(path), name, measure, 100, 10, limits or Limits(seconds=60))
        return runner.run(extraction.run([job]))[0]

    return run


def kinds(reply: Reply) -> list[tuple[str, str, int]]:
    """(kind, text, page) of each span."""
    assert isinstance(reply, Pieces), reply
    spans: tuple[Span, ...] = unpack_spans(reply.spans)
    return [(span.kind, reply.text[span.begins : span.ends], span.page) for span in spans]


def refusal(reply: Reply) -> Refusal:
    assert isinstance(reply, Refusal), reply
    return reply


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text per page, written by hand."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>"
        % (b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages))), len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        stream = b"BT /F1 12 Tf 72 700 Td (%s) Tj ET" % text.encode("latin-1")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table))
    return out.getvalue()


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "shift_jis", "cp1251"])
def test_text_in_any_encoding(extract: Extract, encoding: str) -> None:
    text = {
        "gb18030": "这是一个关于知识库的文档。它说明如何检索文本，也说明如何建立索引。",
        "shift_jis": "これは知識ベースについての文書です。検索の方法を説明しています。",
        "cp1251": "Это документ о базе знаний. Он объясняет, как искать текст в документах.",
    }.get(encoding, "Grüße aus Köln — naïve café.")
    assert kinds(extract("a.txt", text.encode(encoding))) == [("paragraph", text, 0)]


def test_markdown(extract: Extract) -> None:
    text = (
        "---\ntitle: x\n---\n# One\n\ntext *here*\n\nTwo\n---\n```py\na = 1\n\n# no heading\n```\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    assert kinds(extract("a.md", text.encode())) == [
        ("heading", "One", 0),
        ("paragraph", "text *here*", 0),
        ("heading", "Two", 0),
        ("code", "a = 1\n\n# no heading", 0),
        ("row", "a | b", 0),
        ("row", "1 | 2", 0),
    ]


def test_html(extract: Extract) -> None:
    text = (
        "<html><head><title>Page</title><style>p{}</style></head><body><nav>menu</nav><h1>Top</h1>"
        "<p>A <b>bold</b> word.<script>alert(1)</script></p><ul><li>first<li>second</ul>"
        "<table><tr><th>k</th><td>v</td></tr></table><pre>x = 1\n  y</pre></body></html>"
    )
    assert kinds(extract("a.html", text.encode())) == [
        ("heading", "Top", 0),
        ("paragraph", "A bold word.", 0),
        ("paragraph", "first", 0),
        ("paragraph", "second", 0),
        ("row", "k | v", 0),
        ("code", "x = 1\n  y", 0),
    ]
    named = '<meta charset="gb2312"><p>中文内容</p>'.encode("gb2312")
    assert kinds(extract("b.htm", named)) == [("paragraph", "中文内容", 0)]


def test_html_of_any_depth(extract: Extract) -> None:
    deep = "<div>" * 3_000 + "bottom" + "</div>" * 3_000
    assert ("paragraph", "bottom", 0) in kinds(extract("a.html", deep.encode()))


def test_pdf(extract: Extract) -> None:
    reply = extract("a.pdf", pdf("The first page.", "The second page."))
    assert kinds(reply) == [("paragraph", "The first page.", 1), ("paragraph", "The second page.", 2)]
    misnamed = extract("a.txt", pdf("The first page."))
    assert kinds(misnamed) == [("paragraph", "The first page.", 1)]


def test_docx(extract: Extract, tmp_path: Path) -> None:
    made = docx.Document()
    made.add_heading("Report", 1)
    made.add_paragraph("The text.")
    table = made.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    made.save(str(tmp_path / "a.docx"))
    assert kinds(extract("a.docx", tmp_path / "a.docx")) == [
        ("heading", "Report", 0),
        ("paragraph", "The text.", 0),
        ("row", "left | right", 0),
    ]


def test_pptx(extract: Extract, tmp_path: Path) -> None:
    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[5])
    slide.shapes.title.text = "Slide one"
    slide.shapes.add_textbox(Inches(1), Inches(2), Inches(3), Inches(1)).text_frame.text = "A point."
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    made.save(str(tmp_path / "a.pptx"))
    assert kinds(extract("a.pptx", tmp_path / "a.pptx")) == [
        ("heading", "Slide one", 1),
        ("paragraph", "A point.", 1),
        ("paragraph", "Say it slowly.", 1),
    ]


def test_tables(extract: Extract, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Prices"
    for row in (["item", "price"], ["apple", 3], ["pear", 4.5]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert kinds(extract("a.xlsx", tmp_path / "a.xlsx")) == [
        ("heading", "Prices", 1),
        ("row", "item | price", 1),
        ("row", "item: apple; price: 3", 1),
        ("row", "item: pear; price: 4.5", 1),
    ]
    reply = extract("a.csv", b"item;price\r\napple;3\r\n")
    assert kinds(reply) == [("row", "item | price", 0), ("row", "item: apple; price: 3", 0)]


def test_epub(extract: Extract) -> None:
    book = zipped(
        **{
            "META-INF__container_xml": '<container><rootfile full-path="o/b.opf"/></container>',
            "o__b_opf": '<package><manifest><item id="c2" href="2.xhtml"/>'
            '<item id="c1" href="1.xhtml"/></manifest><spine><itemref idref="c1"/>'
            '<itemref idref="c2"/></spine></package>',
            "o__1_xhtml": "<html><body><h1>Beginning</h1><p>It was night.</p></body></html>",
            "o__2_xhtml": "<html><body><h1>End</h1><p>It was day.</p></body></html>",
        }
    )
    assert kinds(extract("a.epub", book)) == [
        ("heading", "Beginning", 1),
        ("paragraph", "It was night.", 1),
        ("heading", "End", 2),
        ("paragraph", "It was day.", 2),
    ]


def test_mail(extract: Extract) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Grüße", "a@x", "b@x"
    message.set_content("The meeting is at noon.")
    message.add_attachment(b"\x00", maintype="application", subtype="pdf", filename="plan.pdf")
    found = kinds(extract("a.eml", bytes(message)))
    assert found[0] == ("heading", "Grüße", 0)
    assert ("paragraph", "The meeting is at noon.", 0) in found
    assert found[-1] == ("paragraph", "[attachment, not read: plan.pdf]", 0)


def test_source_code(extract: Extract) -> None:
    assert kinds(extract("a.py", b"def f():\n    return 1\n\n\nx = f()\n")) == [
        ("code", "def f():\n    return 1", 0),
        ("code", "x = f()", 0),
    ]


LAUGHS = (  # an entity that grows tenfold, nine times over
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "ha">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    + "]><a>&l9;</a>"
)


@pytest.mark.parametrize(
    "head", [b'<meta charset="idna">', b'<meta charset="punycode">', b'<meta charset="hex">', b""]
)
def test_html_that_names_no_encoding_of_texts(extract: Extract, head: bytes) -> None:
    assert kinds(extract("a.html", b"<html>" + head + b"<p>caf\xc3\xa9</p>")) == [("paragraph", "café", 0)]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("a.pdf", b"%PDF-1.7 broken", "invalid_file", "damaged"),
        ("a.pdf", pdf(""), "invalid_file", "no text"),
        ("a.docx", b"PK\x03\x04 broken", "invalid_file", "damaged"),
        ("a.docx", zipped(word__document_xml="<a/>"), "invalid_file", "damaged"),
        ("a.xlsx", zipped(xl__workbook_xml="<a/>"), "invalid_file", "damaged"),
        ("a.epub", zipped(**{"META-INF__container_xml": "<a/>"}), "invalid_file", "no EPUB"),
        ("a.zip", zipped(a_txt="x"), "unsupported_file", "zip file"),
        ("a.docx", b"plain words", "invalid_file", "no such file"),
        ("a.txt", b"a\x00b\x00" * 50, "unsupported_file", "not text"),
        ("a.bin", os.urandom(4096) + b"\0", "unsupported_file", "not text"),
        ("a.gz", gzip.compress(b"x"), "unsupported_file", "compressed"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "unsupported_file", "picture"),
        ("a.txt", b" \n\n ", "invalid_file", "no text"),
        ("a.docx", zipped(word__document_xml=LAUGHS), "invalid_file", "damaged"),
        ("a.xlsx", zipped(xl__workbook_xml=LAUGHS), "invalid_file", "damaged"),
        ("a.eml", b"no headers at all", "invalid_file", "no mail message"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(
    extract: Extract, name: str, content: bytes, code: str, words: str
) -> None:
    said = refusal(extract(name, content))
    assert said.code == code
    assert words in said.message


def test_a_zip_bomb_is_not_unpacked(extract: Extract) -> None:
    bomb = zipped(word__document_xml="<w>" + " " * 40_000_000)
    assert "times its size" in refusal(extract("a.docx", bomb)).message


def test_limits_end_a_document_and_nothing_else(extract: Extract) -> None:
    text = ("word " * 2000 + "\n\n") * 200
    assert (
        "more than 1,000 characters"
        in refusal(extract("a.txt", text.encode(), Limits(text_chars=1000))).message
    )
    book = zipped(word__document_xml="<w:document>" + "<w:p>x</w:p>" * 1_500_000 + "</w:document>")
    small = Limits(memory_bytes=64 * 1024 * 1024, seconds=60)
    assert refusal(extract("a.docx", book, small)).code == "invalid_file"
    slow = Limits(seconds=0.05)
    assert "longer than 0.05 seconds" in refusal(extract("a.txt", text.encode() * 20, slow)).message


def test_what_a_document_becomes_does_not_depend_on_its_company(
    reader: tuple[asyncio.Runner, Extraction], measure: Measure, tmp_path: Path
) -> None:
    """Plain texts share a process; what one of them does to it is not the others' misfortune."""
    contents = {
        "first.txt": b"The first of them.",
        "binary.md": b"\0\1\2" * 100,
        "hungry.txt": b"word " * 3_800_000,
        "after.md": b"# After\n\nThis one comes after a text that takes too much.",
        "hidden.txt": pdf("It is no plain text."),
        "broken.pdf": b"%PDF-1.4 but no more",
        "last.csv": b"name,weight\nbolt,3\n",
    }
    limits = Limits(seconds=60, memory_bytes=48 * 1024 * 1024)
    jobs = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        jobs.append(Job(str(tmp_path / name), name, measure, 100, 10, limits))
    runner, extraction = reader
    together = runner.run(extraction.run(jobs))
    assert list(together) == [runner.run(extraction.run([job]))[0] for job in jobs]
    kinds = {name: type(reply) for name, reply in zip(contents, together, strict=True)}
    assert [name for name, kind in kinds.items() if kind is Refusal] == [
        "binary.md",
        "hungry.txt",
        "broken.pdf",
    ]
    assert "MiB of memory" in refusal(together[2]).message


def test_the_extractor_is_replaced_when_it_dies_and_leaves_when_idle(
    measure: Measure, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Some words.")
    job = Job(str(path), "a.txt", measure, 100, 10, Limits(seconds=60))

    others = set(_extractors())

    async def live() -> None:
        extraction = Extraction(paths.self_command(), idle_seconds=0.2)
        assert isinstance((await extraction.run([job]))[0], Pieces)
        (process,) = set(_extractors()) - others
        process.kill()
        assert isinstance((await extraction.run([job]))[0], Pieces)
        (process,) = set(_extractors()) - others
        await asyncio.to_thread(process.wait, 10)
        assert isinstance((await extraction.run([job]))[0], Pieces)
        await extraction.stop()
        assert set(_extractors()) <= others

    asyncio.run(live())


def _extractors() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "extractor" in child.cmdline()
    ]
