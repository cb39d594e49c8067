"""What `m3pc push` and `m3pc pull` say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from m3pc_ray.zoo.transfer import Moved, Progress


def shown(console: Console) -> Progress:
    """A line for every file."""
    return lambda name, size: console.print(f"  {name}  {_mebibytes(size)}", highlight=False, markup=False)


def said(done: str, moved: Moved, where: str) -> str:
    """The last line."""
    text = f"{done} {moved.files} files, {_mebibytes(moved.bytes)}: {where}"
    return f"{text} ({moved.kept} were there already)" if moved.kept else text


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"
