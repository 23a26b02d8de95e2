"""The simulation notices: each promise is broken once in the real code, and some seed says which oracle saw it."""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS, mutated
from tests.sim.world import simulate

MOST_SEEDS = 25
CAUGHT = {  # by which oracles, and the first seed that is worth trying: the ones before it notice nothing
    "hold_dropped": ({"hold"}, 0),
    "wrong_tier_held": ({"hold"}, 0),
    "late_failure_moves_the_chain": ({"failure", "cascade"}, 0),
    "account_forgotten": ({"hold"}, 0),
    "hold_ends_early": ({"hold"}, 0),
    "hold_too_long": ({"hold"}, 0),
    "no_doubling": ({"hold"}, 0),
    "success_ends_nothing": ({"hold", "forgotten"}, 0),
    "absurd_reset_believed": ({"hold"}, 6),
    "stale_reset_believed": ({"hold"}, 0),
    "probation_ignored": ({"probation"}, 0),
    "one_bad_task_holds": ({"hold"}, 0),
    "new_login_ignored": ({"login"}, 12),
    "return_never_written": ({"busy", "return"}, 0),
    "start_not_looked_at_again": ({"start"}, 9),
    "lost_retry": ({"retry"}, 2),
    "endless_retry": ({"retry"}, 2),
    "endless_attempts": ({"task", "start"}, 2),
    "forgotten_on_crash": ({"start", "stop", "liveness", "processes"}, 1),
    "agents_not_found": ({"books", "processes", "stop"}, 1),
    "host_end_blamed": ({"end"}, 0),
    "cancel_ignored": ({"task"}, 0),
    "directory_shared": ({"start"}, 6),
    "parallel_ignored": ({"start"}, 1),
    "preferred_tier_forgotten": ({"start"}, 0),
    "counted_per_read": ({"books", "audit"}, 1),
    "last_count_wins": ({"books", "audit"}, 2),
    "total_ignored": ({"books"}, 13),
    "double_fire": ({"budget"}, 4),
    "next_tier_held_too": ({"budget"}, 4),
    "limit_passed_by": ({"budget"}, 4),
    "halt_holds_one_tier": ({"budget"}, 16),
    "window_ends_early": ({"budget"}, 2),
    "silent_return": ({"notice"}, 0),
    "silent_threshold": ({"budget"}, 4),
    "threshold_rounded_up": ({"budget"}, 7),
    "silent_bump_elsewhere": ({"silent"}, 0),
    "exhaustion_untold": ({"silent"}, 0),
    "rejection_told_again": ({"config"}, 0),
    "release_does_nothing": ({"operator"}, 0),
    "triggers_ignored": ({"retry"}, 6),
    "invalid_request_moves": ({"retry"}, 0),
    "session_never_claimed": ({"books"}, 6),
    "counted_per_file": ({"books"}, 0),
    "place_kept_ahead": ({"books"}, 6),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_promise_is_noticed(name: str) -> None:
    """Within a few seeds an oracle speaks, and it is the one whose promise was broken."""
    oracles, first = CAUGHT[name]
    for seed in range(first, first + MOST_SEEDS):
        with mutated(name):
            report = simulate(seed)
        if report.broken:
            assert report.broken[0] in oracles, f"seed {seed}: {report.broken}"
            return
    pytest.fail(f"{MOST_SEEDS} seeds saw nothing")


def test_every_mutant_has_its_oracle() -> None:
    """None is made and never tried."""
    assert CAUGHT.keys() == MUTANTS.keys()
