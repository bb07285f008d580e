from __future__ import annotations

from appliance.knowledge import prompt
from appliance.knowledge.retrieve import Candidate
from appliance.records import Message
from appliance.store.rows import Chunk, Hit


def passage(text: str, score: float = 1.0, page: int = 0) -> Candidate:
    chunk = Chunk(begins=10, ends=10 + len(text), page=page, heading="Part", text=text)
    hit = Hit(id=1, document=1, file="file-1", name="a.pdf", attributes={}, chunk=chunk)
    return Candidate(hit=hit, score=score, cosine=0.9, bm25=1.0)


PASSAGES = (passage("The valve opens at nine bar.", page=3), passage("Bread needs yeast and time."))
QUESTION = "What is there to know?"


def user(text: str) -> Message:
    return Message(role="user", content=text)


def test_the_question_is_the_last_and_what_it_refers_to() -> None:
    assert prompt.questions([user("When does it open?")]) == ["When does it open?"]
    turns = [
        user("Tell me of the valve."),
        Message(role="assistant", content="…"),
        user("When does it open?"),
    ]
    assert prompt.questions(turns) == ["When does it open?", "Tell me of the valve.\nWhen does it open?"]
    assert prompt.questions([Message(role="system", content="x")]) == []
    assert len(prompt.questions([user("x" * 10_000)])[0]) == 900


def test_the_prompt_holds_instruction_passages_and_question() -> None:
    turns = prompt.with_passages([user("When does it open?")], PASSAGES)
    assert [turn.role for turn in turns] == ["system", "user"]
    assert "[1] a.pdf, page 3, Part\nThe valve opens at nine bar." in turns[1].content
    assert turns[1].content.endswith("Question: When does it open?")
    chinese = prompt.with_passages([user("阀门什么时候打开？")], PASSAGES)
    assert chinese[1].content.endswith("问题：阀门什么时候打开？")
    own = prompt.with_passages([Message(role="system", content="Be brief."), user("x")], PASSAGES)
    assert own[0].content.startswith("Be brief.")


def test_only_passages_near_the_best_are_shown() -> None:
    assert prompt.chosen([passage("a", 0.9), passage("b", 0.5), passage("c", 0.1)]) == (
        passage("a", 0.9),
        passage("b", 0.5),
    )
    assert prompt.chosen([]) == ()


def test_marks_become_citations() -> None:
    answer = "It opens at nine bar [1], and bread takes time [1, 2]. See [7]."
    found = prompt.citations(answer, PASSAGES)
    assert [(each.number, answer[each.start_index : each.end_index]) for each in found] == [
        (1, "[1]"),
        (1, "[1, 2]"),
        (2, "[1, 2]"),
    ]
    assert (found[0].filename, found[0].page, found[0].begins) == ("a.pdf", 3, 10)
    assert found[0].quote == "The valve opens at nine bar."
    assert prompt.closing(answer, QUESTION, PASSAGES) == ""


def test_an_answer_without_marks_gets_those_it_rests_on() -> None:
    assert prompt.closing("The valve opens at nine bar.", QUESTION, PASSAGES) == " [1]"
    assert prompt.closing("I do not know.", QUESTION, PASSAGES) == ""
    assert prompt.closing("It takes yeast, I would say.", QUESTION, PASSAGES) == " [2]"
    chinese = (passage("阀门在九巴压力下打开。"), passage("面包需要酵母。"))
    assert prompt.closing("阀门在九巴打开", "阀门什么时候打开？", chinese) == " [1]"


def test_the_words_of_the_question_prove_nothing() -> None:
    passages = (passage("When does the valve open? See below."), passage("At nine bar."))
    assert prompt.closing("The valve does open at nine bar.", "When does the valve open?", passages) == " [2]"


def test_a_word_that_all_passages_hold_tells_little() -> None:
    passages = (passage("Use the command: isolate rescue."), passage("Use a command; use it, or use more."))
    assert prompt.closing("You can use the command isolate.", QUESTION, passages) == " [1]"


def test_a_mark_that_leads_elsewhere_is_set_right() -> None:
    assert prompt.closing("The valve opens at nine bar [2].", QUESTION, PASSAGES) == " [1]"
    assert prompt.closing("Possibly, who knows [2].", QUESTION, PASSAGES) == ""


def test_an_answer_of_marks_alone_gets_the_passage_itself() -> None:
    assert prompt.closing("[2]", QUESTION, PASSAGES) == " “Bread needs yeast and time.”"
    assert prompt.closing(" [7] ", QUESTION, PASSAGES) == ""


def test_nothing_found_is_said_in_the_questions_language() -> None:
    assert "“manuals”" in prompt.nothing_found("manuals", "Why?")
    assert "没有" in prompt.nothing_found("manuals", "为什么这样？")
