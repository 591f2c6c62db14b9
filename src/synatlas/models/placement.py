"""Where the parts of a model compute; accelerate may keep weights elsewhere until they are used."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Device on which a module with a weight computes.

    Offloaded by accelerate, its weight is on the device ``meta``, without values, and a hook
    brings it to this one for the time of a call.
    """
    hook: Any = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", (hook,)):
        where = getattr(one, "execution_device", None)
        if where is not None:
            return torch.device(where)
    weight: Any = module.weight
    return weight.device


def input_device(model: nn.Module) -> torch.device:
    """Device on which a model takes its tokens."""
    return device_of(model.get_input_embeddings())  # type: ignore[operator]


@contextmanager
def weights_present(module: nn.Module) -> Iterator[None]:
    """Bring a module's own offloaded weights here as long as the context lasts."""
    with ExitStack() as stack:
        if any(tensor.is_meta for tensor in module.parameters(recurse=False)):
            # Only accelerate leaves weights there.
            from accelerate.utils import align_module_device

            stack.enter_context(align_module_device(module, execution_device=torch.device("cpu")))
        yield
