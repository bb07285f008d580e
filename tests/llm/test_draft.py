"""Prompt-lookup drafts: what is proposed, and when drafting stops paying."""

from __future__ import annotations

from appliance.llm.draft import LONGEST_DRAFT, LONGEST_PAUSE, SHORTEST_PAUSE, PromptLookup


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


def test_a_draft_never_runs_past_what_stands_there() -> None:
    tokens = [1, 2, 3, 4, 1, 2, 3]
    assert trusted(tokens).propose(tokens, 8) == [4, 1, 2, 3]


def test_new_tokens_are_indexed_as_they_come() -> None:
    lookup = trusted([1, 2])
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    assert lookup.propose(tokens, 2) == [4, 5]


def test_a_draft_grows_while_all_of_it_is_confirmed_and_shrinks_to_what_was() -> None:
    tokens = [*range(40), 0, 1, 2, 3]
    lookup = PromptLookup(tokens)
    lengths = []
    for _ in range(6):
        lengths.append(len(lookup.propose(tokens, 40)))
        lookup.learn(lengths[-1], lengths[-1])
    assert lengths == [1, 2, 4, 8, 16, LONGEST_DRAFT]
    lookup.learn(16, 3)
    assert lookup.propose(tokens, 40) == [4, 5, 6]


def test_wrong_drafts_are_followed_by_longer_and_longer_pauses() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    lookup = PromptLookup(tokens)
    pauses = []
    for _ in range(6):
        assert len(lookup.propose(tokens, 8)) == 1
        lookup.learn(1, 0)
        pause = 0
        while not lookup.propose(tokens, 0) and pause < 4 * LONGEST_PAUSE and lookup._pause:
            pause += 1
        pauses.append(pause + 1)
    assert pauses == [SHORTEST_PAUSE, 32, 64, 128, LONGEST_PAUSE, LONGEST_PAUSE]


def test_one_success_makes_the_pauses_short_again() -> None:
    lookup = PromptLookup([])
    for _ in range(3):
        lookup.learn(1, 0)
    lookup.learn(1, 1)
    lookup.learn(2, 0)
    assert lookup._pause == SHORTEST_PAUSE


def test_drafts_that_succeed_never_pause() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    lookup = PromptLookup(tokens)
    for _ in range(200):
        draft = lookup.propose(tokens, 4)
        assert draft
        lookup.learn(len(draft), len(draft))
