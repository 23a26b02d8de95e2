"""locum stands in: it keeps coding agents working when an account, a provider or a budget gives out."""

__version__ = "0.1.0"
