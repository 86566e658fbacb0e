"""The operations that a piece of work consists of, as torch dispatches them."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waiting(TorchDispatchMode):
    """Operations that make the processor wait for a GPU, which `meta` lets through."""

    ops = ("linalg_svd", "linalg_eigh", "nonzero", "local_scalar_dense", "unique", "repeat_interleave.Tensor")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").lstrip("_")
        there = any(isinstance(each, torch.Tensor) and each.device.type == "meta" for each in args)
        if there and any(op in name for op in self.ops):
            self.found.append(name)
        sent = name.startswith("to_copy") and not there and str((kwargs or {}).get("device", "")) == "meta"
        if sent and not (kwargs or {}).get("non_blocking"):
            self.found.append(f"{name} from the CPU")
        return func(*args, **(kwargs or {}))


class Started(TorchDispatchMode):
    """How many operations start a kernel, roughly: all that make a tensor that is not a view of another."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and not func.name().startswith("aten::empty")
        return func(*args, **(kwargs or {}))
