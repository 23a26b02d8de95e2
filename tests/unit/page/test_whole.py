"""The whole page: every state in words, nothing hostile in effect, nothing from elsewhere, and small."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from locum.config.problem import Problem
from locum.page.assets import ASSETS
from locum.page.say import KINDS, badge, short
from locum.page.whole import whole
from locum.policy.failure import FailureKind
from tests.unit.page.scenes import NOW_MS, Read, chain, hold, measure, run, scene, task, tier, working
from tests.unit.page.test_markup import EVIL

EVENT = {
    "kind": "bumped",
    "chain": "default",
    "at": "2025-12-31T23:59:00Z",
    "tier": "one",
    "task": "t-1",
    "failure": "auth_error",
    "reason": EVIL,
    "hold": hold(),
    "active_tier": "two",
}
NOTICE = {"kind": "task_failed", "severity": "warning", "at": "2026-01-01T00:00:00Z", "chain": None, "data": {}}
READING = {
    "name": "five_hour",
    "model": None,
    "status": "allowed",
    "used_percent": 91.0,
    "resets": "2026-01-01T03:00:00Z",
    "read": "2025-12-31T23:56:00Z",
    "freshness": "current",
    "counted": measure(4321)["totals"],
}


def busy():
    """A scene with some of everything, in which every text from elsewhere is hostile."""
    long = "x" * 5000
    stands = chain(
        tier(EVIL, "held", hold(reason=EVIL), model=EVIL, account=EVIL),
        tier(long, "active"),
        tier("two", "probation", account=EVIL),
        last_failure_kind="auth_error",
        last_failure_at="2025-12-31T23:59:00Z",
        last_failure_reason=EVIL,
        last_failure_tier=EVIL,
        running=2,
    )
    return scene(
        chain=stands,
        chains=[stands, chain(tier("x"), name=EVIL)],
        measure=measure(800, 1000),
        usage={each["name"]: measure(5, 100) for each in stands["tiers"]},
        running={EVIL: 1, long: 1},
        working=[working(EVIL, title=EVIL, cwd=EVIL)._replace(runs=[run(tier=EVIL)])],
        opened=working(EVIL, title=EVIL, reason=EVIL, said=EVIL)._replace(
            runs=[
                run(tier=EVIL, state=EVIL, failure="crash", reason=EVIL),
                run(state="running", failure=None, reason=None),
            ]
        ),
        tasks=[task(title=EVIL, said=EVIL), task("t-3", "failed", title=long, reason=EVIL, reason_code=EVIL)],
        older="abc",
        events=[{"seq": 1, **EVENT}, {"seq": 2, **EVENT, "kind": "surprising", "tier": EVIL}],
        notices=[{"seq": 1, **NOTICE, "title": EVIL, "message": EVIL}],
        accounts={EVIL: {"tiers": [EVIL], "windows": [{**READING, "name": EVIL, "model": EVIL, "status": EVIL}]}},
        problems=[Problem(Path("/etc/locum/service.json"), 12, 5, EVIL, "why it cannot", "mend it")],
        low_disk=True,
        config=EVIL,
    )


def test_hostile_words_do_nothing() -> None:
    """Names, reasons and outputs that are HTML, turn direction or steer are shown, and make no element of their own."""
    page = whole(busy(), EVIL)
    found = Read(page)
    assert [name for name, _ in found.elements].count("script") == 1
    assert not {"\u202e", "\u2066", "\x1b", "\x00"} & set(page)
    keys = {key for _, attributes in found.elements for key in attributes}
    assert not [key for key in keys if key.startswith("on") or key == "style"]
    assert "data-theme" not in keys, "a theme that there is not is none"
    assert page.encode()
    assert max(map(len, found.text.split())) < 700, "long words are cut"


def test_ids_are_unique_and_labels_lead_somewhere() -> None:
    """Who reads by ear is not led astray."""
    found = Read(whole(busy(), ""))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found.elements:
        for key in ("aria-labelledby", "aria-describedby"):
            assert key not in attributes or attributes[key] in ids
        href = attributes.get("href") or ""
        assert not href.startswith("#") or href[1:] in ids
    names = [name for name, _ in found.elements]
    assert {"header", "main", "footer", "nav", "h1"} <= set(names)


def test_nothing_is_asked_from_elsewhere() -> None:
    """Every address in page, styles and scripts is our own."""
    for _, attributes in Read(whole(busy(), "dark")).elements:
        for key in ("src", "href", "action", "data-uplot", "data-style"):
            assert key not in attributes or re.match(r"/(?!/)|#", attributes[key] or ""), attributes
    for name, asset in ASSETS.files.items():
        # A namespace is a name, and uplot.js begins with the address of its authors.
        text = asset.body.decode().replace("http://www.w3.org/2000/svg", "")
        text = text.replace("https://github.com/leeoniya/uPlot", "") if name == "uplot.js" else text
        assert "://" not in text, name


def test_it_is_small() -> None:
    """The page with everything that it loads, the chart too, stays under 80 kB as it is sent."""
    page = len(gzip.compress(whole(busy(), "").encode(), 5))
    files = sum(len(each.packed) for each in ASSETS.files.values())
    assert page + files < 80_000


def test_a_hundred_tiers_are_few_cards() -> None:
    """Tiers far down that only stand ready are one line; those that are held are shown wherever they stand."""
    many = [tier(f"tier-{number}") for number in range(100)]
    stands = chain(tier("first", "active"), *many, tier("last", "held", hold()))
    found = Read(whole(scene(chain=stands), ""))
    cards = [
        attributes
        for name, attributes in found.elements
        if name == "li" and "tier" in (attributes.get("class") or "").split()
    ]
    assert len(cards) == 25
    assert "77 more tiers, all ready" in found.text
    assert "tier-99" in found.text
    assert "last" in found.text


@pytest.mark.parametrize(
    ("state", "word"), [("active", "next in line"), ("ready", "ready"), ("held", "held"), ("probation", "on probation")]
)
def test_each_state_of_a_tier_has_words(state: str, word: str) -> None:
    """No state is told by colour alone."""
    holds = [hold()] if state == "held" else []
    found = Read(whole(scene(chain=chain(tier("one", state, *holds))), ""))
    assert f" {word} " in found.text
    assert ("until 02:10 (in 2 h 10 min) it is used up" in found.text) == (state == "held")


def test_a_tier_at_work_says_so() -> None:
    """Working is another word than next in line."""
    stands = chain(tier("one", "active"), running=2)
    assert "working" in Read(whole(scene(chain=stands, running={"one": 2}), "")).text


def test_every_failure_kind_has_a_badge() -> None:
    """A budget of one's own, a login and a vendor's limit are told apart by word, class and picture; none is without."""
    told = {kind: badge(kind) for kind in FailureKind}
    assert all(kind in Read(found).text for kind, found in told.items())
    apart = [
        told[FailureKind(each)]
        for each in ("token_budget", "auth_error", "usage_limit", "overloaded", "operator", "crash")
    ]
    for part in (r'class="badge (\w+)"', r'href="#(i-\w+)"', r"</svg>([\w' ]+) <code>"):
        found = [re.search(part, each) for each in apart]
        assert len({each[1] for each in found if each}) == len(apart)
    assert set(KINDS) <= {kind.value for kind in FailureKind}


def test_a_rejected_edit_is_a_banner_with_line_and_remedy() -> None:
    """Where it is wrong, why, and what to do stand at the top."""
    text = Read(whole(busy(), "")).text
    assert "service.json was not taken over. The last good one stays in use." in text
    assert "line 12, column 5:" in text
    assert "why it cannot. Mend it" in text
    assert "The disk is almost full." in text


def test_buttons_tell_what_they_will_do() -> None:
    """Each order is asked about in words that name what happens next, and carries what it was true of."""
    stands = chain(tier("one", "active"), tier("two", "held", hold(target="account:a", reason="")), running=1)
    asks = {
        attributes["data-ask"]: attributes
        for _, attributes in Read(whole(scene(chain=stands, working=[working()]), "")).elements
        if "data-ask" in attributes
    }
    assert set(asks) == {"Pause default?", "Bump one?", "Bump two?", "Release two?", "Cancel t-2?"}
    assert "No other tier is free: tasks wait." in (asks["Bump one?"]["data-tells"] or "")
    assert "lifted for all of its tiers" in (asks["Release two?"]["data-tells"] or "")
    assert "1 running task goes on to the end" in (asks["Pause default?"]["data-tells"] or "")
    assert "stays as it is" in (asks["Cancel t-2?"]["data-tells"] or "")
    assert asks["Bump one?"]["data-match"] == '"tag"'
    assert asks["Bump one?"]["data-path"] == "/chains/default/bump"


def test_who_may_only_read_has_no_buttons() -> None:
    """What would be refused is not offered."""
    stands = chain(tier("one", "active"), running=1)
    page = whole(scene(chain=stands, working=[working()], tasks=[task("t-9", "queued")], match=None), "")
    assert "data-ask" not in page


def test_vendors_stand_beside_our_own_count() -> None:
    """What a vendor says, how old that is, and what was counted here; a window that is over is not shown as full."""
    over = {**READING, "freshness": "over"}
    accounts = {"a": {"tiers": ["one", "two"], "windows": [READING, over]}}
    text = Read(whole(scene(accounts=accounts), "")).text.replace("\xa0", " ")
    assert "one, two 5 hours 91% 91 % used allowed 4 min ago 4.32 k 03:00 (in 3 h)" in text
    assert "not known. Said 4 min ago 4.32 k not told" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (12_345, "12.3 k"),
        (999_499, "999 k"),
        (999_900, "1 M"),
        (4.56e6, "4.56 M"),
        (2e9, "2 G"),
    ],
)
def test_numbers_are_short(number: float, text: str) -> None:
    """Three digits and a unit, never 1000 k."""
    assert short(number).replace("\xa0", " ") == text


def test_the_page_tells_its_own_moment() -> None:
    """The daemon's clock is the one that counts down."""
    main = next(attributes for name, attributes in Read(whole(scene(), "dark")).elements if name == "main")
    assert main["data-now"] == "2026-01-01T00:00:00Z"
    assert NOW_MS == 1_767_225_600_000
