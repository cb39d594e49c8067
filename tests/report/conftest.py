"""What the tests of figures share."""

from __future__ import annotations

import matplotlib.figure
import pytest
from matplotlib.figure import Figure


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that was saved."""
    figures: list[Figure] = []
    save = matplotlib.figure.Figure.savefig

    def spy(self, *arguments, **options):  # type: ignore[no-untyped-def]
        figures.append(self)
        return save(self, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    return figures
