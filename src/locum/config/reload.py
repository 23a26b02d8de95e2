"""A reload as a transaction: the last good configuration stays until a better one is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from locum.config.added import read_files
from locum.config.load import Loaded, digest_of, load_bytes
from locum.config.place import place_of
from locum.config.problem import InvalidConfigError, Problem
from locum.config.source import read_bytes


@dataclass(frozen=True, slots=True)
class Unchanged:
    """There is nothing new to tell. `cleared`: a rejected edit was taken back, the file is the one in use again."""

    cleared: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """A new configuration is in use."""

    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Rejected:
    """The file cannot be used; the last good configuration stays in use."""

    problems: tuple[Problem, ...]


class Reloader:
    """Holds the configuration in use and follows its file; each distinct content is judged and told once."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        """Start from what was loaded; `environ` is the daemon's environment."""
        self._environ = environ
        self.loaded = loaded
        self.rejected: Rejected | None = None
        self._judged = loaded.digest  # of the content that was judged last, good or bad

    def refresh(self) -> Unchanged | Applied | Rejected:
        """Read service.json and the rules beside it again and judge them; never raises for anything they may hold."""
        path = self.loaded.path
        try:
            data, files = read_bytes(path), read_files(path)
        except InvalidConfigError as error:
            return self._reject(error.problems, str(error))
        digest = digest_of(data, files)
        if digest == self._judged:
            return Unchanged()
        if digest == self.loaded.digest:
            self.rejected, self._judged = None, digest
            return Unchanged(cleared=True)
        try:
            loaded = load_bytes(path, data, place_of(path, self._environ), files)
        except InvalidConfigError as error:
            return self._reject(error.problems, digest)
        self.loaded, self.rejected, self._judged = loaded, None, digest
        return Applied(loaded)

    def _reject(self, problems: tuple[Problem, ...], judged: str) -> Unchanged | Rejected:
        if judged == self._judged:
            return Unchanged()
        self.rejected, self._judged = Rejected(problems), judged
        return self.rejected
