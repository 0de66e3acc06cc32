r"""The pictures and the table of docs/physics.md: fields, their residuals and spectra, and network
calls against errors.

    fewstep bench --task darcy --samplers ddim dpmpp_2m unipc:order=3 heun dpmpp_2m_sde \
        --nfe 5 8 16 32 --samples 64 --out docs/physics
    python docs/examples/physics_pictures.py docs/physics

The first command measures; the second draws samples of the bundled model of Darcy flow beside true
solutions (fields.png), the mean spectrum of u by the number of calls (spectra.png), and the numbers
of the first (calls.png, and the table in OUT/../physics.md). A minute on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import fewstep
from fewstep.eval import physics

SHOWN, COUNT, SIZE = 4, 64, 64
BEGIN, END = "<!-- table of docs/examples/physics_pictures.py -->", "<!-- end of the table -->"
#: columns of the table; the number in the record is given with its 95 % interval
MEASURES = (
    "relative_residual",
    "relative_l2",
    "energy_distance",
    "spread",
    "log_spectral_distance",
)
#: seeds of the true solutions, none of them trained on
HELD_OUT = 1 << 40
SAMPLER, CALLS = "dpmpp_2m", (8, 16, 32)


def samples(calls: int, n: int) -> dict[str, Tensor]:
    """Fields in physical units of the seeds 0 to n - 1."""
    den = fewstep.models.load("darcy")
    parts = [
        fewstep.sample(den, sampler=SAMPLER, nfe=calls, n=min(32, n - at), seed=at)
        for at in range(0, n, 32)
    ]
    return fewstep.models.fields_of("darcy").physical(torch.cat(parts).double())


def fields_picture(out: Path, data: physics.Problem) -> None:
    """Coefficient, solution and residual of true solutions and of samples."""
    sets = {
        "true solutions, stored as float32": data.fields,
        "samples, 32 calls": samples(32, SHOWN),
    }
    figure, axes = plt.subplots(6, SHOWN, figsize=(2.1 * SHOWN, 11.6), layout="constrained")
    scales = {"a": (3.0, 12.0), "u": (0.0, float(data.fields["u"].max())), "r": (-6.0, 1.5)}
    for block, (title, fields) in enumerate(sets.items()):
        stored = {k: v[:SHOWN].float() for k, v in fields.items()}
        r = physics.darcy.residual(stored, data.spacing, data.params).abs()
        log = (r + 1e-12).log10()
        rows = {"a": stored["a"], "u": stored["u"], "r": log}
        for i, (name, values) in enumerate(rows.items()):
            low, high = scales[name]
            for j in range(SHOWN):
                ax = axes[3 * block + i, j]
                image = ax.imshow(values[j].T, origin="lower", vmin=low, vmax=high)
                ax.set(xticks=[], yticks=[])
            label = {"a": "a", "u": "u", "r": "log10 |residual|"}[name]
            axes[3 * block + i, 0].set_ylabel(label)
            figure.colorbar(image, ax=list(axes[3 * block + i]), shrink=0.8)
        axes[3 * block, 0].set_title(title, loc="left", fontsize=10)
    figure.savefig(out / "fields.png", dpi=70)
    plt.close(figure)


def spectra_picture(out: Path, data: physics.Problem) -> None:
    """The mean spectrum of u, of the data and by the number of calls."""
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    sets: dict[str, Tensor] = {"true solutions": data.fields["u"]}
    sets |= {f"{SAMPLER}, {n} calls": samples(n, COUNT)["u"] for n in CALLS}
    for i, (name, u) in enumerate(sets.items()):
        found = physics.spectrum(u, data.spacing, ("x", "y"), odd=True)
        shells = found.resolved
        style: dict[str, Any] = {"color": "black", "linewidth": 2} if i == 0 else {}
        ax.loglog(found.k[shells], found.energy.mean(0)[shells], label=name, **style)
    ax.set(xlabel="wave number k", ylabel="mean energy E(k) of u")
    ax.legend()
    figure.savefig(out / "spectra.png", dpi=80)
    plt.close(figure)


def calls_picture(out: Path) -> None:
    """Network calls against the residual and the error of u, from the record of the comparison."""
    record = json.loads((out / "task-darcy.json").read_text())
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    names = list(dict.fromkeys(row["sampler"] for row in record["rows"]))
    for ax, measure in zip(axes, ("relative_residual", "relative_l2"), strict=True):
        for name in names:
            rows = [r for r in record["rows"] if r["sampler"] == name and not r["skipped"]]
            rows.sort(key=lambda row: row["nfe"])
            x = [row["nfe"] for row in rows]
            y, low, high = ([row[measure + end] for row in rows] for end in ("", "_low", "_high"))
            spans = [torch.tensor(y) - torch.tensor(low), torch.tensor(high) - torch.tensor(y)]
            ax.errorbar(
                x, y, yerr=torch.stack(spans), label=name, marker="o", markersize=3, capsize=2
            )
        ax.set(xscale="log", yscale="log", xlabel="network calls")
        ax.set_title(measure.replace("_", " "))
    floor = record["data"]["relative_residual"]
    axes[0].axhline(floor, color="black", linestyle=":", label="true solutions (float32)")
    axes[0].legend(fontsize=7)
    figure.savefig(out / "calls.png", dpi=80)
    plt.close(figure)


def cells(row: dict[str, Any]) -> list[str]:
    """The measures of a row, each with its interval where it has one."""
    found = []
    for name in MEASURES:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        span = "" if low is None else f" ({low:.3g}, {high:.3g})"
        found.append(f"{row[name]:.3g}{span}")
    return found


def write_table(out: Path) -> None:
    """Write the rows of the comparison into the page."""
    record = json.loads((out / "task-darcy.json").read_text())
    heads = ["sampler", "calls", *(name.replace("_", " ") for name in MEASURES)]
    lines = [BEGIN, f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines.append(f"| {' | '.join(['true solutions (float32)', '-', *cells(record['data'])])} |")
    for row in record["rows"]:
        if not row["skipped"]:
            lines.append(f"| {' | '.join([row['sampler'], str(row['nfe']), *cells(row)])} |")
    page = out.parent / "physics.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END, 1)[1]
    page.write_text(before + "\n".join([*lines, END]) + after, encoding="utf-8")


def main() -> None:
    """Draw the three pictures and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    data = physics.darcy.draw(COUNT, SIZE, HELD_OUT)
    fields_picture(out, data)
    spectra_picture(out, data)
    calls_picture(out)
    write_table(out)


if __name__ == "__main__":
    main()
