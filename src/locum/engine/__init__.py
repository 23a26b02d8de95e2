"""Tasks become attempts, attempts become processes."""
