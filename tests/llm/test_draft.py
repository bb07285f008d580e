"""Prompt-lookup drafts: what is proposed, and when drafting stops paying."""

from __future__ import annotations

from appliance.llm.draft import LONGEST_DRAFT, LONGEST_PAUSE, SHORTEST_PAUSE, Pace, PromptLookup


def trusted(tokens: list[int]) -> PromptLookup:
    """A drafter whose drafts have all been confirmed so far."""
    lookup = PromptLookup(tokens)
    for _ in range(8):
        lookup.learn(1, 1)
    return lookup


def test_a_repeated_run_is_continued() -> None:
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]
    assert trusted(tokens).propose(tokens, 4) == [4, 5, 6, 7]


def test_the_latest_place_wins() -> None:
    tokens = [1, 2, 3, 9, 1, 2, 3, 4, 9, 1, 2, 3]
    assert trusted(tokens).propose(tokens, 1) == [4]


def test_the_longer_match_wins_over_the_later_one() -> None:
    tokens = [7, 1, 2, 3, 4, 8, 1, 2, 3, 5, 7, 1, 2, 3]
    assert trusted(tokens).propose(tokens, 1) == [4]


def test_nothing_known_means_no_draft() -> None:
    assert trusted([1, 2, 3]).propose([1, 2, 3], 4) == []
    assert trusted([]).propose([], 4) == []


def test_a_loop_goes_on_in_circles() -> None:
    tokens = [1, 2, 3, 4, 1, 2, 3]
    assert trusted(tokens).propose(tokens, 10) == [4, 1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_new_tokens_are_indexed_as_they_come() -> None:
    lookup = trusted([1, 2])
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    assert lookup.propose(tokens, 2) == [4, 5]


def test_a_draft_grows_while_all_of_it_is_confirmed_and_shrinks_to_what_was() -> None:
    pace = Pace()
    lengths = []
    for _ in range(6):
        lengths.append(pace.allow(40))
        pace.learn(lengths[-1], lengths[-1])
    assert lengths == [1, 2, 4, 8, 16, LONGEST_DRAFT]
    pace.learn(16, 3)
    assert pace.allow(40) == 3


def test_wrong_drafts_are_followed_by_longer_and_longer_pauses() -> None:
    pace = Pace()
    pauses = []
    for _ in range(6):
        assert pace.allow(8) == 1
        pace.learn(1, 0)
        pauses.append(next(count for count in range(4 * LONGEST_PAUSE) if pace.allow(8)))
    assert pauses == [SHORTEST_PAUSE, 32, 64, 128, LONGEST_PAUSE, LONGEST_PAUSE]


def test_one_success_makes_the_pauses_short_again() -> None:
    pace = Pace()
    for _ in range(3):
        pace.learn(1, 0)
    pace.learn(1, 1)
    pace.learn(2, 0)
    assert next(count for count in range(LONGEST_PAUSE) if pace.allow(1)) == SHORTEST_PAUSE


def test_drafts_that_succeed_never_pause() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    lookup = PromptLookup(tokens)
    for _ in range(200):
        draft = lookup.propose(tokens, 4)
        assert draft
        lookup.learn(len(draft), len(draft))
