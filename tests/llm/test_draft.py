"""Prompt-lookup drafts: what is proposed, and when drafting stops paying."""

from __future__ import annotations

from appliance.llm.draft import LONGEST_DRAFT, PAUSE, PromptLookup


def test_a_repeated_run_is_continued() -> None:
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3]
    assert PromptLookup(tokens).propose(tokens, 4) == [4, 5, 6, 7]


def test_the_latest_place_wins() -> None:
    tokens = [1, 2, 3, 9, 1, 2, 4, 9, 1, 2]
    assert PromptLookup(tokens).propose(tokens, 1) == [4]


def test_the_longer_match_wins_over_the_later_one() -> None:
    tokens = [7, 1, 2, 3, 8, 1, 2, 5, 7, 1, 2]
    assert PromptLookup(tokens).propose(tokens, 1) == [3]


def test_nothing_known_means_no_draft() -> None:
    assert PromptLookup([1, 2, 3]).propose([1, 2, 3], 4) == []
    assert PromptLookup([]).propose([], 4) == []


def test_a_draft_never_runs_past_what_stands_there() -> None:
    tokens = [1, 2, 3, 1, 2]
    assert PromptLookup(tokens).propose(tokens, 8) == [3, 1, 2]


def test_new_tokens_are_indexed_as_they_come() -> None:
    lookup = PromptLookup([1, 2])
    tokens = [1, 2, 3, 4, 1, 2]
    assert lookup.propose(tokens, 2) == [3, 4]


def test_drafts_that_fail_pause_and_then_are_tried_again() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2]
    lookup = PromptLookup(tokens)
    for _ in range(20):
        if not (draft := lookup.propose(tokens, LONGEST_DRAFT)):
            break
        lookup.learn(len(draft), 0)
    else:
        raise AssertionError("drafting went on without a single confirmation")
    assert all(lookup.propose(tokens, 4) == [] for _ in range(PAUSE - 1))
    assert lookup.propose(tokens, 4) == [3, 4, 5, 1]


def test_drafts_that_succeed_never_pause() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2]
    lookup = PromptLookup(tokens)
    for _ in range(200):
        draft = lookup.propose(tokens, 4)
        assert draft
        lookup.learn(len(draft), len(draft))
