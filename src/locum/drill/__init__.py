"""A rehearsal of the operator's own service.json: stand-ins in the place of agents, time that leaps, and a judge."""
