"""What the streams are asked: made-up prompts of a wanted length, no two alike where they must not be.

Random words in a seeded order: a cache can only reuse what a row means it to reuse.
"""

from __future__ import annotations

import random

WORDS = (
    "the a valve pump wheel oil must be closed before opened after checked when warm cold river stone "
    "north south water level falls rises slowly quickly report engineer writes reads every hour night "
    "morning door key lamp signal green red blue yellow train bridge carries heavy light load over "
    "under between two three four pressure gauge shows number table list page book and or but then "
    "while until because near far from to"
).split()

PASSAGE = (
    "To change the filter of the press, first close the blue valve behind the tank and wait until the "
    "gauge shows less than two bars. Open the left door with the square key. Pull the old filter out "
    "slowly, as warm oil may drip from it, and put it into the grey box. Clean the seat with a dry "
    "cloth. Push the new filter in until the ring clicks twice, and close the door. Open the blue valve "
    "a quarter turn, wait for one minute, and listen: a whistling sound means that the ring is not "
    "seated. Then open the valve fully. Write the date, your name and the number on the filter into the "
    "list beside the door. The next change is due after four hundred hours, or at once if the lamp on "
    "the panel turns yellow during the night."
)


def words(count: int, seed: int) -> str:
    """`count` words, about 1.1 tokens each."""
    chooser = random.Random(seed)
    return " ".join(chooser.choices(WORDS, k=count))


def copying() -> str:
    """A text that is given twice, up to the middle of its second telling: the answer goes on copying."""
    opening = " ".join(PASSAGE.split()[:12])
    return f"Manual:\n{PASSAGE}\n\nThe manual once more, word for word:\n{opening}"
