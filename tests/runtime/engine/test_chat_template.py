"""Chat templates: rendering in the sandbox, and the text around each role."""

from __future__ import annotations

import pytest

from forktree.runtime import InvalidRequest
from forktree.runtime.engine.chat_template import ChatTemplate, plain

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
MERGED = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system here') }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}{{ raise_exception('user and assistant only') }}{% endif %}"
    "{% endfor %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') }}"
    "{{ message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": "So?"}]


def test_chatml_with_a_default_system_message() -> None:
    found = ChatTemplate(CHATML, bos="<|im_start|>", eos="<|im_end|>").chat_format()
    assert found is not None
    assert (found.bos, found.default_system) == ("", "<|im_start|>system\nBe kind.<|im_end|>\n")
    assert found.roles["system"] == ("<|im_start|>system\n", "<|im_end|>\n")
    assert found.roles["assistant"] == ("<|im_start|>assistant\n", "<|im_end|>\n")


def test_llama3_has_a_bos_and_no_default() -> None:
    template = ChatTemplate(LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>")
    found = template.chat_format()
    assert found is not None
    assert (found.bos, found.default_system) == ("<|begin_of_text|>", "")
    assert plain(found, TALK) == template.render(TALK, add_generation_prompt=False)


@pytest.mark.parametrize(
    ("source", "bos", "user", "assistant"),
    [(MISTRAL, "<s>", ("[INST] ", "[/INST]"), ("", "</s>")), (LLAMA2, "", ("<s>[INST] ", " [/INST]"), ("", " </s>"))],
)
def test_a_template_without_system_messages_of_their_own_has_the_other_roles(
    source: str, bos: str, user: tuple[str, str], assistant: tuple[str, str]
) -> None:
    found = ChatTemplate(source, bos="<s>", eos="</s>").chat_format()
    assert found is not None
    assert (found.bos, found.default_system) == (bos, "")
    assert found.roles == {"user": user, "assistant": assistant}


def test_a_template_that_changes_what_it_is_given_has_no_format() -> None:
    source = "{% for message in messages %}{{ message['role'] + message['content'][::-1] }}{% endfor %}"
    assert ChatTemplate(source, bos="", eos="").chat_format() is None


def test_what_a_template_refuses_names_messages() -> None:
    template = ChatTemplate(MERGED, bos="", eos="")
    with pytest.raises(InvalidRequest, match="no system here") as refused:
        template.render([{"role": "system", "content": "x"}])
    assert refused.value.field == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_hostile_template_can_reach_nothing(source: str) -> None:
    with pytest.raises(InvalidRequest):
        ChatTemplate(source, bos="", eos="").render(TALK)


def test_messages_without_content_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        ChatTemplate(CHATML, bos="", eos="").render([{"role": "user", "content": None}])
