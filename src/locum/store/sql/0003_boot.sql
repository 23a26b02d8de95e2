-- Which start of the host the runs in progress belong to: those of an earlier one ended with it, and nobody is to blame.

CREATE TABLE host (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL
) STRICT;
