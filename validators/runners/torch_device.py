"""The device that a worker's PyTorch runs on: the CPU, unless the judge was asked for another (`--device`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from isomorph.errors import RunnerError

__all__ = ["Device", "environment"]


class Device:
    """One device for the whole process. `Device.current` is where tensors and modules go."""

    current = torch.device("cpu")

    @classmethod
    def select(cls, name: str) -> None:
        """Make `name` ("cpu", "cuda", "cuda:1", "mps") the current one. Raises RunnerError if it is not there."""
        kind, _, number = name.partition(":")
        present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
        if kind not in present or (number and not number.isdecimal()):
            raise RunnerError(f"torch knows no device `{name}`", runner="torch", advice="--device cpu, cuda:N or mps")
        if int(number or 0) >= present[kind]:
            have = ", ".join(f"{each}:{index}" for each, count in present.items() for index in range(count))
            because = f"this torch {torch.__version__} has {have}"
            raise RunnerError(f"there is no device `{name}` here", runner="torch", because=because)
        cls.current = torch.device(name)

    @classmethod
    def tensor(cls, array: np.ndarray) -> torch.Tensor:
        """A copy of the array on the current device."""
        if array.dtype.name == "bfloat16":  # NumPy's own types are the only ones that PyTorch reads
            return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).to(cls.current)
        return torch.from_numpy(np.array(array)).to(cls.current)

    @classmethod
    def needs_double(cls) -> None:
        """Raise NotImplementedError where the device has no float64."""
        if cls.current.type == "mps":
            raise NotImplementedError("Metal has no float64; run the source on the CPU")


def environment() -> dict[str, Any]:
    """Versions and settings for the report."""
    return {
        "runtime": f"torch {torch.__version__}",
        "device": str(Device.current),
        "threads": torch.get_num_threads(),
        "tf32": False,
        "cudnn_benchmark": False,
        "deterministic_algorithms": True,
        "denormals": "kept",
    }
