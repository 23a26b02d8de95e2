"""Lengths of time, sizes, time zones."""

from __future__ import annotations

import pytest

from locum.config.values import duration_ms, size_bytes
from locum.config.zone import host_timezone, is_zone


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90_000), ("5m", 300_000), ("5h", 18_000_000), ("7d", 604_800_000), ("1h30m", 5_400_000), ("007s", 7000)],
)
def test_lengths_of_time(text, expected):
    """A number with its unit, or several, is what a clock would say."""
    assert duration_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 m",
        "m",
        "-5m",
        "1.5h",
        "5M",
        "0s",
        "0h0m",
        "5m\n",
        "\N{ARABIC-INDIC DIGIT FIVE}m",
        "9" * 39 + "s",
        "4000d",
        5,
        None,
        True,
    ],
)
def test_other_lengths_are_refused(text):
    """Whatever is not plainly a length of time is refused."""
    with pytest.raises(ValueError):
        duration_ms(text)


@pytest.mark.parametrize(("text", "expected"), [("1K", 1024), ("512M", 1 << 29), ("1G", 1 << 30), ("2T", 2 << 40)])
def test_sizes(text, expected):
    """Units are powers of 1024."""
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "512", "512m", "512MB", "0M", "-1G", "1.5G", "9999999999T", 512, None])
def test_other_sizes_are_refused(text):
    """Whatever is not plainly a size is refused."""
    with pytest.raises(ValueError):
        size_bytes(text)


def test_the_host_tells_its_time_zone(tmp_path):
    """TZ comes first, then the link that the system keeps, then UTC."""
    zone = tmp_path / "zoneinfo" / "Europe" / "Madrid"
    zone.parent.mkdir(parents=True)
    zone.write_text("")
    link, plain, broken = tmp_path / "localtime", tmp_path / "copy", tmp_path / "broken"
    link.symlink_to(zone)
    plain.write_text("")
    broken.symlink_to(broken)
    assert host_timezone({}, link) == "Europe/Madrid"
    assert host_timezone({"TZ": ":Asia/Tokyo"}, link) == "Asia/Tokyo"
    assert host_timezone({"TZ": f":{zone}"}, plain) == "Europe/Madrid"
    assert host_timezone({"TZ": "no such zone"}, link) == "Europe/Madrid"
    for odd in (plain, broken, tmp_path / "absent"):
        assert host_timezone({}, odd) == "UTC"


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "America", "/etc/localtime", "../x", "a\0b", "x" * 5000])
def test_odd_names_are_no_zones(name):
    """Asking for an odd name answers no instead of raising."""
    assert not is_zone(name)
