"""The heart: what to do about failures, budgets and time, as pure functions over frozen values."""
