"""Blocks whose inner activations are computed again in the backward pass instead of kept: less memory, more time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Keep only the inputs of blocks while the context lasts, which the backward pass belongs to.

    The second time a block finds its flags, such as which parts are left out, and the generators that it draws from
    (``generators`` of its modules) as they were the first time, so that gradients are equal to the bit.
    """
    blocks = list(blocks)
    for block in blocks:
        block.forward = partial(_run, block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _run(block, forward, *args, **options):
    if not torch.is_grad_enabled():
        return forward(*args, **options)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=partial(_contexts, block), **options)


def _contexts(block):
    """What `checkpoint` asks for: the context of the first run and that of the second."""
    return nullcontext(), _as_now(block)


def _as_now(block):
    flags = {module: _flags(module) for module in block.modules()}
    states = {generator: generator.get_state() for generator in _generators(block)}

    @contextmanager
    def again():
        flags_after = {module: _flags(module) for module in flags}
        states_after = {generator: generator.get_state() for generator in states}
        _put(flags, states)
        try:
            yield
        finally:
            _put(flags_after, states_after)

    return again()


def _flags(module):
    return {name: value for name, value in vars(module).items() if isinstance(value, bool)}


def _generators(block):
    return {generator for module in block.modules() for generator in getattr(module, "generators", None) or ()}


def _put(flags, states):
    for module, values in flags.items():
        vars(module).update(values)
    for generator, state in states.items():
        generator.set_state(state)
