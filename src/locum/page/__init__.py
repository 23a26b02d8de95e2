"""The dashboard: one page, made here, kept current by a little script."""
