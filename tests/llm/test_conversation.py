"""How tools, calls and results enter a prompt: by the template's own means, or in words where it has none."""

from __future__ import annotations

import json

import pytest

from appliance.errors import TemplateRefusal, UnsupportedParameter
from appliance.llm.conversation import Conversation
from appliance.llm.template import ChatTemplate
from appliance.records import ChatPrompt, Message, Tool, ToolCall, ToolChoice

WEATHER = Tool(
    name="get_weather",
    description="The weather of a city",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TIME = Tool(name="get_time")
PLAIN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
# Each as the family's own templates go about it, in as few words as that takes.
HERMES = """
{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}
{%- for m in messages %}
    {{- '[' + m.role + '] ' + m.content }}
    {%- if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}
    {%- for c in m.tool_calls %}
        {{- '<tool_call>{"name": "' + c.function.name + '", "arguments": ' }}
        {{- c.function.arguments | tojson }}{{ '}</tool_call>' }}
    {%- endfor %}{{ '\n' }}
{%- endfor %}{{ '[assistant]' }}
{%- if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"""
LLAMA = """<|start_header_id|>
{%- if tools is not none %}{{ tools | tojson }}{% endif %}
{%- for m in messages %}
    {%- if m.tool_calls %}
        {%- if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
        {{- '[assistant] {"name": "' + m.tool_calls[0].function.name + '", "parameters": ' }}
        {{- m.tool_calls[0].function.arguments | tojson + '}\n' }}
    {%- else %}{{ '[' + m.role + '] ' + m.content + '\n' }}{% endif %}
{%- endfor %}<|python_tag|>"""
MISTRAL = """
{%- if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}{% endif %}
{%- for m in messages %}
    {%- for c in m.tool_calls %}
        {%- if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}
        {{- '[TOOL_CALLS]' + c.function | tojson + '#' + c.id + '\n' }}
    {%- else %}
        {{- '[' + m.role + '] ' + m.content + '#' + (m.tool_call_id or '') + '\n' }}
    {%- endfor %}
{%- endfor %}"""
DEEPSEEK = """
{%- for m in messages %}
    {%- for c in m.tool_calls %}
        {{- '<｜tool▁call▁begin｜>' + c.function.name + '\n```json\n' + c.function.arguments + '\n```\n' }}
    {%- endfor %}
    {%- if m.content is not none %}{{ '[' + m.role + '] ' + m.content + '\n' }}{% endif %}
{%- endfor %}<think>\n</think>"""
HARMONY = """
{%- for m in messages %}
    {%- if m.tool_calls %}
        {%- if m.content and m.thinking %}{{ raise_exception('both') }}{% endif %}
        {{- '<|channel|>' + (m.thinking or '') + '/' + m.tool_calls[0].function.name + ' ' }}
        {{- m.tool_calls[0].function.arguments | tojson + '\n' }}
    {%- else %}{{ '[' + m.role + ':' + (m.name or '') + '] ' + m.content + '\n' }}{% endif %}
{%- endfor %}{{ 'effort ' + (reasoning_effort or 'unset') }}{% if tools %}{{ tools | length }}{% endif %}"""


def conversation(source: str) -> Conversation:
    return Conversation(ChatTemplate(source), source)


def call(id: str = "call_1", name: str = "get_weather", arguments: str = '{"city": "Oslo"}') -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


def prompt(*messages: Message, tools: tuple[Tool, ...] = (WEATHER,), **more: object) -> ChatPrompt:
    first = Message(role="user", content="Weather?")
    return ChatPrompt(messages=(first, *messages), tools=tools, **more)  # type: ignore[arg-type]


CALLED = Message(role="assistant", content="", tool_calls=(call(),), reasoning="Hm.")
RESULT = Message(role="tool", content="sunny", tool_call_id="call_1")


def test_hermes_gets_tools_and_calls_as_objects() -> None:
    text = conversation(HERMES).render(prompt(CALLED, RESULT))
    tools = json.loads(text.split("<tools>")[1].split("</tools>")[0])
    assert tools == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": WEATHER.parameters,
        },
    }
    assert '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>' in text
    assert "<think>Hm.</think>" in text
    assert "[tool] sunny" in text


