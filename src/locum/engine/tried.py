"""The user's own rules, tried beside the daemon's work: it goes by them all the same, and logs what they break."""

from __future__ import annotations

import anyio.lowlevel
import structlog

from locum.agents.own import own_rules
from locum.agents.proof import faults, prove
from locum.config.load import Loaded
from locum.engine.kept import cases_of
from locum.engine.supervisor import Supervisor

log = structlog.get_logger()
_LOOK_S = 3600.0


async def try_rules(supervisor: Supervisor) -> None:
    """Try each new set of the user's own rules once, piece by piece, for ever; what they break is a warning."""
    tried: tuple[object, ...] = ((), ())
    while True:
        heard = supervisor.bell.heard()
        loaded = supervisor.loaded
        rules = (loaded.service.signals, loaded.added)
        if rules != tried:
            tried = rules
            await _try(loaded)
        await supervisor.bell.wait(heard, _LOOK_S)


async def _try(loaded: Loaded) -> None:
    own, wrong = own_rules(loaded), []
    try:
        for trial in prove(own, cases_of(loaded.path)):
            if trial.wrong:
                wrong.append(trial)
            await anyio.lowlevel.checkpoint()  # one takes milliseconds, all of them half a second
    except Exception as error:  # noqa: BLE001 - rules that cannot be tried are in use, and no reason to stop
        log.warning("rules_not_tried", error=str(error))
        return
    for fault in faults(wrong, own):
        log.warning("rule_breaks", problem=fault, remedy="`locum signals test` tells all that is wrong.")
