"""One training loop for all families, which minimises their objectives and never asks whose."""

from physgen.training.data import Data, Fresh, InMemory, Streamed, split
from physgen.training.options import Epoch, Training
from physgen.training.trainer import Trainer

__all__ = ["Data", "Epoch", "Fresh", "InMemory", "Streamed", "Trainer", "Training", "split"]
