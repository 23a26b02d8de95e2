-- A run remembers that it was asked to stop: what its agent then ends with is nobody's fault, whoever reads it.

ALTER TABLE run ADD COLUMN stop_asked INTEGER NOT NULL DEFAULT 0;