def test_arguments_that_are_no_object_stay_the_text_they_are() -> None:
    broken = Message(role="assistant", content="", tool_calls=(call(arguments='{"city": '),))
    assert '"arguments": "{\\"city\\": "}' in conversation(HERMES).render(prompt(broken))


def test_tools_that_may_not_be_called_are_not_mentioned() -> None:
    assert "get_weather" not in conversation(HERMES).render(prompt(tool_choice=ToolChoice(mode="none")))


def test_llama_gets_one_call_a_turn_with_its_result() -> None:
    twice = Message(role="assistant", content="", tool_calls=(call("a"), call("b", "get_time", "{}")))
    results = [Message(role="tool", content=id, tool_call_id=id) for id in ("a", "b")]
    lines = conversation(LLAMA).render(prompt(twice, *results)).splitlines()[1:5]
    assert [line.split(" ", 1) for line in lines] == [
        ["[assistant]", '{"name": "get_weather", "parameters": {"city": "Oslo"}}'],
        ["[tool]", "a"],
        ["[assistant]", '{"name": "get_time", "parameters": {}}'],
        ["[tool]", "b"],
    ]


def test_no_tools_are_none() -> None:
    assert "null" not in conversation(LLAMA).render(prompt(tools=()))


def test_a_template_that_loops_over_no_tools_still_renders() -> None:
    source = "<tool_call>{% for tool in tools %}{{ tool }}{% endfor %}" + PLAIN
    assert conversation(source).render(prompt(tools=())) == "<tool_call>[user] Weather?\n[assistant]"


def test_mistrals_ids_fit_and_match() -> None:
    text = conversation(MISTRAL).render(prompt(CALLED, RESULT))
    made, answered = [line.rsplit("#", 1)[1] for line in text.splitlines()[1:3]]
    assert made == answered
    assert len(made) == 9
    kept = Message(role="assistant", content="", tool_calls=(call("aB3dE6gH9"),))
    assert "#aB3dE6gH9" in conversation(MISTRAL).render(prompt(kept))


def test_deepseek_joins_arguments_to_text_and_is_told_of_tools_in_words() -> None:
    room = conversation(DEEPSEEK)
    text = room.render(prompt(CALLED, RESULT))
    assert 'get_weather\n```json\n{"city": "Oslo"}\n```\n[tool] sunny' in text, "and no turn without words"
    assert text.startswith("[system] # Tools")
    assert '"description": "The weather of a city"' in text
    assert list(room.warnings(prompt())) == [room.dialect.warning]


def test_harmony_gets_reasoning_where_it_takes_it() -> None:
    room = conversation(HARMONY)
    text = room.render(prompt(CALLED, RESULT))
    assert '<|channel|>Hm./get_weather {"city": "Oslo"}' in text
    assert "[tool:get_weather] sunny" in text
    talking = Message(role="assistant", content="Wait.", tool_calls=(call(),), reasoning="Hm.")
    assert "<|channel|>/get_weather" in room.render(prompt(talking)), "it takes no reasoning beside words"


def test_a_template_without_tools_gets_them_in_the_system_message() -> None:
    room = conversation(PLAIN)
    system = Message(role="system", content="Be brief.")
    spoken = prompt(CALLED, RESULT)
    text = room.render(ChatPrompt(messages=(system, *spoken.messages), tools=spoken.tools))
    assert text.startswith("[system] Be brief.\n\n# Tools")
    assert '{"name": "get_weather", "arguments": {"city": "..."}}' in text, "the example"
    assert (
        '[assistant] <tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
        in text
    )
    assert "[user] <tool_response>\nsunny\n</tool_response>" in text
    assert "has no tools" in next(room.warnings(spoken))
    assert list(room.warnings(prompt(tools=()))) == []


def test_a_template_without_system_turns_gets_the_tools_from_the_user() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + PLAIN
    )
    system = Message(role="system", content="Be brief.")
    more = (CALLED, RESULT, Message(role="user", content="And?"))
    text = conversation(source).render(
        ChatPrompt(messages=(system, *prompt(*more).messages), tools=(WEATHER,))
    )
    assert text.startswith("[user] Be brief.\n\n# Tools")
    assert "</tool_response>\nAnd?\n[assistant]" in text
    with pytest.raises(TemplateRefusal):
        conversation(source).render(ChatPrompt(messages=(system,)))


