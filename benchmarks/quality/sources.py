"""`--data`: from a name or a path to rows."""

from benchmarks.quality.data import Data, Truth, make_data
from benchmarks.quality.npz import read_npz
from benchmarks.quality.tabular import READERS, read_tabular

# Rows of planted data that are drawn if `--rows` says nothing else.
PLANTED_ROWS = {"planted": 200_000, "planted39": 400_000}
PLANTED_SEED = 4


def load_data(name: str, *, num_rows: int | None = None, teacher: int = 0, taxi_csv: str | None = None) -> Data:
    """The rows that `--data` names: planted data, a public set, or an .npz file.

    Raises:
        ValueError, UserError: if there are none, or they are not what is needed.
    """
    if name in PLANTED_ROWS:
        return _draw_planted(name, num_rows or PLANTED_ROWS[name], teacher)
    if name in READERS:
        return read_tabular(name, taxi_csv if name == "taxi" else None)
    return read_npz(name)


def _draw_planted(profile: str, num_rows: int, teacher: int) -> Data:
    from pipeline.datasets.planted import make_planted
    from pipeline.datasets.planted_profiles import PROFILES

    planted = make_planted(profile, num_rows, teacher=teacher, seed=PLANTED_SEED)
    known = PROFILES[profile]
    truth = Truth(
        ranks=dict(planted.ranks),
        useless=frozenset(field.name for field in known if field.role == "useless"),
        duplicates={field.name: str(field.partner) for field in known if field.role == "duplicate"},
    )
    return make_data(
        f"{profile}, teacher {teacher}",
        [field.name for field in planted.fields],
        [field.vocabulary_size for field in planted.fields],
        {split: (planted.ids[rows], planted.labels[rows]) for split, rows in planted.splits.items()},
        truth,
    )
