"""The mock provider itself: a lab instrument must be right before it may judge anything."""

import http.client
import json
import socket
import threading
import time

import pytest

from locum.policy.usage import Tokens
from tests.acceptance import provider_anthropic, provider_chat, provider_gemini, provider_openai
from tests.acceptance.provider import DEFAULT, DIALECTS, Provider, refusing_url
from tests.acceptance.provider_steps import Step

ANTHROPIC, OPENAI, CHAT = provider_anthropic.PATH, provider_openai.PATH, provider_chat.PATH
GEMINI = provider_gemini.PATH.format(model="m", method="generateContent")
PATHS = (ANTHROPIC, OPENAI, CHAT, GEMINI)
KEYS = {ANTHROPIC: "x-api-key", GEMINI: "x-goog-api-key"}


@pytest.fixture
def provider():
    """A provider of its own for each test."""
    with Provider(seed=7) as running:
        yield running


def connect(provider):
    """An open keep-alive connection."""
    return http.client.HTTPConnection(provider.url.removeprefix("http://"), timeout=5)


def send(connection, path, key="k", stream=False, **body):
    """One request, streaming the way its protocol asks for it: in the body, or by the path."""
    headers = {KEYS[path]: key} if path in KEYS else {"authorization": f"Bearer {key}"}
    if path == GEMINI:
        path = path.replace("generateContent", "streamGenerateContent") if stream else path
        query = "alt=sse"
    else:
        body, query = {"model": "m", "stream": stream, **body}, "beta=true"
    connection.request("POST", f"{path}?{query}", json.dumps(body), headers if key else {})


def post(provider, path, key="k", **body):
    """One request on a connection of its own; the answer is read whole."""
    connection = connect(provider)
    try:
        send(connection, path, key, **body)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def chunks_of(payload):
    """The data of each whole server-sent event without a name."""
    return [json.loads(block.removeprefix("data: ")) for block in payload.decode().split("\n\n") if block]


