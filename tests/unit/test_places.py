"""Where state and socket are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from locum.places import SYSTEM_SOCKET, socket_paths, state_dir


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"LOCUM_STATE": "/a", "STATE_DIRECTORY": "/b", "XDG_STATE_HOME": "/c", "HOME": "/d"}, "/a"),
        ({"STATE_DIRECTORY": "/b:/x", "XDG_STATE_HOME": "/c", "HOME": "/d"}, "/b"),
        ({"XDG_STATE_HOME": "/c", "HOME": "/d"}, "/c/locum"),
        ({"HOME": "/d"}, "/d/.local/state/locum"),
        ({"LOCUM_STATE": "", "HOME": "/d"}, "/d/.local/state/locum"),
        ({}, "/.local/state/locum"),
    ],
)
def test_the_state_folder_is_the_first_that_is_told(environ, place):
    """An empty variable is as good as none."""
    assert state_dir(environ) == Path(place)


@pytest.mark.parametrize(
    ("environ", "places"),
    [
        ({"LOCUM_SOCKET": "/s", "RUNTIME_DIRECTORY": "/r", "HOME": "/d"}, ["/s"]),
        (
            {"RUNTIME_DIRECTORY": "/r", "XDG_RUNTIME_DIR": "/x", "HOME": "/d"},
            ["/r/locum.sock", "/x/locum/locum.sock", "/d/.local/state/locum/locum.sock", str(SYSTEM_SOCKET)],
        ),
        ({"HOME": "/d"}, ["/d/.local/state/locum/locum.sock", str(SYSTEM_SOCKET)]),
        ({"LOCUM_STATE": "/a", "XDG_RUNTIME_DIR": "/x"}, ["/a/locum.sock"]),
    ],
)
def test_the_socket_is_looked_for_where_the_daemon_may_have_put_it(environ, places):
    """A named state keeps its socket to itself: two daemons of two states never meet on one socket."""
    assert socket_paths(environ) == tuple(map(Path, places))
