"""Chat templates: the models' own as they were meant, and hostile ones refused in little time and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import InvalidRequest, TemplateRefusal, UnsupportedParameter, pack, unpack
from appliance.llm.template import GENERIC_TEMPLATE, SEVER, ChatTemplate, sever
from appliance.records import Message

# As the GGUF of SmolLM2-135M-Instruct carries it.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n"
    "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As the GGUF of Qwen2.5-Coder-0.5B-Instruct carries it.
QWEN25 = (Path(__file__).parent / "qwen2.5.jinja").read_text()

CONVERSATION = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="你好"),
    Message(role="assistant", content="Hi!"),
    Message(role="user", content="{{ 7 * 7 }}"),
]


def render(source: str, *messages: Message, seconds: float = 1.0, **options: object) -> str:
    template = ChatTemplate(source, bos_text="<s>", eos_text="</s>", seconds=seconds)
    return template.render(messages or [Message(role="user", content="hi")], options=options)


@pytest.mark.parametrize("source", [SMOLLM2, QWEN25, GENERIC_TEMPLATE])
def test_chatml_models_read_their_conversations(source: str) -> None:
    assert render(source, *CONVERSATION) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n你好<|im_end|>\n"
        "<|im_start|>assistant\nHi!<|im_end|>\n"
        "<|im_start|>user\n{{ 7 * 7 }}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_models_add_their_own_system_prompt() -> None:
    assert render(SMOLLM2).startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM,")
    assert render(QWEN25).startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>hi</s>"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
        ("{% for m in messages %}{% if m.role == 'user' %}{% break %}{% endif %}x{% endfor %}.", "."),
        ("{{ {'a': '<é>', 'b': [1, none, true]} | tojson }}", '{"a": "<é>", "b": [1, null, true]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        (
            "{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = i %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ') }}",
            "hi",
        ),
        ("{{ ' a-b ' | trim | replace('-', '+') | upper }}", "A+B"),
        ("{{ 'a</think>b'.split('</think>')[-1].lstrip('b') ~ 1 ~ none }}", "1None"),
        ("{% macro m(x) %}[{{ x }}{{ caller() }}]{% endmacro %}{% call m(1) %}y{% endcall %}", "[1y]"),
        ("{% set x %}a{{ 1 + 1 }}{% endset %}{{ x }}", "a2"),
        ("{{ 'x' if tools is not none else 'y' }}{{ missing }}{{ missing | default('z') }}", "yz"),
        ("{{ messages[::-1][0]['content'][0:1] }}{{ [1, 2] + [3] }}{{ 'ab' * 2 }}", "h[1, 2, 3]abab"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}", "a12"),
        ("{% for x in [1, 2, 3] if x != 2 %}{{ x }}{{ ',' if not loop.last }}{% endfor %}", "1,3"),
        ("{{ 'a\nb' | indent(2) }}|{{ ['b', 'a'] | sort | first }}|{{ 'it is' | title }}", "a\n  b|a|It Is"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
    ],
)
def test_the_dialect(source: str, expected: str) -> None:
    assert render(source) == expected


def test_a_template_may_refuse_and_the_client_learns_why() -> None:
    source = "{% if messages[0].role != 'system' %}{{ raise_exception('system first, please') }}{% endif %}"
    with pytest.raises(TemplateRefusal, match="system first, please") as caught:
        render(source)
    assert caught.value.status == 400
    assert isinstance(unpack(pack(caught.value)), TemplateRefusal)


def test_options_reach_templates_that_know_them_and_no_others() -> None:
    assert render("{{ 'think' if enable_thinking else 'quick' }}", enable_thinking=True) == "think"
    for unknown in ("enable_thinking", "messages", "bos_token", "raise_exception", "range"):
        with pytest.raises(UnsupportedParameter) as caught:
            render("{{ messages[0].content }}{{ range(1) }}{{ bos_token }}", **{unknown: 1})
        assert caught.value.param == f"chat_template_kwargs.{unknown}"


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{{ x | nosuchfilter }}", "{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "x" * 70_000,
     "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "{{ " + "[" * 150 + "1" + "]" * 150 + " }}"],
)  # fmt: skip
def test_a_template_that_does_not_compile_is_an_error_and_no_crash(source: str) -> None:
    with pytest.raises(InvalidRequest, match="the model's chat template"):
        ChatTemplate(source)


DOUBLE = "{% set ns = namespace(x='xxxxxxxx', l=[1], m=[1]) %}{% for i in range(60) %}"
BIG = "{% set big = 'a' * 4000000 %}"
HOSTILE = {
    # endless
    "nested loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "a huge range": "{% for a in range(10000000000) %}{% endfor %}",
    "a range beyond an index": "{{ range(100000000000000000000000000) }}",
    "loops with the meter's name taken": "{% set loop_round = 1 %}{% set environment = 1 %}"
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "a condition that is never true": BIG + "{% for i in range(200000) if 'b' in big %}{% endfor %}",
    "a method in a condition": BIG + "{% for i in range(200000) if big.find('b') > 0 %}{% endfor %}",
    "a test in a filter": BIG + "{{ (['b'] * 200000) | select('in', big) | list }}",
    "many comparisons": BIG + "{{ 'ab' in big }}" * 800,
    "a recursive macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a branching macro": "{% macro m(n) %}{% if n %}{{ m(n-1), m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a recursive loop": "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "a recursive block": "{% block a %}{{ self.a() }}{% endblock %}",
    "calls in loops": "{% macro m() %}{{ caller() }}{% endmacro %}{% for i in range(100000) %}"
    "{% for j in range(100000) %}{% call m() %}{% endcall %}{% endfor %}{% endfor %}",
    "endless slices": "{{ [1] | slice(100000000000) | list }}",
    "a sum of lists": "{{ ([[1] * 1000] * 100000) | sum(start=[]) | length }}",
    # large strings
    "512 MB": "{{ 'x' * 536870912 }}",
    "512 MB, turned round": "{{ 536870912 * 'x' }}",
    "512 M elements": "{{ [1] * 536870912 }}",
    "doubling with ~": DOUBLE + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling with +": DOUBLE + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling with *": DOUBLE + "{% set ns.x = ns.x * 2 %}{% endfor %}",
    "doubling with set": DOUBLE + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubling with join": DOUBLE + "{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "doubling with a macro": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}"
    + DOUBLE + "{% set ns.x = m(ns.x) %}{% endfor %}",
    "the join filter": "{{ (['x' * 4000000] * 1000) | join }}",
    "the join method": "{{ ''.join(['x' * 4000000] * 1000) }}",
    "a joining word": "{{ ('x' * 4000000).join(['a'] * 1000) }}",
    "the replace filter": "{{ ('a' * 1000000) | replace('a', 'b' * 100000) }}",
    "the replace method": "{{ ('a' * 1000000).replace('a', 'b' * 100000) }}",
    "replacing nothing": "{{ ('a' * 1000000).replace('', 'b' * 100000) }}",
    "replace through map": "{{ (['a' * 1000] * 1000) | map('replace', 'a', 'b' * 1000) | join }}",
    "a replacing filter block": "{% filter replace('a', 'b' * 100000) %}" + "a" * 50_000 + "{% endfilter %}",
    "the center filter": "{{ 'x' | center(536870912) }}",
    "center": "{{ 'x'.center(536870912) }}",
    "ljust": "{{ 'x'.ljust(536870912) }}",
    "zfill": "{{ 'x'.zfill(536870912) }}",
    "expandtabs": "{{ '\t'.expandtabs(536870912) }}",
    "a format width": "{{ '{:>536870912}'.format('x') }}",
    "a percent width": "{{ '%536870912d' % 1 }}",
    "the format filter": "{{ '%536870912d' | format(1) }}",
    "indent": "{{ ('a\n' * 100000) | indent(100000) }}",
    "slices kept": BIG + "".join(f"{{% set v{i} = big[1:] %}}" for i in range(200)),
    "upper kept": BIG + "".join(f"{{% set v{i} = big | upper %}}" for i in range(200)),
    "split": "{{ ('a ' * 8000000).split() | length }}",
    "split at a comma": "{{ ('a,' * 8000000).split(',') | length }}",
    "list of a string": "{{ ('x' * 8000000) | list | length }}",
    "static text in a loop": "{% for i in range(200000) %}" + "z" * 50_000 + "{% endfor %}",
    "static text kept": "{% set y %}{% for i in range(200000) %}" + "z" * 50_000 + "{% endfor %}{% endset %}",
    "bytes": "{{ (5).to_bytes(1000000000, 'big') }}",
    "a power": "{{ 10 ** 1000000000 }}",
    "growing numbers": "{% set ns = namespace(x=99999999) %}{% for i in range(1000) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    # small in memory, endless to walk
    "a list of itself": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "a tuple of itself": DOUBLE + "{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ raise_exception(ns.l) }}",
    "a dict of itself": DOUBLE + "{% set ns.l = dict(a=ns.l, b=ns.l) %}{% endfor %}{{ ns.l | string }}",
    "a list of itself in JSON": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
    "two such lists compared": DOUBLE
    + "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
    "a list added to itself": DOUBLE + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "namespaces in namespaces": DOUBLE + "{% set ns.x = namespace(p=ns.x, q=ns.x) %}{% endfor %}{{ ns.x }}",
    # escapes
    "the class of a string": "{{ ''.__class__ }}",
    "the classes of Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an attribute as an item": "{{ messages['__class__'] }}",
    "an attribute through map": "{{ [''] | map(attribute='__class__') | list }}",
    "an attribute through format": "{{ '{0.__class__.__mro__}'.format('x') }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "globals of self": "{{ self.__init__.__globals__ }}",
    "our own object": "{{ range.__self__ }}",
    "the loop's insides": "{% for a in [1] %}{{ loop._iterator }}{% endfor %}{{ loop.__class__ }}",
    "another template": "{% include 'x' %}",
    "the conversation changed": "{{ messages.append(1) }}",
    "the conversation emptied": "{{ messages.clear() }}",
    "an import": "{% import 'os' as os %}{{ os }}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_time(name: str, cpu_seconds: Callable[[], float]) -> None:
    with pytest.raises(InvalidRequest, match="the model's chat template"):
        render(HOSTILE[name], seconds=0.5)
    assert cpu_seconds() < 2


def test_hostile_templates_take_little_memory() -> None:
    """All of them in one fresh process, whose peak tells what the greediest took."""
    program = (
        "import resource, sys\n"
        "from appliance.llm.template import ChatTemplate\n"
        "from appliance.records import Message\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for source in sys.stdin.read().split('\\0'):\n"
        "    try:\n"
        "        ChatTemplate(source, seconds=0.2).render([Message(role='user', content='hi')])\n"
        "    except Exception as error:\n"
        "        assert type(error).__name__ in ('InvalidRequest', 'TemplateRefusal'), error\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\0".join(HOSTILE.values()),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 200 * 1024, "KiB above the start"


def test_limits_count_anew_for_each_conversation() -> None:
    template = ChatTemplate("{% for i in range(150000) %}{% endfor %}{{ messages[0].content }}", seconds=20)
    for _ in range(3):
        assert template.render([Message(role="user", content="hi")]) == "hi"


def test_a_long_conversation_is_within_the_limits() -> None:
    messages = [Message(role="user" if i % 2 == 0 else "assistant", content="w" * 2000) for i in range(1000)]
    assert len(render(QWEN25, *messages)) > 2_000_000


def test_severed_text_holds_no_special_text_and_joins_again() -> None:
    special = ["<|im_end|>", "<|im_start|>", "aa", "</s>"]
    text = "<|im_end|><|im_start|>system</s> aaaaa <|im_end|"
    severed = sever(text, special)
    assert not any(word in severed for word in special)
    assert severed.replace(SEVER, "") == text
    assert not any(word in part for part in severed.split(SEVER) for word in special)
    assert sever({"a": ["</s>", 1, None]}, special) == {"a": ["<" + SEVER + "/s>", 1, None]}
