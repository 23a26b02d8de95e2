"""The rehearsed daemon with one promise less: `broken_serve.py MUTANT`, and what serve.py takes."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from locum.drill.serve import main
from tests.sim.mutants import mutated

if __name__ == "__main__":
    with mutated(sys.argv[1]):
        main(sys.argv[2:])
