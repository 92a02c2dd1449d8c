"""From files to encoded rows: reader, scan, audit, contract, split, snapshot, dataset.

Train side only: the serve side sees the contract and the boundary, never this. What the rest of the engine uses is
`validate(workspace)`, whose result has the digest, and `load(workspace, digest)`, which gives the `Dataset`.
"""

from mlsystem.data.command import validate
from mlsystem.data.dataset import Dataset, Holdout, load

__all__ = ["Dataset", "Holdout", "load", "validate"]
