"""Attention that can be differentiated twice, chosen for one thread.

torch's fused attention kernels have no second derivative. Within `twice_differentiable`, attention is computed
from matrix products and a softmax. torch's own way to ask for that, `sdpa_kernel`, switches the whole process and
would change the numbers of every other thread.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

__all__ = ["attention", "twice_differentiable"]

_twice: ContextVar[bool] = ContextVar("scorefield_twice_differentiable", default=False)
_OURS = ("torch.nn.", "scorefield.")


@contextmanager
def twice_differentiable(function: object) -> Generator[None]:
    """Within the block, the attention of this thread has a second derivative.

    Args:
        function: what is called within. Modules of other packages call torch's attention themselves, which is
            intercepted; that takes some microseconds for each call of a torch function.
    """
    token = _twice.set(True)
    try:
        if isinstance(function, nn.Module) and all(type(m).__module__.startswith(_OURS) for m in function.modules()):
            yield
        else:
            with _Intercepted():
                yield
    finally:
        _twice.reset(token)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v, (…, L, d)."""
    return _from_products(q, k, v) if _twice.get() else scaled_dot_product_attention(q, k, v)


class _Intercepted(TorchFunctionMode):
    """Computes every attention of this thread from products."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        call = _from_products if func is scaled_dot_product_attention else func
        return call(*args, **(kwargs or {}))


def _from_products(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """`scaled_dot_product_attention` as torch's "math" backend computes it."""
    math = torch.ops.aten._scaled_dot_product_attention_math
    return math(query, key, value, attn_mask, dropout_p, is_causal, **options)[0]
