"""Where tensors live: the one place that turns a device's name into a device."""

from __future__ import annotations

import torch

from physgen.errors import UsageError

__all__ = ["device_of"]


def device_of(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: ``auto`` (CUDA if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UsageError: a name that is no device, or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r}: {reason}; expected auto, cpu or cuda") from error
    return device