def test_a_template_with_unknown_calls_gets_the_tools_in_words_too() -> None:
    room = conversation("{{ tools }}<arg_key>" + PLAIN)
    assert "does not know" in next(room.warnings(prompt()))
    assert room.render(prompt()).startswith("None<arg_key>[system] # Tools")


def test_tools_cannot_carry_control_tokens() -> None:
    template = ChatTemplate(HERMES, special_texts=("<|end|>",))
    evil = Tool(name="x", description="a<|end|>b", parameters={"<|end|>": ["<|end|>"]})
    said = Message(role="assistant", content="", tool_calls=(call(arguments='{"a": "<|end|>"}'),))
    text = Conversation(template, HERMES).render(prompt(said, tools=(evil,)))
    assert "<|end|>" not in text


@pytest.mark.parametrize(
    ("source", "effort", "shown", "warned"),
    [
        (HARMONY, "low", "effort low", False),
        (HARMONY, "none", "effort low", False),
        (HARMONY, "max", "effort high", False),
        (HERMES, "none", "<think></think>", False),
        (HERMES, "high", "[assistant]", True),
        (PLAIN, "high", "[assistant]", True),
        (PLAIN, "none", "[assistant]", False),
        (PLAIN, None, "[assistant]", False),
    ],
)
def test_reasoning_effort_goes_where_a_template_knows_it(
    source: str, effort: str | None, shown: str, warned: bool
) -> None:
    room = conversation(source)
    asked = prompt(tools=(), reasoning_effort=effort)
    assert shown in room.render(asked)
    assert any("reasoning_effort" in warning for warning in room.warnings(asked)) == warned


def test_a_forced_or_constrained_answer_begins_without_reasoning() -> None:
    forced = prompt(tool_choice=ToolChoice(mode="required"))
    assert conversation(HERMES).render(forced).endswith("<think></think>")
    opening = "<｜tool▁call▁begin｜></think>" + PLAIN + "{{ '<think>\\n' }}"
    assert conversation(opening).render(forced).endswith("[assistant]<think>\n\n</think>\n\n")
    assert conversation(opening).render(prompt(), is_constrained=True).endswith("</think>\n\n")
    assert conversation(opening).render(prompt()).endswith("<think>\n")
    assert conversation(HARMONY).render(prompt(), is_constrained=True).endswith("<|channel|>final<|message|>")


def test_what_the_client_says_of_options_holds() -> None:
    forced = prompt(tool_choice=ToolChoice(mode="required"), template_options={"enable_thinking": True})
    assert not conversation(HERMES).render(forced).endswith("<think></think>")
    with pytest.raises(UnsupportedParameter):
        conversation(PLAIN).render(prompt(template_options={"enable_thinking": True}))


def test_reasoning_that_a_template_does_not_read_is_told() -> None:
    assert any("reasoning_content is ignored" in w for w in conversation(PLAIN).warnings(prompt(CALLED)))
    assert not any("reasoning_content" in w for w in conversation(HERMES).warnings(prompt(CALLED)))


def test_a_form_for_the_text_and_tools_at_once_is_told() -> None:
    room = conversation(HERMES)
    assert "no tool can be called" in next(room.warnings(prompt(), is_constrained=True))
    forced = prompt(tool_choice=ToolChoice(mode="required"))
    assert "instead of text" in next(room.warnings(forced, is_constrained=True))


def test_a_continued_turn_ends_the_prompt_as_it_stands_with_control_tokens_severed() -> None:
    template = ChatTemplate(PLAIN, special_texts=["<|end|>"])
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="Well <|end|> then "))
    prompt = ChatPrompt(messages=messages, continues=True)
    rendered = Conversation(template, PLAIN).render(prompt)
    assert rendered == "[user] hi\n[assistant]Well <\ud800|end|> then "


def test_a_continued_turn_comes_after_its_reasoning() -> None:
    source = PLAIN + "<think>{{ '</think>' if false }}"
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="Well"))
    rendered = Conversation(ChatTemplate(source), source).render(
        ChatPrompt(messages=messages, continues=True)
    )
    assert rendered == "[user] hi\n[assistant]<think>\n\n</think>\n\nWell"
