"""One file an agent: how to start it, read it and judge it."""
