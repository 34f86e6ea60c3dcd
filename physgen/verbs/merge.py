"""Join datasets of one law into one file."""

from __future__ import annotations

from pathlib import Path

from physgen.dataset import Dataset, JoinedDataset
from physgen.errors import UsageError
from physgen.runtime.progress import bar
from physgen.verbs.arguments import DatasetsLike
from physgen.verbs.running import on_files, warn_of_failed

__all__ = ["merge"]


@on_files("out", resumes=True)
def merge(data: DatasetsLike, *, out: Path | str | None = None, force: bool = False) -> Dataset:
    """Join datasets of one law into one: parts of an array job, or several rounds.

    Their priors must be equal, or parts of one of them. Rows that are there twice are refused, for
    they are no independent draws: each part wants a seed of its own. fit takes several files as
    they are, too.

    Args:
        data: datasets to join, one after another.
        out: HDF5 file to write.
        force: overwrite the file if it exists.

    Returns:
        The dataset: in its file, or the datasets where they are.

    Raises:
        UsageError: fewer than two, of different laws, or with rows that are there twice.

    Example:
        physgen merge part1.h5 part2.h5 part3.h5 -o data.h5
    """
    given = list(data) if isinstance(data, list | tuple) else [data]
    if len(given) < 2:
        raise UsageError("merge: expected two datasets at least")
    whole: Dataset = JoinedDataset([Dataset(one) for one in given])
    if out is not None:
        with bar(len(whole), "merge") as move:
            whole = whole.save(out, force=force, progress=move)
    warn_of_failed(out, whole.failures)
    return whole
