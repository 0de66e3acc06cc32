"""The table of forward models in docs/solve.md: what each has, asked of the operators.

    python tests/guidance/operators/operator_page.py

writes the table anew.
"""

from __future__ import annotations

from typing import Any

import torch
from repository import ROOT

from fewstep import guidance as G

PAGE = ROOT / "docs" / "solve.md"
BEGIN, END = (
    "<!-- table of tests/guidance/operators/operator_page.py -->",
    "<!-- end of the table -->",
)
#: what the text of the rows refers to
NAMES: dict[str, Any] = {
    "A": torch.eye(3, dtype=torch.float64),
    "mask": torch.ones(8, 8),
    "size": (8, 8),
    "N": 8,
    "shape": (1, 8, 8),
    "factor": 2,
    "kernel": torch.tensor([[0.0, 0.3], [0.6, 0.1]]),
    "std": 1.0,
    "coils": torch.ones(2, 8, 8, dtype=torch.complex64),
    "m": 5,
    "i": 0,
    "C": 3,
    "f": lambda x: x,
    "B": G.operators.Matrix(torch.eye(4)),
    "A1": torch.eye(4),
    "A2": torch.eye(4),
}
#: what is written, a call that runs -> what it measures
ROWS = {
    "Matrix(A)": "a matrix times the elements",
    "Inpaint(mask)": "the elements where the mask is True, zero-filled; `.box`, `.random`, `.half`",
    "SuperResolution(factor)": "means of blocks",
    'SuperResolution(factor, "bicubic")': "small images, as Pillow and torch with antialias",
    "Blur(kernel)": "convolution, the border joined to the other side; `.motion`",
    'Blur(kernel, "reflect")': 'the border mirrored, or `"zero"`; any kernel',
    'Blur.gaussian(std, boundary="reflect")': "the same for outer products, such as Gaussians",
    "Colourisation()": "grey values of coloured images",
    "Fourier(mask)": "Fourier coefficients of complex images (2, H, W); `.lines`",
    "Fourier(mask, real=True)": "those of real images",
    "Fourier(mask, coils)": "those seen by K coils",
    "CompressedSensing(shape, m)": 'm random Walsh-Hadamard coefficients, or `"gaussian"`',
    "Radon(N, angles=30)": "line integrals, parallel beams",
    "Channels(i, C, B)": "some channels (fields) by B, and what B has",
    "Stack([A1, A2])": "several measurements; `weights=` for other noise levels",
    "PhaseRetrieval()": "magnitudes of Fourier coefficients of the padded image",
    "HDR()": "clip(2 x, -1, 1)",
    "Quantisation(levels=8)": "the nearest of 8 levels",
    "JPEG(quality=50)": "images after JPEG",
    "Callable(f)": "any differentiable function of a batch; a function alone is one",
    "Callable(f, linear=True, shape=shape)": "a linear one; `adjoint=`, `pinverse=` if known",
}


def made(call: str) -> Any:
    """The operator of a row."""
    return eval(f"operators.{call}", {"operators": G.operators, **NAMES})


def cells(call: str) -> list[str]:
    """What the operator has, for the columns after its name and what it measures."""
    op = made(call)
    yes = {name: "yes" if name in op.has else "" for name in G.operators.PARTS}
    prox = "yes" if yes["prox"] else "iterated" if op.linear else ""
    through = getattr(op, "gradient", None)
    return [
        "exact" if op.linear else f"{through}" if through else "of the derivative",
        yes["pinverse"],
        yes["svd"],
        prox,
        yes["norm_bound"],
    ]


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| `guidance.operators.` | measures | adjoint | pseudo-inverse | SVD | prox | norm bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for call, measures in ROWS.items():
        lines.append(f"| `{call}` | {measures} | {' | '.join(cells(call))} |")
    return "\n".join(lines)


def page_with(table_: str) -> str:
    """The page with this table in it."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table_}\n\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), encoding="utf-8")
