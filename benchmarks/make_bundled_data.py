"""Chooses the episodes of the data set inside the package (`bundled/hopper`) and writes it; same arguments, same bytes.

    python benchmarks/make_bundled_data.py --source ../shared/data --out m3pc_ray/data/hopper --overwrite
    python benchmarks/make_bundled_data.py --source ../shared/data --out /tmp/try \
        --take hopper-medium-replay-selfmade.hdf5 0 750 200 --take hopper-medium-selfmade.hdf5 1000 3000 20

Every --take FILE LOW HIGH COUNT draws COUNT whole episodes with LOW <= return < HIGH from FILE (all of them where there
are fewer), seeded; episodes that were cut are left out, as their return is unknown. Without --take, `DEFAULT_TAKES`,
whose reasons are in docs/data.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.d4rl import read_hdf5
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.files import disk_bytes
from m3pc_ray.trajectories.scores import normalised_score
from m3pc_ray.trajectories.store import read_store, write_store

REPLAY, MEDIUM = "hopper-medium-replay-selfmade.hdf5", "hopper-medium-selfmade.hdf5"
MAX_BYTES = 6_000_000


@dataclasses.dataclass(frozen=True)
class Take:
    """`count` episodes of a file whose return lies in [low, high)."""

    file: str
    low: float
    high: float
    count: int


DEFAULT_TAKES = (
    Take(REPLAY, 0, 100, 60),
    Take(REPLAY, 100, 300, 60),
    Take(REPLAY, 300, 500, 80),
    Take(REPLAY, 500, 750, 123),
    Take(REPLAY, 750, 4000, 200),
)


def choose(source: Path, takes: tuple[Take, ...], seed: int) -> Trajectories:
    """The chosen episodes, in the order of the takes and, within one, of the file."""
    files: dict[str, Trajectories] = {}
    parts = []
    for number, take in enumerate(takes):
        if take.file not in files:
            files[take.file] = read_hdf5(source / take.file)
        data = files[take.file]
        inside = (data.returns >= take.low) & (data.returns < take.high) & (data.episode_ends != EpisodeEnd.CUT)
        candidates = np.flatnonzero(inside)
        if not len(candidates):
            raise UserError(f"{take.file} has no whole episode with a return in [{take.low}, {take.high})")
        chosen = np.random.default_rng([seed, number]).permutation(candidates)[: take.count]
        parts.append(data.select(np.sort(chosen)))
        print(f"{take.file}: return {take.low:g} to {take.high:g}: {len(chosen)} of {len(candidates)} episodes")
    first = parts[0].metadata
    sources = []
    for name, data in files.items():
        counts = [
            f"{len(part.lengths)} with return {take.low:g} to {take.high:g}"
            for take, part in zip(takes, parts, strict=True)
            if take.file == name
        ]
        sources.append(f"from {name} ({data.metadata.origin.removeprefix(f'HDF5 file {name}; ')}): {', '.join(counts)}")
    metadata = first.replace(
        name="bundled/hopper",
        origin=f"whole episodes drawn by benchmarks/make_bundled_data.py --seed {seed}, {'; '.join(sources)}",
    )
    return Trajectories.concatenate(parts, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with the self-made D4RL files")
    parser.add_argument("--out", type=Path, required=True, help="trajectory store to write")
    parser.add_argument("--take", action="append", nargs=4, metavar=("FILE", "LOW", "HIGH", "COUNT"), default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args()
    takes = tuple(Take(file, float(low), float(high), int(count)) for file, low, high, count in arguments.take)
    data = choose(arguments.source, takes or DEFAULT_TAKES, arguments.seed)
    write_store(data, arguments.out, overwrite=arguments.overwrite, compression_level=19)
    size = disk_bytes(arguments.out)
    scores = normalised_score(data.returns, data.metadata)
    assert scores is not None
    print(
        f"{arguments.out}: {data.num_episodes} episodes, {data.num_steps:,} steps, {size:,} bytes; score mean "
        f"{scores.mean():.1f}, max {scores.max():.1f}; read back: {read_store(arguments.out).num_steps:,} steps"
    )
    if size > MAX_BYTES:
        raise SystemExit(f"{size:,} bytes are more than the {MAX_BYTES:,} allowed in the package")


if __name__ == "__main__":
    main()
