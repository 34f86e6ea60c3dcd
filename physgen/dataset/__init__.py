"""Datasets on disk: rows (θ, x) and the law they follow, written whole and read guarded."""

from physgen.dataset.array_job import array_part
from physgen.dataset.dataset import Dataset, as_array, as_columns
from physgen.dataset.files import (
    file_digest,
    read_bytes,
    refuse_overwriting,
    write_bytes,
)
from physgen.dataset.guard import container, schema_of, what_is
from physgen.dataset.inspect import describe
from physgen.dataset.job import Shard
from physgen.dataset.joined import JoinedDataset
from physgen.dataset.products import (
    is_posterior,
    posterior_arrays,
    read_arrays,
    read_scores,
    sealed,
    write_arrays,
)
from physgen.dataset.proposal import GivenTheta, HeldTheta, Proposal, ThetaSource
from physgen.dataset.reader import read
from physgen.dataset.schema import (
    SCHEMA,
    Failed,
    Meta,
    Rows,
    block_digest,
    provenance,
    validated,
)
from physgen.dataset.stream import Blocks, Stream, joined
from physgen.dataset.writer import Written, gather, write, write_part

__all__ = [
    "SCHEMA",
    "Blocks",
    "Dataset",
    "Failed",
    "GivenTheta",
    "HeldTheta",
    "JoinedDataset",
    "Meta",
    "Proposal",
    "Rows",
    "Shard",
    "Stream",
    "ThetaSource",
    "Written",
    "array_part",
    "as_array",
    "as_columns",
    "block_digest",
    "container",
    "describe",
    "file_digest",
    "gather",
    "is_posterior",
    "joined",
    "posterior_arrays",
    "provenance",
    "read",
    "read_arrays",
    "read_bytes",
    "read_scores",
    "refuse_overwriting",
    "schema_of",
    "sealed",
    "validated",
    "what_is",
    "write",
    "write_arrays",
    "write_bytes",
    "write_part",
]
