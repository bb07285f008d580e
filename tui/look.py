"""How it looks: the colours of dark, light and sixteen-colour terminals, and terminals without box drawing.

No colours at all is Textual's own doing (NO_COLOR); the style sheet then shows cursors reversed.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

DARK, LIGHT, SIXTEEN = "hearth-dark", "hearth-light", "hearth-sixteen"

THEMES = (
    Theme(
        name=DARK,
        primary="#e8935a",
        secondary="#7fb7be",
        accent="#f2b880",
        foreground="#e4e0d8",
        background="#17181a",
        surface="#1d1f22",
        panel="#26292d",
        success="#8fbf7f",
        warning="#e3b95b",
        error="#e06c5f",
        variables={
            "block-cursor-background": "#e8935a",
            "block-cursor-foreground": "#17181a",
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": "#3a322c",
            "block-cursor-blurred-foreground": "#e4e0d8",
            "footer-background": "#1d1f22",
            "footer-key-foreground": "#f2b880",
            "footer-description-foreground": "#a8a49c",
            "border": "#e8935a",
            "border-blurred": "#3a3d42",
            "input-selection-background": "#e8935a 35%",
            "scrollbar": "#3a3d42",
            "scrollbar-background": "#1d1f22",
            "scrollbar-hover": "#e8935a",
            "scrollbar-active": "#e8935a",
            "button-color-foreground": "#17181a",
            "button-focus-text-style": "bold",
        },
    ),
    Theme(
        name=LIGHT,
        primary="#a8521c",
        secondary="#2f6f78",
        accent="#8f4310",
        foreground="#2b2824",
        background="#faf8f4",
        surface="#f3f0ea",
        panel="#e8e4dc",
        success="#3f7a34",
        warning="#8a6410",
        error="#b3372a",
        dark=False,
        variables={
            "block-cursor-background": "#a8521c",
            "block-cursor-foreground": "#faf8f4",
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": "#eadccf",
            "block-cursor-blurred-foreground": "#2b2824",
            "footer-background": "#f3f0ea",
            "footer-key-foreground": "#8f4310",
            "footer-description-foreground": "#6b665e",
            "border": "#a8521c",
            "border-blurred": "#cfc9be",
            "input-selection-background": "#a8521c 25%",
            "scrollbar": "#cfc9be",
            "scrollbar-background": "#f3f0ea",
            "scrollbar-hover": "#a8521c",
            "scrollbar-active": "#a8521c",
            "button-color-foreground": "#faf8f4",
            "button-focus-text-style": "bold",
        },
    ),
    Theme(
        name=SIXTEEN,
        primary="ansi_yellow",
        secondary="ansi_cyan",
        accent="ansi_bright_yellow",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        success="ansi_green",
        warning="ansi_bright_yellow",
        error="ansi_bright_red",
        ansi=True,
        variables={
            "ansi-background": "ansi_default",
            "ansi-foreground": "ansi_default",
            "block-cursor-background": "ansi_yellow",
            "block-cursor-foreground": "ansi_black",
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": "ansi_default",
            "block-cursor-blurred-foreground": "ansi_bright_yellow",
            "block-cursor-blurred-text-style": "underline",
            "footer-key-foreground": "ansi_bright_yellow",
            "footer-description-foreground": "ansi_default",
            "border": "ansi_yellow",
            "border-blurred": "ansi_bright_black",
            "button-color-foreground": "ansi_black",
            "button-focus-text-style": "bold",
        },
    ),
)

# What cannot be told from Unicode's own decompositions.
_ASCII = {
    **dict.fromkeys("─━┄┅┈┉╌╍═╴╶▔▁▀▄▂▃", "-"),
    **dict.fromkeys("│┃┆┇┊┋╎╏║▌▐▎▏▕▍▋▊▉┤├", "|"),
    **dict.fromkeys("┌┐└┘┍┎┏┑┒┓┕┖┗┙┚┛┬┴┼╔╗╚╝╠╣╦╩╬╭╮╯╰╋", "+"),
    **dict.fromkeys("█▓▆▇", "#"),
    **dict.fromkeys("▒▅", "="),
    **dict.fromkeys("░", "."),
    **dict.fromkeys("●◉⬤✔✓", "*"),
    **dict.fromkeys("○◌◯◦", "o"),
    **dict.fromkeys("•·∙", "."),
    **dict.fromkeys("▲↑△⭡", "^"),
    **dict.fromkeys("▼↓▽⭣", "v"),
    **dict.fromkeys("▶→▸►⮕", ">"),
    **dict.fromkeys("◀←◂◄", "<"),
    **dict.fromkeys("✗✘×", "x"),
    **dict.fromkeys("–—−", "-"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("‘’", "'"),
    "…": ".",
    "⚠": "!",
    "🔎": "? ",
}


class Ascii(LineFilter):
    """Draws with ASCII only: for serial lines and fonts that have nothing else. Words stay as they are."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.text.isascii() else Segment(_plain(segment.text), segment.style, None)
            for segment in segments
        ]


@lru_cache(4096)
def _plain(text: str) -> str:
    return "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    if character < "\x7f":
        return character
    if found := _ASCII.get(character):
        return found
    if "\u2800" <= character <= "\u28ff":  # braille: a plot's or a spinner's dots
        return " " if character == "\u2800" else "*"
    if unicodedata.category(character)[0] == "L":
        return character
    return "?" * (2 if unicodedata.east_asian_width(character) in "WF" else 1)
