"""The dashboard in a real browser, on a real daemon: what happens shows by itself, and every button does what it says."""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import AXE
from tests.harness import PYTHON

pytestmark = pytest.mark.browser

DONE = {"say": "done", "usage": {"input": 100}}


def at_work(world, name):
    """A chain with one task at work on its first tier, which ends when the gate is opened."""
    gate = world.folder / f"{name}.gate"
    steps = {"one": [{"say": "working on it", "usage": {"input": 1234}, "gate": str(gate)}], "two": [DONE]}
    world.chain(name, steps)
    task = world.begin(name, "mend it", title="Mend it")
    world.until(lambda: world.status(name)["running"] == 1, "the task runs")
    return task, gate


def says(page, text):
    """Wait until the first sentence says so."""
    page.wait_for_function("text => document.getElementById('now').textContent.includes(text)", arg=text)


def confirm(page, button):
    """Press a button, and say yes; what it told before."""
    page.get_by_role("button", name=button, exact=True).click()
    told = page.locator("#ask-tells").inner_text()
    page.locator("#ask-yes").click()
    page.wait_for_selector("#ask", state="hidden")
    return told


def test_a_real_bump_shows_by_itself(world, watched) -> None:
    """A bump from the command line is on the page, and told to who cannot see it, without a reload."""
    world.chain("bumped", {"one": [DONE], "two": [DONE]})
    page = watched(world, "/?chain=bumped")
    page.evaluate("window.same = true")
    says(page, "Idle. The next task starts on bumped-one.")
    assert world.run("bump", "bumped", "--for", "2h", "--reason", "a <b>try</b>").returncode == 0
    says(page, "Idle. The next task starts on bumped-two.")
    card = page.locator(".tier", has_text="bumped-one")
    assert "operator" in card.inner_text()
    assert "a <b>try</b>" in card.inner_text()
    assert "in 2 h" in card.inner_text() or "in 1 h 59" in card.inner_text()
    assert "bumped-two" in page.locator("#heard").inner_text()
    assert "was taken out" in page.locator("#log").inner_text()
    assert page.evaluate("window.same"), "it was not loaded anew"


def test_work_shows_from_its_start_to_its_end(world, watched) -> None:
    """A task that starts, spends and ends is seen to do so."""
    task, gate = at_work(world, "work")
    page = watched(world, "/?chain=work")
    says(page, "Working: 1 task runs on work-one.")
    box = page.locator(f"#work-{task}")
    assert "working on it" in box.inner_text()
    assert "Mend it" in box.inner_text()
    page.wait_for_function("id => document.getElementById(id).textContent.includes('1.23')", arg=f"work-{task}")
    gate.touch()
    says(page, "Idle.")
    page.locator(f"#task-{task}.done").wait_for()
    assert page.locator("#work").inner_text().endswith("Nothing runs now.")


def test_what_an_agent_writes_shows_as_it_writes(world, watched) -> None:
    """Output that comes while one looks is there a moment later; the box follows its end and stays short."""
    gate = world.folder / "loud.gate"
    loop = f"import time,pathlib\nn=0\nwhile not pathlib.Path({str(gate)!r}).exists():\n n+=1; print(f'line {{n}} <i>', flush=True); time.sleep(0.02)"
    world.chain_of("loud", [{"name": "loud-one", "agent": "command", "command": [PYTHON, "-c", loop]}])
    world.begin("loud")
    page = watched(world, "/?chain=loud")
    page.wait_for_function("() => document.querySelector('pre.tail')?.textContent.includes('line 150 <i>')")
    tail = page.locator("pre.tail")
    assert tail.evaluate("box => box.textContent.split('\\n').length") <= 40
    assert tail.evaluate("box => box.scrollTop + box.clientHeight >= box.scrollHeight - 8")
    gate.touch()
    says(page, "Idle.")


