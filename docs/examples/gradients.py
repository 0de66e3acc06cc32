"""Four uses of gradients through a sampler, on the bundled model of digits: the figures and
pictures of docs/gradients.md.

    python docs/examples/gradients.py [--only noise embedding scale boundary] [--write]

    noise       the start noise is moved until the classifier sees a 3 (as in D-Flow, Ben-Hamu et
                al. 2024, arXiv 2402.14017)
    embedding   the embedding of class 7 is trained for thick sevens
    scale       guidance scales at five noise levels are trained so that 5 steps come close to 24
    boundary    the smallest change of the noise that changes the class that the classifier sees

Some minutes on two cores. ``--write`` writes docs/gradients/*.png, and the table of the page.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

import fewstep
from fewstep.guidance import CFG, Levels
from fewstep.jobs import pictures
from fewstep.models.classifier import load_classifier

DOCS = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures of docs/examples/gradients.py -->", "<!-- end of the figures -->"
HEAD = "| example | before | after |"
RUN: dict[str, Any] = {"sampler": "dpmpp_2m", "steps": 6}
#: example -> rows (what, before, after) and rows of pictures
Found = tuple[list[tuple[str, str, str]], list[Tensor]]

den = fewstep.models.load("mnist")
den.network.requires_grad_(False)
classifier = load_classifier("mnist")[0].requires_grad_(False)


def unit_noise(seeds: Sequence[int]) -> Tensor:
    """A start noise (n, 1, 28, 28) for each seed."""
    draws = [
        torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ]
    return torch.stack(draws)


def drawn(z: Tensor, grad: str | None = None) -> Tensor:
    """The pictures of unit noises, without a label."""
    return fewstep.sample(den, x=den.schedule.prior_scale * z, grad=grad, **RUN)


def lengths(v: Tensor) -> Tensor:
    """The norm of each sample, (n, 1, 1, 1)."""
    return v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


@torch.no_grad()
def told_by_the_model(x: Tensor) -> Tensor:
    """The label under which the model itself denoises each picture best: a judge that the
    optimisation does not see."""
    generator, errors = torch.Generator().manual_seed(9), torch.zeros(len(x), 10)
    for sigma in (0.4, 0.8, 1.6):
        for _ in range(2):
            noisy = x + sigma * torch.randn(x.shape, generator=generator)
            for label in range(10):
                found = den(noisy, sigma, torch.full((len(x),), label))
                errors[:, label] += (found - x).square().flatten(1).mean(1) / sigma**2
    return errors.argmin(1)


def margin(x: Tensor, label: int) -> Tensor:
    """The logit of ``label`` less the largest other one, (n,)."""
    logits = classifier(x)
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.max(1).values


def noise(label: int = 3, rounds: int = 30, step: float = 2.5, enough: float = 4.0) -> Found:
    """Move the noise of 8 seeds along the gradient of the margin, on the sphere of its length,
    until the margin is ``enough``."""
    z = unit_noise(range(8))
    first, radius = drawn(z), lengths(z)
    going = torch.arange(len(z))
    for _ in range(rounds):
        part = z[going].requires_grad_()
        found = margin(drawn(part, "checkpoint"), label)
        (g,) = torch.autograd.grad(found.sum(), part)
        moved = part.detach() + step * g / lengths(g)
        short = found.detach() < enough
        z[going[short]] = (moved * (radius[going] / lengths(moved)))[short]
        going = going[short]
        if not len(going):
            break
    last = drawn(z)
    rows = []
    for what, count in (
        ("seen as a 3 by the classifier", lambda x: (classifier(x).argmax(1) == label).sum()),
        ("told to be a 3 by the model", lambda x: (told_by_the_model(x) == label).sum()),
    ):
        rows.append((f"noise: {what}", f"{int(count(first))} of 8", f"{int(count(last))} of 8"))
    return rows, [first, last]


def embedding(label: int = 7, rounds: int = 40, ink: float = 0.2) -> Found:
    """Train the vector of a class so that its pictures have the mean brightness ``ink`` and are
    still seen as the class. New seeds in every round; rated on others."""
    network = den.network

    def with_vectors(x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        # the condition is a vector per sample, in the place of the table of vectors
        table, rows = {"embed.label.weight": cond}, torch.arange(len(x))
        return torch.func.functional_call(network, table, (x, t, rows))

    free = fewstep.models.wrap(
        with_vectors, den.schedule, "x0", "c_noise", precondition="edm", shape=(1, 28, 28)
    )
    vector = network.embed.label.weight[label].clone().requires_grad_()
    held_out = range(1000, 1032)

    def draw(seeds: Sequence[int], grad: str | None = None) -> Tensor:
        cond = vector.expand(len(seeds), -1)
        return fewstep.sample(free, seeds=list(seeds), cond=cond, grad=grad, **RUN)

    def brightness(x: Tensor) -> Tensor:
        return (x.clamp(-1.0, 1.0).mean((1, 2, 3)) + 1.0) / 2.0

    def rated(x: Tensor) -> tuple[str, str]:
        return (
            f"{float(brightness(x).mean()):.3f}",
            f"{int((classifier(x).argmax(1) == label).sum())} of {len(x)}",
        )

    first = draw(held_out)
    optimiser = torch.optim.Adam([vector], lr=0.1)
    for i in range(rounds):
        x = draw(range(8 * i, 8 * i + 8), "checkpoint")
        loss = 100.0 * (brightness(x) - ink).square().mean()
        loss = loss - 0.1 * log_softmax(classifier(x), 1)[:, label].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    last = draw(held_out)
    names = (f"mean brightness (wanted: {ink})", f"seen as a {label}")
    pairs = zip(names, rated(first), rated(last), strict=True)
    return [(f"embedding: {name}", a, b) for name, a, b in pairs], [first[:8], last[:8]]


def scale(w: float = 3.0, rounds: int = 40, steps: int = 5) -> Found:
    """Train the guidance scale at the noise level of each of 5 steps so that they come close to 24
    steps with a constant scale. 16 seeds to train with, 32 others to rate."""
    plan = fewstep.plan("dpmpp_2m", den.schedule, steps=steps)
    rhos = sorted({e.node.sigma / e.node.alpha for e in plan.evaluations})

    def draw(w: Any, seeds: Sequence[int], steps: int = steps, grad: str | None = None) -> Tensor:
        cond = torch.tensor([seed % 10 for seed in seeds])
        given = {"seeds": list(seeds), "cond": cond, "steps": steps, "grad": grad}
        return fewstep.sample(CFG(den, w), "dpmpp_2m", **given)

    batches = [list(range(8)), list(range(8, 16))]
    wanted = [draw(w, seeds, 24) for seeds in batches]
    held_out = list(range(1000, 1032))
    exact = draw(w, held_out, 24)

    def distance(w: Any) -> float:
        return float((draw(w, held_out) - exact).square().mean().sqrt())

    scales = torch.full((steps,), w, requires_grad=True)
    optimiser = torch.optim.Adam([scales], lr=0.1)
    for i in range(rounds):
        x = draw(Levels(rhos, scales), batches[i % 2], grad="checkpoint")
        loss = (x - wanted[i % 2]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trained = Levels(rhos, scales.detach())
    best = min((distance(c), c) for c in (2.0, 2.5, 3.0, 3.5, 4.0))
    rows = [
        ("scale: distance to 24 steps", f"{distance(w):.4f}", f"{distance(trained):.4f}"),
        ("scale: the best constant of 2, 2.5, ..., 4", "", f"{best[0]:.4f} ({best[1]:g})"),
        (
            "scale: w at rho = " + ", ".join(f"{rho:.2g}" for rho in rhos),
            f"{w:g}",
            ", ".join(f"{v:.2f}" for v in scales.tolist()),
        ),
    ]
    shown = held_out[:8]
    return rows, [draw(w, shown), draw(trained, shown), exact[:8]]


def seen(z: Tensor) -> int:
    """The class that the classifier sees in the picture of one noise."""
    return int(classifier(drawn(z)).argmax())


def crossing(z: Tensor, along: Tensor, label: int, most: float) -> float:
    """The distance from ``z`` along a unit vector at which the class changes, by bisection, once it
    has changed at ``most``."""
    low, high = 0.0, most
    for _ in range(8):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if seen(z + middle * along) == label else (low, middle)
    return high


def nearest(z: Tensor, label: int, rounds: int = 15) -> Tensor | None:
    """A change of the noise that crosses the nearest boundary to first order, repeated until the
    class is another (DeepFool, Moosavi-Dezfooli et al. 2016, arXiv 1511.04599)."""
    change = torch.zeros_like(z)
    for _ in range(rounds):
        moved = (z + change).requires_grad_()
        logits = classifier(drawn(moved, "checkpoint"))[0]
        if int(logits.argmax()) != label:
            return change
        steps = []
        for other in logits.topk(4).indices.tolist():
            if other != label:
                gap = logits[label] - logits[other]
                (g,) = torch.autograd.grad(gap, moved, retain_graph=True)
                steps.append((float(gap.detach() / g.norm()), g / g.norm()))
        far, along = min(steps, key=lambda step: step[0])
        change = change - min(1.05 * far + 0.01, 1.0) * along
    return None


def boundary(count: int = 8) -> Found:
    """The distance of 8 seeds to the nearest class boundary, and along a random direction."""
    z = unit_noise(range(count))
    rows, beyond = [], z.clone()
    near, far = [], []
    for i in range(count):
        one = z[i : i + 1]
        label = seen(one)
        change = nearest(one, label)
        if change is None:
            continue
        along = change / change.norm()
        near.append(crossing(one, along, label, float(change.norm())))
        beyond[i] = (one + 1.02 * near[-1] * along)[0]
        other = unit_noise([500 + i])
        other = other / other.norm()
        radii = [r for r in (1, 2, 4, 8, 16, 28) if seen(one + r * other) != label]
        far.append(crossing(one, other, label, radii[0]) if radii else math.inf)
    for name, values in (("nearest found", near), ("a random direction", far)):
        shown = [f"{v:.2g}" if v < math.inf else "> 28" for v in values]
        rows.append((f"boundary: distance, {name} (the noise has length 28)", "", ", ".join(shown)))
    return rows, [drawn(z), drawn(beyond)]


EXAMPLES: dict[str, Callable[[], Found]] = {
    "noise": noise,
    "embedding": embedding,
    "scale": scale,
    "boundary": boundary,
}


def sheet(rows: Sequence[Tensor]) -> bytes:
    """Rows of pictures as a PNG, each twice as large."""
    lines = [
        np.concatenate(
            list(np.pad(pictures.to_pixels(row.numpy()), ((0, 0), (1, 1), (1, 1), (0, 0)))), 1
        )
        for row in rows
    ]
    pixels = np.concatenate(lines, 0).repeat(2, 0).repeat(2, 1)
    return pictures.png(pictures.picture(pixels))


def write(rows: dict[str, list[str]]) -> None:
    """Write the rows of these examples into the table of the page; those of others stay."""
    page = DOCS / "gradients.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    lines = [HEAD, "|---|---|---|"]
    for name in EXAMPLES:
        old = [line for line in table.splitlines() if line.startswith(f"| {name}: ")]
        lines += rows.get(name, old)
    text = "\n".join(lines)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run the examples, print their figures, and write them and the pictures if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=EXAMPLES, default=[*EXAMPLES])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    print(HEAD)
    for name in options.only:
        found, shown = EXAMPLES[name]()
        rows = ["| " + " | ".join(row) + " |" for row in found]
        print("\n".join(rows), flush=True)
        if options.write:
            (DOCS / "gradients" / f"{name}.png").write_bytes(sheet(shown))
            write({name: rows})


if __name__ == "__main__":
    main()
