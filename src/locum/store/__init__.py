"""The ledger: durable, append-only, exact."""