def test_bump_and_release(world, watched) -> None:
    """Both ask once and say what they will do; no changes nothing, yes does it, for the time that was chosen."""
    world.chain("steer", {"one": [DONE], "two": [DONE]})
    page = watched(world, "/?chain=steer")
    page.get_by_role("button", name="Bump steer-one", exact=True).click()
    assert "The next task starts on steer-two." in page.locator("#ask-tells").inner_text()
    page.locator("#ask-no").click()
    page.wait_for_selector("#ask", state="hidden")
    assert world.status("steer")["active_tier"] == "steer-one"
    page.get_by_role("button", name="Bump steer-one", exact=True).click()
    page.locator("#ask-for").select_option("2h")
    page.locator("#ask-yes").click()
    says(page, "starts on steer-two.")
    assert world.tier("steer", "one")["hold"]["until"] is not None
    told = confirm(page, "Release steer-one")
    assert "(operator) is lifted now" in told
    says(page, "starts on steer-one.")
    assert world.tier("steer", "one")["hold"] is None


def test_pause_and_resume(world, watched) -> None:
    """A paused chain says so in its first sentence, and can be resumed from there."""
    world.chain("halt", {"one": [DONE]})
    page = watched(world, "/?chain=halt")
    assert "No task of the chain halt is started until you resume it" in confirm(page, "Pause halt")
    says(page, "Paused: nothing new starts.")
    assert world.status("halt")["paused"]
    world.begin("halt")
    says(page, "Paused: nothing new starts, 1 task waits.")
    assert "1 task may start at once" in confirm(page, "Resume halt")
    page.wait_for_function("() => !document.getElementById('now').textContent.includes('Paused')")
    assert not world.status("halt")["paused"]


def test_cancel(world, watched) -> None:
    """A task at work is stopped from the page."""
    task, _ = at_work(world, "stop")
    page = watched(world, "/?chain=stop")
    page.locator(f"#work-{task} button").click()
    assert "is told to stop" in page.locator("#ask-tells").inner_text()
    page.locator("#ask-yes").click()
    page.locator(f"#task-{task}.cancelled").wait_for()
    assert world.task(task)["state"] == "cancelled"


def test_what_has_changed_meanwhile_is_not_done(world, watched) -> None:
    """A yes to words that are not true any more is refused, and why stands in the dialog."""
    watched.expected.append("412")  # the browser itself tells of a refusal
    world.chain("race", {"one": [DONE], "two": [DONE], "three": [DONE]})
    page = watched(world, "/?chain=race")
    page.get_by_role("button", name="Bump race-one", exact=True).click()
    assert "starts on race-two" in page.locator("#ask-tells").inner_text()
    assert world.run("bump", "race", "--tier", "race-two").returncode == 0
    says(page, "Idle.")
    page.locator("#ask-yes").click()
    page.wait_for_function("() => document.getElementById('ask-error').textContent.includes('has changed')")
    assert world.status("race")["active_tier"] == "race-one"


def test_the_keyboard_is_enough(world, watched) -> None:
    """Everything can be reached, seen and done without a mouse: skip, bump, take back, and focus does not get lost."""
    world.chain("keys", {"one": [DONE], "two": [DONE]})
    page = watched(world, "/?chain=keys")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "act-Bump-keys-one":
            break
    assert page.evaluate("document.activeElement.id") == "act-Bump-keys-one"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is seen"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "ask-no", "the safe answer has the focus"
    page.keyboard.press("Escape")
    page.wait_for_selector("#ask", state="hidden")
    assert page.evaluate("document.activeElement.id") == "act-Bump-keys-one"
    world.run("bump", "keys", "--tier", "keys-two")
    page.locator(".tier.held", has_text="keys-two").wait_for()
    assert page.evaluate("document.activeElement.id") == "act-Bump-keys-one", "what changes around it takes no focus"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    says(page, "No tier is free.")
    assert world.status("keys")["exhausted"]


def test_a_rejected_edit_shows_and_goes(world, watched) -> None:
    """A mistake in service.json is a banner with its line and what to do; mended, it is gone."""
    page = watched(world)
    text = world.config.read_text()
    broken = text.replace('"failover"', '"failovr"', 1)
    line = next(number for number, each in enumerate(broken.splitlines(), 1) if "failovr" in each)
    try:
        world.config.write_text(broken)
        banner = page.locator("#banner-config")
        banner.wait_for()
        assert f"line {line}" in banner.inner_text()
        assert "Did you mean `failover`?" in banner.inner_text()
    finally:
        world.config.write_text(text)
    banner.wait_for(state="detached")


