"""Chat Completions of the mock provider: what differs from the other protocols, whose common ways test_provider tries."""

import json

import pytest

from locum.policy.usage import Tokens
from tests.acceptance.provider_chat import PATH
from tests.acceptance.provider_steps import Step
from tests.acceptance.test_provider import counted, post, provider  # noqa: F401 - the fixture

ASKED = {"role": "user", "content": "go"}
TITLE = "You are a title generator. Say nothing else."
COUNTS = {"include_usage": True}


def chunks(payload):
    """The data of each server-sent event; the last is the word that ends all."""
    *data, done = [block.removeprefix("data: ") for block in payload.decode().split("\n\n") if block]
    assert done == "[DONE]"
    return [json.loads(each) for each in data]


@pytest.fixture
def scripted(request, provider):  # noqa: F811 - pytest hands the fixture over by this name
    """A provider with a script of one step, named by the test."""
    provider.script("k", [getattr(request, "param", Step())])
    return provider


def test_counts_come_alone_behind_the_end_when_asked_for(scripted):
    """With include_usage the last chunk has counts and no choice, and no chunk before it has any."""
    *said, last = chunks(post(scripted, PATH, stream=True, stream_options=COUNTS)[1])
    (entry,) = scripted.issued
    assert (last["choices"], counted(PATH, last["usage"])) == ([], entry.tokens)
    assert [each["usage"] for each in said] == [None] * len(said)
    assert {each["id"] for each in [*said, last]} == {entry.id}
    assert said[-1]["choices"][0]["finish_reason"] == "stop"
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in said) == "done"


def test_a_stream_tells_no_counts_unasked(scripted):
    """Whoever does not ask for the counts of a stream gets none, though they were spent."""
    said = chunks(post(scripted, PATH, stream=True)[1])
    assert not any("usage" in each for each in said)
    assert said[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(scripted.issued) == 1


@pytest.mark.parametrize("scripted", [Step(tokens=Tokens(1, 2, 3, 4))], indirect=True)
def test_writing_to_a_cache_is_not_told(scripted):
    """The ledger holds what the protocol can tell, and that is not all there is."""
    usage = json.loads(post(scripted, PATH)[1])["usage"]
    assert counted(PATH, usage) == scripted.total("k") == Tokens(1, 2, 3, 0)


@pytest.mark.parametrize("scripted", [Step("tool", command="true")], indirect=True)
@pytest.mark.parametrize(("offered", "name"), [("bash", "bash"), ("run_shell_command", "run_shell_command")])
def test_a_tool_call_is_whole_in_both_shapes(scripted, offered, name):
    """The offered shell is called, in pieces or at once, until its result is in the request; then there is an answer."""
    asked = {"messages": [ASKED], "tools": [{"type": "function", "function": {"name": offered}}]}
    (call,) = json.loads(post(scripted, PATH, **asked)[1])["choices"][0]["message"]["tool_calls"]
    said = chunks(post(scripted, PATH, stream=True, **asked)[1])
    deltas = [each["choices"][0]["delta"] for each in said]
    pieces = [piece["function"] for delta in deltas for piece in delta.get("tool_calls", [])]
    assert call["function"]["name"] == pieces[0]["name"] == name
    whole = "".join(piece["arguments"] for piece in pieces)
    assert json.loads(call["function"]["arguments"]) == json.loads(whole)
    assert json.loads(whole)["command"] == "true"
    assert said[-1]["choices"][0]["finish_reason"] == "tool_calls"
    asked["messages"] = [ASKED, {"role": "tool", "tool_call_id": call["id"], "content": ""}]
    for answered in (asked, {"messages": [ASKED]}):  # the second is an agent's that has no tools
        answer = json.loads(post(scripted, PATH, **answered)[1])["choices"][0]
        assert (answer["finish_reason"], answer["message"]["content"]) == ("stop", "done")


@pytest.mark.parametrize("scripted", [Step("error_stream")], indirect=True)
def test_an_error_in_the_stream_has_no_end_behind_it(scripted):
    """A stream may begin well and end with an error, without the word that ends all."""
    payload = post(scripted, PATH, stream=True)[1].decode()
    assert '"code": "server_is_overloaded"' in payload.rstrip().rpartition("\n")[2]
    assert "[DONE]" not in payload


@pytest.mark.parametrize("content", [TITLE, [{"type": "text", "text": TITLE}]], ids=["text", "parts"])
def test_a_title_takes_no_step(provider, content):  # noqa: F811
    """What an agent asks beside its conversation is answered when it comes, and moves no script."""
    provider.script("k", [Step("e500"), Step()])
    title = [{"role": "system", "content": content}, ASKED]
    statuses = [post(provider, PATH, messages=each)[0].status for each in (title, [ASKED], title, [ASKED], title)]
    assert statuses == [200, 500, 200, 200, 200]
    assert [each.aside for each in provider.requests] == [True, False, True, False, True]
    assert [each.aside for each in provider.issued] == [True, True, False, True]


def test_a_title_is_refused_where_everything_is(provider):  # noqa: F811
    """A bad key is a bad key for titles too."""
    provider.script("k", [Step("auth")])
    title = [{"role": "system", "content": TITLE}]
    assert post(provider, PATH, messages=title)[0].status == 401
