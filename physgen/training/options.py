"""What a training is asked for, and what it tells of each of its epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Epoch", "Training"]


@dataclass(frozen=True)
class Training:
    """Options of the training loop.

    Attributes:
        epochs: passes over the training rows (at least 1).
        max_minutes: wall time after which training ends; 0 for no limit.
        batch_size: rows a step (at least 1).
        learning_rate: peak rate of AdamW (positive).
        schedule: the rate after the warm-up falls as a cosine to zero, or stays constant.
        warm_up_steps: steps over which the rate grows from zero.
        weight_decay: decoupled weight decay of AdamW (at least 0).
        clip: largest norm of the gradient (positive).
        ema: decay of the moving average of the weights, per step (0 to 1).
        patience: epochs without improvement after which the rate falls to zero from the best
            weights, and training ends; 0 for never, -1 for as many as 500 steps take, and at
            least 5 (rbm and gan, whose losses do not tell: never).
        augment: whether to train on random symmetries of each batch, where the law has them.
        compile: whether to compile the loss with torch.compile; that takes minutes on a CPU, and
            pays in long runs. It goes without the gradients in closed form that families have, and
            so does bf16 on a CPU.
        precision: numbers of the networks in training: fp32, bf16 (autocast), or auto: bf16 on
            CUDA, fp32 on a CPU. Weights and losses are in fp32.
        validation: part of the rows, the last ones, that is validated on and not trained on; of a
            file that is streamed no more than 1/64 of memory_gib holds.
        memory_gib: a training set larger than this is streamed from the file, GiB; 1/64 of
            it is for the rows that tell scales, and as much for those that are validated on.
    """

    epochs: int = 30
    max_minutes: float = 0.0
    batch_size: int = 128
    learning_rate: float = 3e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up_steps: int = 100
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.998
    patience: int = -1
    augment: bool = True
    compile: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    validation: float = 0.1
    memory_gib: float = 4.0

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        for name, low in (("epochs", 1), ("batch_size", 1), ("patience", -1), ("max_minutes", 0)):
            if not getattr(self, name) >= low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: expected 0 < part < 1, got {self.validation}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected 0 <= ema < 1, got {self.ema}")


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: number, from 1.
        train: mean training loss, nats a row.
        val: mean validation loss of the averaged weights, nats a row.
        lr: last learning rate.
        seconds: wall time since the start of training, s.
        cpu_seconds: CPU time since the start of training, s.
        best: whether this is the lowest validation loss so far, that of the start included.
        seen: mean validation loss of the averaged weights over rows of the training, nats a row;
            None where these are others in each epoch, and in early files.
    """

    epoch: int
    train: float
    val: float
    lr: float
    seconds: float
    cpu_seconds: float
    best: bool
    seen: float | None = None