def events_of(payload):
    """(name, data) of each whole server-sent event."""
    blocks = [block.split("\n") for block in payload.decode().split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def counted(path, usage):
    """The wire's usage object as disjoint counts."""
    if path == ANTHROPIC:
        return Tokens(
            usage["input_tokens"],
            usage["output_tokens"],
            usage["cache_read_input_tokens"],
            usage["cache_creation_input_tokens"],
        )
    if path == GEMINI:
        cached = usage["cachedContentTokenCount"]
        assert usage["totalTokenCount"] == usage["promptTokenCount"] + wrote(usage)
        return Tokens(usage["promptTokenCount"] - cached, wrote(usage), cached, 0)
    if path == CHAT:
        read = usage["prompt_tokens_details"]["cached_tokens"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        return Tokens(usage["prompt_tokens"] - read, usage["completion_tokens"], read, 0)
    read, write = usage["input_tokens_details"].values()
    return Tokens(usage["input_tokens"] - read - write, usage["output_tokens"], read, write)


def wrote(usage):
    """What Gemini's counts say was written: the answer, and the thoughts beside it."""
    return usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]


REFUSALS = [
    ("auth", 401, "authentication_error", 401, "invalid_api_key", 400, "INVALID_ARGUMENT"),
    ("forbidden", 403, "permission_error", 403, "unsupported_country_region_territory", 403, "PERMISSION_DENIED"),
    ("credit", 400, "invalid_request_error", 429, "insufficient_quota", 403, "PERMISSION_DENIED"),
    ("throttle", 429, "rate_limit_error", 429, "rate_limit_exceeded", 429, "RESOURCE_EXHAUSTED"),
    ("overloaded", 529, "overloaded_error", 503, "server_is_overloaded", 503, "UNAVAILABLE"),
    ("e500", 500, "api_error", 500, "server_error", 500, "INTERNAL"),
    ("e503", 503, "api_error", 503, None, 503, "UNAVAILABLE"),
    ("too_long", 400, "invalid_request_error", 400, "context_length_exceeded", 400, "INVALID_ARGUMENT"),
    ("not_found", 404, "not_found_error", 404, "model_not_found", 404, "NOT_FOUND"),
]


@pytest.mark.parametrize(
    ("behaviour", "status_a", "type_a", "status_o", "code_o", "status_g", "name_g"), REFUSALS, ids=str
)
def test_refusals_have_the_vendors_status_and_type(
    provider, behaviour, status_a, type_a, status_o, code_o, status_g, name_g
):
    """Each refusal answers with its vendor's own status and type, and issues nothing."""
    provider.script("k", [Step(behaviour, seconds=30)])
    response, body = post(provider, ANTHROPIC, stream=True)
    assert (response.status, json.loads(body)["error"]["type"]) == (status_a, type_a)
    for path in (OPENAI, CHAT):
        response, body = post(provider, path, stream=True)
        assert (response.status, json.loads(body)["error"]["code"]) == (status_o, code_o)
        assert response.headers["retry-after"] == ("30" if behaviour == "throttle" else None)
    response, body = post(provider, GEMINI, stream=True)
    error = json.loads(body)["error"]
    assert (response.status, error["code"], error["status"]) == (status_g, status_g, name_g)
    assert ("API_KEY_INVALID" in body.decode()) is (behaviour == "auth")
    assert ('"retryDelay": "30s"' in body.decode()) is (behaviour == "throttle")
    assert provider.issued == provider.partial == []


def test_refusals_cover_every_error_of_all_dialects():
    """No refusal exists in one protocol only, and none is left out of the test above."""
    tested = {row[0] for row in REFUSALS} | {"usage_limit"}
    assert [set(dialect.ERRORS) for dialect in DIALECTS] == [tested] * 4


@pytest.mark.parametrize("window", ["five_hour", "seven_day"])
def test_a_spent_window_tells_its_reset(provider, window):
    """A spent subscription window names itself and the moment it resets, in both protocols."""
    provider.script("k", [Step("usage_limit", reset_in_s=7200, window=window)])
    expected = time.time() + 7200
    response, _ = post(provider, ANTHROPIC)
    prefix = "anthropic-ratelimit-unified-"
    assert response.status == 429
    assert abs(int(response.headers[f"{prefix}reset"]) - expected) < 3
    assert response.headers[f"{prefix}status"] == "rejected"
    assert response.headers[f"{prefix}representative-claim"] == window
    assert response.headers["x-should-retry"] == "false"
    response, body = post(provider, OPENAI)
    error = json.loads(body)["error"]
    assert (response.status, error["type"], error["resets_in_seconds"]) == (429, "usage_limit_reached", 7200)
    place = "primary" if window == "five_hour" else "secondary"
    assert response.headers[f"x-codex-{place}-used-percent"] == "100.0"
    assert int(response.headers[f"x-codex-{place}-reset-at"]) == error["resets_at"]
    assert abs(error["resets_at"] - expected) < 3
    response, body = post(provider, CHAT)
    assert (response.status, json.loads(body)["error"]["resets_at"]) == (429, pytest.approx(expected, abs=3))
    response, body = post(provider, GEMINI)
    (detail,) = json.loads(body)["error"]["details"]
    assert (response.status, "PerDay" in detail["violations"][0]["quotaId"]) == (429, True), "Gemini tells no reset"


def test_quota_headers_come_only_when_asked(provider):
    """An answer tells the vendor's quota when the step says so, with the early warning from 90 % on."""
    provider.script("k", [Step(), Step(used_percent=12.5), Step(used_percent=95)])
    seen = [post(provider, ANTHROPIC)[0].headers["anthropic-ratelimit-unified-status"] for _ in range(3)]
    assert seen == [None, "allowed", "allowed_warning"]
    provider.script("k", [Step(), Step(used_percent=12.5)])
    assert [post(provider, OPENAI)[0].headers["x-codex-primary-used-percent"] for _ in range(2)] == [None, "12.5"]


@pytest.mark.parametrize("path", PATHS)
def test_json_answers_equal_the_ledger(provider, path):
    """The counts of a JSON answer are those of the ledger, under the message's own id."""
    answers = [json.loads(post(provider, path, key=key)[1]) for key in ("a", "b", "a")]
    ident, usage = ("responseId", "usageMetadata") if path == GEMINI else ("id", "usage")
    assert [(entry.id, entry.tokens) for entry in provider.issued] == [
        (answer[ident], counted(path, answer[usage])) for answer in answers
    ]
    assert [entry.key for entry in provider.issued] == ["a", "b", "a"]
    assert provider.total("a") + provider.total("b") == provider.total()
    assert provider.partial == []


def test_anthropic_stream_tells_the_output_count_last(provider):
    """The first event shows one output token, the final count comes in message_delta only."""
    _, payload = post(provider, ANTHROPIC, stream=True)
    events = events_of(payload)
    assert [name for name, _ in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    entry = provider.issued[0]
    first, last = dict(events)["message_start"]["message"], dict(events)["message_delta"]["usage"]
    assert first["id"] == entry.id
    assert counted(ANTHROPIC, first["usage"]) == Tokens(entry.tokens.input, 1, *tuple(entry.tokens)[2:])
    assert counted(ANTHROPIC, last) == entry.tokens


def test_openai_stream_tells_the_counts_last(provider):
    """Only response.completed has counts, and the events are numbered without a gap."""
    _, payload = post(provider, OPENAI, stream=True)
    events = events_of(payload)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert [name for name, _ in events][:: len(events) - 1] == ["response.created", "response.completed"]
    assert [bool(data.get("response", {}).get("usage")) for _, data in events] == [False] * (len(events) - 1) + [True]
    assert counted(OPENAI, events[-1][1]["response"]["usage"]) == provider.issued[0].tokens


def test_gemini_stream_tells_the_prompts_count_at_once_and_the_rest_last(provider):
    """Every chunk has counts; only the last has those of the whole answer, and the reason of its end."""
    provider.script("k", [Step("slow", seconds=0, text="x")])
    chunks = chunks_of(post(provider, GEMINI, stream=True)[1])
    (entry,) = provider.issued
    told = [counted(GEMINI, chunk["usageMetadata"]) for chunk in chunks]
    assert {counts.input for counts in told} == {entry.tokens.input}
    assert [counts.output for counts in told[:-1]] == [1] * 10
    assert (told[-1], entry.tokens.cache_write) == (entry.tokens, 0)
    ends = ["finishReason" in chunk["candidates"][0] for chunk in chunks]
    assert ends == [False] * 10 + [True]


def test_gemini_names_the_model_in_its_path(provider):
    """The model of an answer is the one in the path, and another method is nobody's."""
    path = provider_gemini.PATH.format(model="gemini-2.5-pro", method="generateContent")
    connection = connect(provider)
    for asked, status in [(path, 200), (path.replace("generate", "guess"), 404)]:
        connection.request("POST", asked, "{}", {"x-goog-api-key": "k"})
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()
    assert [entry.model for entry in provider.issued] == ["gemini-2.5-pro"]


def test_gemini_tools_are_function_calls(provider):
    """A tool step asks for a command in Gemini's shape until the request holds its result."""
    provider.script("k", [Step("tool", command="true")])
    asked = {"role": "user", "parts": [{"text": "go"}]}
    for stream in (False, True):
        payload = post(provider, GEMINI, stream=stream, contents=[asked])[1]
        answer = chunks_of(payload)[-1] if stream else json.loads(payload)
        (part,) = answer["candidates"][0]["content"]["parts"]
        assert part["functionCall"]["name"] == "run_shell_command"
        assert part["functionCall"]["args"]["command"] == "true"
    result = {"role": "user", "parts": [{"functionResponse": {"name": "run_shell_command", "response": {}}}]}
    answer = json.loads(post(provider, GEMINI, contents=[asked, result])[1])
    assert answer["candidates"][0]["content"]["parts"] == [{"text": "done"}]


def test_tool_calls_the_shell_then_answers(provider):
    """A tool step asks for a command until the request holds its result."""
    provider.script("k", [Step("tool", command="true")])
    answer = json.loads(post(provider, ANTHROPIC, messages=[{"role": "user", "content": "go"}])[1])
    call = answer["content"][1]
    assert (answer["stop_reason"], call["name"], call["input"]["command"]) == ("tool_use", "Bash", "true")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": ""}
    answer = json.loads(post(provider, ANTHROPIC, messages=[{"role": "user", "content": [result]}])[1])
    assert (answer["stop_reason"], answer["content"][0]["text"]) == ("end_turn", "done")
    asked = {"type": "message", "role": "user", "content": []}
    tools = [{"type": "function", "name": "exec_command"}]
    call = json.loads(post(provider, OPENAI, input=[asked], tools=tools)[1])["output"][0]
    assert (call["name"], json.loads(call["arguments"])) == ("exec_command", {"cmd": "true"})
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": ""}
    assert json.loads(post(provider, OPENAI, input=[asked, call, result])[1])["output"][0]["type"] == "message"
    # A new question after the result is a new turn.
    assert json.loads(post(provider, OPENAI, input=[result, asked])[1])["output"][0]["type"] == "function_call"
    assert len(provider.issued) == 5


@pytest.mark.parametrize("behaviour", ["tools", "hang_tool"])
def test_tools_are_called_on_and_on(provider, behaviour):
    """A step of many tools asks for the next one while the request holds the result of the last."""
    provider.script("k", [Step(behaviour, command="true")])
    connection = connect(provider)
    result = {"type": "tool_result", "tool_use_id": "x", "content": ""}
    send(connection, ANTHROPIC, messages=[{"role": "user", "content": [result]}])
    assert provider.wait_for(lambda p: p.hanging == (behaviour == "hang_tool") and len(p.requests) == 1)
    provider.release()
    assert json.loads(connection.getresponse().read())["stop_reason"] == "tool_use"
    connection.close()


def test_scripts_are_consumed_per_key_and_the_last_step_repeats(provider):
    """One key's requests never use up another key's steps."""
    provider.script("a", [Step("e500"), Step(), Step("auth")])
    provider.script(DEFAULT, [Step("credit")])
    statuses = [post(provider, ANTHROPIC, key=key)[0].status for key in ("a", "other", "a", "a", "a")]
    assert statuses == [500, 400, 200, 401, 401]
    assert [request.answered for request in provider.requests] == ["e500", "credit", "ok", "auth", "auth"]
    provider.script("a", [Step()])
    assert post(provider, ANTHROPIC, key="a")[0].status == 200


def test_flaky_fails_every_other_time(provider):
    """A flaky provider fails first and answers then, again and again."""
    provider.script("k", [Step("flaky")])
    assert [post(provider, OPENAI)[0].status for _ in range(4)] == [500, 200, 500, 200]


@pytest.mark.parametrize("path", PATHS)
def test_no_key_is_refused(provider, path):
    """A request without a key is refused whatever the script says."""
    assert post(provider, path, key="")[0].status == (400 if path == GEMINI else 401)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
def test_hang_says_nothing_until_released(provider, path, stream):
    """A hung request gets not even headers; released, it is answered and entered."""
    provider.script("k", [Step("hang")])
    connection = connect(provider)
    send(connection, path, stream=stream)
    assert provider.wait_for(lambda p: p.hanging == 1)
    connection.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.sock.recv(1, socket.MSG_PEEK)
    assert provider.issued == provider.partial == []
    connection.sock.settimeout(5)
    provider.release()
    assert connection.getresponse().read()
    assert (provider.hanging, len(provider.issued)) == (0, 1)
    connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_hang_stream_stops_after_the_first_content(provider, path):
    """A stream that hangs has begun, has told no final counts, and ends whole when released."""
    provider.script("k", [Step("hang_stream")])
    connection = connect(provider)
    send(connection, path, stream=True)
    response = connection.getresponse()
    assert provider.wait_for(lambda p: p.hanging == 1)
    begun = response.read1()
    assert b"data: {" in begun
    assert (len(provider.partial), provider.issued) == (1, [])
    provider.release()
    assert response.read()
    assert (provider.partial, len(provider.issued)) == ([], 1)
    connection.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("behaviour", ["hang", "hang_stream"])
def test_a_hang_ends_with_its_client(provider, path, behaviour):
    """Whoever hangs up frees its request, and nothing was issued to it."""
    provider.script("k", [Step(behaviour)])
    connection = connect(provider)
    send(connection, path, stream=True)
    assert provider.wait_for(lambda p: p.hanging == 1)
    connection.close()
    assert provider.wait_for(lambda p: p.hanging == 0)
    assert (provider.issued, len(provider.partial)) == ([], int(behaviour == "hang_stream"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_nobody_reads_is_not_issued(provider, path, stream):
    """Whoever hung up before the counts were sent has not been issued them."""
    provider.script("k", [Step("slow", seconds=0.1)])
    connection = connect(provider)
    send(connection, path, stream=stream)
    assert provider.wait_for(lambda p: len(p.partial) == 1)
    connection.close()
    assert provider.wait_for(lambda p: p.busy == 0)
    assert (provider.issued, len(provider.partial)) == ([], 1)


@pytest.mark.parametrize("path", PATHS)
def test_cut_stream_is_cut_and_not_issued(provider, path):
    """A cut stream is visibly incomplete and its counts are not in the ledger."""
    provider.script("k", [Step("cut_stream")])
    with pytest.raises(http.client.IncompleteRead) as cut:
        post(provider, path, stream=True)
    assert b"data: {" in cut.value.partial
    assert (provider.issued, len(provider.partial)) == ([], 1)
    assert post(provider, path)[0].status == 200, "a request for one body has no stream to cut"


@pytest.mark.parametrize(("path", "last"), [(ANTHROPIC, "error"), (OPENAI, "response.failed")])
def test_error_stream_ends_with_the_providers_error(provider, path, last):
    """A stream may begin well and end with an error event, whole on the wire but without counts."""
    provider.script("k", [Step("error_stream")])
    assert events_of(post(provider, path, stream=True)[1])[-1][0] == last
    assert (provider.issued, len(provider.partial)) == ([], 1)
    assert chunks_of(post(provider, GEMINI, stream=True)[1])[-1]["error"]["status"] == "UNAVAILABLE"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
def test_slow_takes_its_time(provider, path, stream):
    """A slow answer takes the seconds it was given and comes in pieces."""
    provider.script("k", [Step("slow", seconds=0.2, text="x")])
    began = time.monotonic()
    payload = post(provider, path, stream=stream)[1]
    assert time.monotonic() - began >= 0.2
    assert payload.count(b"data: {") >= 10 if stream else b"x x x" in payload


def test_bad_json_is_neither_json_nor_events(provider):
    """A proxy's page with status 200 is possible."""
    provider.script("k", [Step("bad_json")])
    response, body = post(provider, OPENAI, stream=True)
    assert (response.status, body[:1]) == (200, b"<")
    assert provider.issued == []


def test_counts_are_seeded_and_never_alike():
    """The same seed gives the same answers, and no two answers share an id or their counts."""
    runs = []
    for seed in (1, 1, 2):
        with Provider(seed) as provider:
            for _ in range(20):
                post(provider, ANTHROPIC)
            runs.append(provider.issued)
    assert runs[0] == runs[1] != runs[2]
    assert len({entry.id for entry in runs[0]}) == len({entry.tokens for entry in runs[0]}) == 20
    assert all(entry.tokens.output > 0 for entry in runs[0])


def test_fixed_counts_are_kept(provider):
    """A step may fix the counts, to cross a budget at a known token."""
    provider.script("k", [Step(tokens=Tokens(1, 2, 3, 4))])
    post(provider, OPENAI, stream=True)
    assert provider.total("k") == Tokens(1, 2, 3, 4)


def test_probes_are_answered_and_not_logged(provider):
    """HEAD, the model list and token counting work without using up a step."""
    provider.script("k", [Step("e500"), Step()])
    connection = connect(provider)
    for method, path, status in [
        ("HEAD", "/", 200),
        ("GET", "/v1/models", 200),
        ("POST", f"{ANTHROPIC}/count_tokens", 200),
        ("GET", "/nowhere", 404),
    ]:
        connection.request(method, path, headers={"x-api-key": "k"})
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()
    assert provider.requests == []
    assert post(provider, ANTHROPIC)[0].status == 500


@pytest.mark.parametrize("behaviour", ["hang", "hang_stream", "slow", None])
def test_close_leaves_no_thread(behaviour):
    """Closing ends hung, slow and idle connections at once."""
    before = set(threading.enumerate())
    provider = Provider()
    connection = connect(provider)
    if behaviour is None:
        connection.request("HEAD", "/")
        connection.getresponse().read()
    else:
        provider.script("k", [Step(behaviour, seconds=60)])
        connection.request("POST", ANTHROPIC, '{"stream": true}', {"x-api-key": "k"})
        assert provider.wait_for(lambda p: len(p.requests) == 1)
    began = time.monotonic()
    provider.close()
    provider.close()
    assert time.monotonic() - began < 2
    assert set(threading.enumerate()) == before
    connection.close()


def test_refusing_url_refuses():
    """The refusing address belongs to nobody and refuses."""
    with refusing_url() as url, pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(url.removeprefix("http://"), timeout=5).request("HEAD", "/")
