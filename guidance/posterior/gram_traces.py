"""Traces of ``A A^T``."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators.operator import Operator

#: measurements of one sample up to which the traces are exact without an SVD
EXACT = 1024
#: random signs above
PROBES = 64


def gram_traces(operator: Operator, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """``tr A A^T`` and ``tr (A A^T)^2`` of a linear operator for samples of shape ``shape``, (1,)
    or one for each of the operator's own samples, float64.

    From the singular values where there is an SVD; else column by column up to 1024 measurements,
    and by 64 seeded random signs above (Hutchinson 1989).
    """
    own = operator.samples(shape) or 1
    zero = torch.zeros((own, *shape), dtype=torch.float64)
    if operator.svd is not None:
        c = operator.svd.Vt(zero)
        s2 = (operator.svd.values(c).abs() ** 2).to(torch.float64).expand(c.shape).flatten(1)
        return s2.sum(1), s2.square().sum(1)
    measured = operator(zero).shape[1:]
    count = measured.numel()
    exact = count <= EXACT
    if exact:
        probes = torch.eye(count, dtype=torch.float64)
    else:
        g = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (PROBES, count), generator=g, dtype=torch.int64)
        probes = 2.0 * signs.double() - 1.0
    first, second = torch.zeros(own).double(), torch.zeros(own).double()
    for probe in probes:
        y = operator.zero_filled(probe.reshape(1, *measured).expand(own, *measured))
        back = operator.adjoint(y).reshape(zero.shape)
        first += back.flatten(1).square().sum(1)
        second += operator(back).flatten(1).square().sum(1)
    scale = 1.0 if exact else 1.0 / PROBES
    return scale * first, scale * second