def test_hostile_words_are_shown_and_do_nothing(world, watched) -> None:
    """Titles, outputs and reasons that are HTML, turn direction or have no end neither run nor break the page."""
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202egnp"
    long = "long" * 50
    steps = {"one": [{"say": f"{evil}\n{long}\x1b[2J", "failure": "invalid_request", "message": evil}]}
    world.chain("evil", steps)
    world.do("evil", evil, title=evil)
    world.do("evil", long, title=long)
    page = watched(world, "/?chain=evil", viewport={"width": 360, "height": 780})
    assert "<img src=x onerror=alert(1)>" in page.locator("#tasks").inner_text()
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_many_tasks_are_paged(world, watched) -> None:
    """A page lists twenty; older ones are a link away, and the way back is too."""
    world.chain("many", {"one": [DONE]})
    assert world.run("pause", "many").returncode == 0
    tasks = [world.begin("many", f"task {number}", title=f"task {number}") for number in range(25)]
    page = watched(world, "/?chain=many")
    assert page.locator("#tasks li").count() == 20
    page.get_by_role("link", name="older").click()
    page.wait_for_selector(f"#task-{tasks[0]}")
    assert page.locator("#tasks li").count() == 5
    page.get_by_role("link", name="newest").click()
    page.wait_for_selector(f"#task-{tasks[-1]}")
    page.get_by_role("link", name="done").click()
    page.wait_for_function("() => document.querySelectorAll('#tasks li').length === 0")
    for task in tasks:
        world.client.post(f"/tasks/{task}/cancel")


def test_a_notice_leads_to_its_task(world, watched) -> None:
    """The link of a notice opens the task it is about, with every attempt and why it failed."""
    failed = {"failure": "invalid_request", "message": "no such thing", "say": "I tried"}
    world.chain("linked", {"one": [failed]})
    task = world.do("linked", title="Find it")
    [notice] = world.notices("task_failed", "linked")
    page = watched(world, notice["link"] if "link" in notice else f"/#task/{task['id']}")
    page.wait_for_selector("#opened")
    text = page.locator("#opened").inner_text()
    for part in ("Find it", "failed on linked-one", "invalid_request", "no such thing", "I tried"):
        assert part in text
    page.get_by_role("link", name="close").click()
    page.wait_for_selector("#opened", state="detached")
    assert page.get_by_role("link", name="linked", exact=False).first.get_attribute("aria-current") == "page"


def test_a_chosen_theme_stays(world, watched) -> None:
    """System, light, dark: the button turns it, a reload keeps it."""
    page = watched(world, color_scheme="light")
    back = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(back)
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.locator("#theme").click()
    dark = page.evaluate(back)
    assert dark != light
    page.reload()
    assert page.evaluate(back) == dark
    page.locator("#theme").click()
    assert page.evaluate(back) == light


def test_the_history_is_a_chart_and_a_table(world, watched) -> None:
    """What was used is drawn, by type or tier, and the same numbers stand in a table."""
    world.chain("drawn", {"one": [{"usage": {"input": 1000, "output": 234}}]})
    world.do("drawn")
    page = watched(world, "/?chain=drawn")
    page.wait_for_selector("#chart canvas")
    page.locator("#history summary").click()
    assert "1,000" in page.locator("#chart-table").inner_text()
    assert "234" in page.locator("#chart-table").inner_text()
    page.get_by_role("button", name="by tier").click()
    page.wait_for_function("() => document.getElementById('chart-table').textContent.includes('drawn-one')")
    for span in ("30 days", "26 weeks", "48 hours"):
        page.get_by_role("button", name=span).click()
        page.wait_for_function("() => document.getElementById('chart-table').textContent.includes('1,234')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(world, watched, scheme) -> None:
    """An accessibility checker finds neither a serious nor a critical fault, in both themes, also in the dialog."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make browser")
    name = f"axe-{scheme}"
    _, gate = at_work(world, name)
    world.run("bump", name, "--tier", f"{name}-two", "--reason", "looked at")
    page = watched(world, f"/?chain={name}", color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector("#chart canvas")
    page.evaluate(AXE.read_text())
    try:
        for look in ("page", "dialog"):
            if look == "dialog":
                page.get_by_role("button", name=f"Bump {name}-one", exact=True).click()
            found = page.evaluate("axe.run()")
            bad = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
            told = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in bad]
            assert not bad, f"{look}: {json.dumps(told, indent=1)}"
            assert len(found["passes"]) > 10, "it has looked"
    finally:
        gate.touch()
