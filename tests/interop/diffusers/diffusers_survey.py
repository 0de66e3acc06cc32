"""What diffusers' pipelines ask of their scheduler, found in their source; and the tables of
docs/diffusers.md that answer it.

    python tests/interop/diffusers/diffusers_survey.py

writes the tables anew. All verdicts in words stand in ``BRANCHES``, ``ATTRIBUTES``, ``SERVED`` and
in ``interop.diffusers_pipelines``.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from repository import ROOT

#: the diffusers whose source the verdicts are about
VERSION = "0.42.1"
PAGE = ROOT / "docs" / "diffusers.md"
BEGIN, END = (
    "<!-- tables of tests/interop/diffusers/diffusers_survey.py -->",
    "<!-- end of the tables -->",
)

_REPLACED = "refused: the pipeline's constructor drops any other scheduler"
#: (file, classes asked for) -> (the branch that a FewstepScheduler takes, whether it is right for
#: it)
BRANCHES: dict[tuple[str, str], tuple[str, str]] = {
    ("bria/pipeline_bria.py", "DDIMScheduler, EulerAncestralDiscreteScheduler"): (
        "levels of the training table as `sigmas=`",
        "right for a flow without dynamic shifting, which is what Bria ships with; for a "
        "table give `sigmas` that fall",
    ),
    ("bria/pipeline_bria.py", "FlowMatchEulerDiscreteScheduler"): (
        "no `mu` for dynamic shifting; `scale_model_input` is called, which changes nothing",
        "right without dynamic shifting; with it refused in words (`mu` is required)",
    ),
    ("cogvideo/pipeline_cogvideox.py", "CogVideoXDPMScheduler"): (
        "the step of CogVideoXDDIM and others",
        "right",
    ),
    ("cogvideo/pipeline_cogvideox_image2video.py", "CogVideoXDPMScheduler"): (
        "the step of CogVideoXDDIM and others",
        "right",
    ),
    ("cogvideo/pipeline_cogvideox_video2video.py", "CogVideoXDPMScheduler"): (
        "the step of CogVideoXDDIM and others",
        "right",
    ),
    ("cogview3/pipeline_cogview3plus.py", "CogVideoXDPMScheduler"): (
        "the step of CogVideoXDDIM and others",
        "right",
    ),
    ("consisid/pipeline_consisid.py", "CogVideoXDPMScheduler"): (
        "the step of CogVideoXDDIM and others",
        "right",
    ),
    ("deprecated/audio_diffusion/pipeline_audio_diffusion.py", "DDIMScheduler"): (
        "1000 steps by default, no `eta`, no `encode`",
        "refused: see AudioDiffusionPipeline above",
    ),
    (
        "deprecated/stable_diffusion_variants/pipeline_stable_diffusion_model_editing.py",
        "PNDMScheduler",
    ): (
        "no message that PNDM is not supported",
        "right: editing reads no scheduler, and plms runs",
    ),
    ("easyanimate/pipeline_easyanimate.py", "FlowMatchEulerDiscreteScheduler"): (
        "`set_timesteps` without `mu`",
        "right without dynamic shifting; with it refused in words (`mu` is required)",
    ),
    ("easyanimate/pipeline_easyanimate_control.py", "FlowMatchEulerDiscreteScheduler"): (
        "`set_timesteps` without `mu`",
        "right without dynamic shifting; with it refused in words (`mu` is required)",
    ),
    ("easyanimate/pipeline_easyanimate_inpaint.py", "FlowMatchEulerDiscreteScheduler"): (
        "`set_timesteps` without `mu`; `add_noise` in place of `scale_noise`",
        "right: the two are one here (dynamic shifting is refused in words)",
    ),
    ("hidream_image/pipeline_hidream_image.py", "UniPCMultistepScheduler"): (
        "`sigmas` and `mu` are passed on",
        "right: `sigmas` is None unless the caller gives it, and a static shift needs no `mu`",
    ),
    ("ledits_pp/pipeline_leditspp_stable_diffusion.py", "DDIMScheduler"): (
        "the formula of SDE-DPM-Solver++",
        "refused, see above",
    ),
    (
        "ledits_pp/pipeline_leditspp_stable_diffusion.py",
        "DDIMScheduler, DPMSolverMultistepScheduler",
    ): (
        "the constructor makes a DPMSolverMultistepScheduler of its config, with a warning",
        _REPLACED,
    ),
    ("ledits_pp/pipeline_leditspp_stable_diffusion.py", "DPMSolverMultistepScheduler"): (
        "NotImplementedError",
        "refused, see above",
    ),
    ("ledits_pp/pipeline_leditspp_stable_diffusion_xl.py", "DDIMScheduler"): (
        "the formula of SDE-DPM-Solver++",
        "refused, see above",
    ),
    (
        "ledits_pp/pipeline_leditspp_stable_diffusion_xl.py",
        "DDIMScheduler, DPMSolverMultistepScheduler",
    ): (
        "the constructor makes a DPMSolverMultistepScheduler of its config, with a warning",
        _REPLACED,
    ),
    ("ledits_pp/pipeline_leditspp_stable_diffusion_xl.py", "DPMSolverMultistepScheduler"): (
        "NotImplementedError",
        "refused, see above",
    ),
    ("longcat_audio_dit/pipeline_longcat_audio_dit.py", "FlowMatchEulerDiscreteScheduler"): (
        "the constructor makes FlowMatchEulerDiscreteScheduler(shift=1, invert_sigmas=True) "
        "in its place, without a word",
        "not served: `invert_sigmas=True` is refused in words by "
        "`from_config(pipe.scheduler.config)`",
    ),
    ("ltx/pipeline_ltx_i2v_long_multi_prompt.py", "LTXEulerAncestralRFScheduler"): (
        "a warning; all times but the last",
        "refused: see LTXI2VLongMultiPromptPipeline above",
    ),
    ("ltx2/pipeline_ltx2_dfr.py", "LTXEulerAncestralRFScheduler"): (
        "`sigmas` without the end at 0, all times, deterministic steps",
        "right",
    ),
    ("ltx2/pipeline_ltx2_dfr_temporal_refine.py", "LTXEulerAncestralRFScheduler"): (
        "ValueError of the pipeline before the first call",
        "refused by the pipeline itself",
    ),
    ("stable_cascade/pipeline_stable_cascade.py", "DDPMWuerstchenScheduler"): (
        "times of the table, their noise ratio from `betas`; clip_sample=True fails there as "
        "for any other class",
        "right: as with diffusers' DDPMScheduler (clip_sample=False). The shipped "
        "DDPMWuerstchenScheduler is no class that is read here",
    ),
    ("stable_cascade/pipeline_stable_cascade_prior.py", "DDPMWuerstchenScheduler"): (
        "times of the table, their noise ratio from `betas`; clip_sample=True fails there as "
        "for any other class",
        "right: as with diffusers' DDPMScheduler (clip_sample=False). The shipped "
        "DDPMWuerstchenScheduler is no class that is read here",
    ),
}
#: what pipelines read or call on a scheduler -> served or not (what
#: ``interop.diffusers_surface.NOT_SERVED`` holds is refused)
ATTRIBUTES = {
    "__class__": "its name appears in messages",
    "__dict__": "served (StableDiffusionPanorama keeps one for each view: samplers without history)",
    "_init_step_index": "not served (LEDITS++)",
    "_internal_dict": "served: a config that a pipeline replaces holds from then on",
    "_is_ode_scheduler": "not served (ParaDiGMS)",
    "_step_index": "see docs of `step`: a run goes by the times that it is told",
    "add_noise": "served",
    "alphas": "served for tables",
    "alphas_cumprod": "served for tables",
    "betas": "served for tables",
    "check_block_should_continue": "not served (language models)",
    "check_eos_finished": "not served (language models)",
    "config": "served",
    "eta": "written by RePaint, which is refused",
    "final_alpha_cumprod": "served for tables",
    "init_noise_sigma": "served",
    "num_inference_steps": "served",
    "order": "served: network calls a step",
    "register_to_config": "served: the changed config holds from the next `set_timesteps`",
    "scale_model_input": "served: the identity",
    "scale_noise": "served: `add_noise`",
    "set_begin_index": "served",
    "set_timesteps": "served, with timesteps=, sigmas=, mu=, original_inference_steps= and strength=",
    "sigmas": "served: sigma / alpha of the run's levels, on flows sigma",
    "step": "served",
    "step_index": "served",
    "timesteps": "served",
}
#: pipelines that are built and run in the tests -> how
_EQUAL = "equal to its own scheduler"
SERVED = {
    "LatentConsistencyModelPipeline, LatentConsistencyModelImg2ImgPipeline": f"{_EQUAL}, original_inference_steps= too",
    "StableDiffusion: text, image to image, inpainting, ControlNet": _EQUAL,
    "StableDiffusionXL: the same, and base with refiner": f"{_EQUAL} (both halves must have a FewstepScheduler: latents in the middle of a "
    "run are the network's input)",
    "StableDiffusion3 (text, image to image), Flux (text, image to image, inpainting)": _EQUAL,
    "PixArtAlpha (DMD in one step with timesteps=[400] too), PixArtSigma, DiT, DDPM": _EQUAL,
    "LTXPipeline, LTXConditionPipeline": f"{_EQUAL} with flow Euler; other samplers refuse tokens at times of their own",
    "Kandinsky3Pipeline, AuraFlowPipeline, Lumina2Pipeline, SanaPipeline, "
    "HiDreamImagePipeline": _EQUAL,
    "QwenImagePipeline, QwenImageImg2ImgPipeline": _EQUAL,
    "HunyuanVideoPipeline, CogVideoXPipeline (DDIM), WanPipeline (boundary_ratio= too), "
    "TextToVideoSDPipeline": _EQUAL,
    "StableCascadePriorPipeline, StableCascadeDecoderPipeline": f"{_EQUAL} where that is a DDPMScheduler; DDPMWuerstchenScheduler's config "
    "is refused by from_config",
    "MarigoldDepthPipeline": f"{_EQUAL}, with DDIM and with LCM",
    "ChronoEditPipeline": f"{_EQUAL}; enable_temporal_reasoning=True is refused (below)",
    "IFPipeline (DeepFloyd)": 'variance_type="learned_range" is refused by from_config without sampler=; with one, the '
    "predicted variance "
    'is cut off, and sampler="ddpm" is equal to DDPMScheduler with fixed_small',
    "StableDiffusionPanoramaPipeline, StableDiffusionSAGPipeline, StableDiffusionPAGPipeline": f"{_EQUAL} with DDIM",
}


def _scheduler(node: ast.AST) -> bool:
    """Whether an expression is a scheduler by its name."""
    return (isinstance(node, ast.Name) and node.id.endswith("scheduler")) or (
        isinstance(node, ast.Attribute) and node.attr.endswith("scheduler")
    )


@cache
def trees() -> dict[str, ast.Module]:
    """The pipelines' source by file, below ``diffusers/pipelines``."""
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent / "pipelines"
    return {
        str(p.relative_to(root).as_posix()): ast.parse(p.read_text(encoding="utf-8"))
        for p in sorted(root.rglob("*.py"))
    }


def asked(test: ast.AST) -> list[str]:
    """The classes that one comparison asks a scheduler for."""
    if (
        isinstance(test, ast.Call)
        and isinstance(test.func, ast.Name)
        and test.func.id == "isinstance"
        and _scheduler(test.args[0])
    ):
        kinds = test.args[1].elts if isinstance(test.args[1], ast.Tuple) else [test.args[1]]
        return [ast.unparse(kind).split(".")[-1] for kind in kinds]
    if (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Call)
        and getattr(test.left.func, "id", "") == "type"
    ):
        return (
            [ast.unparse(c).split(".")[-1] for c in test.comparators]
            if _scheduler(test.left.args[0])
            else []
        )
    return []


@cache
def places() -> dict[tuple[str, str], int]:
    """(file, classes asked for together) -> in how many places."""
    return found_in(trees())


def found_in(files: dict[str, ast.Module]) -> dict[tuple[str, str], int]:
    """``places`` in these files."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for file, tree in files.items():
        inner: set[int] = set()
        for node in ast.walk(tree):  # outer nodes come first
            if id(node) in inner:
                continue
            names = asked(node)
            if isinstance(node, ast.BoolOp):
                parts = [name for part in node.values for name in _parts(part)]
                names = parts if len(parts) > 1 else []
                inner |= {id(n) for n in ast.walk(node)} if names else set()
            if names:
                found[file, ", ".join(sorted(set(names)))] += 1
    return dict(found)


def _parts(node: ast.AST) -> list[str]:
    """The classes of one operand of and / or, ``not`` before it allowed."""
    return asked(node.operand if isinstance(node, ast.UnaryOp) else node)


@cache
def attributes() -> dict[str, int]:
    """What is read, called or written on a scheduler -> in how many files."""
    found: dict[str, set[str]] = defaultdict(set)
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and _scheduler(node.value)
                and node.attr not in ("append", "to")
            ):
                found[node.attr].add(file)
    return {name: len(files) for name, files in sorted(found.items())}


def verdict(name: str) -> str:
    """What is said of an attribute. KeyError for one without a verdict."""
    from fewstep.interop.diffusers.surface import NOT_SERVED

    return f"refused: {NOT_SERVED[name]}" if name in NOT_SERVED else ATTRIBUTES[name]


def _rows(head: str, rows: Iterator[tuple[str, ...]]) -> list[str]:
    columns = head.count("|") + 1
    return [f"| {head} |", "|" + "---|" * columns, *(f"| {' | '.join(row)} |" for row in rows), ""]


def tables() -> str:
    """The text between the marks of docs/diffusers.md."""
    from fewstep.interop.diffusers.pipelines import REFUSED

    refused = (
        (name + (f" with {r.argument}=True" if r.argument else ""), r.reason)
        for name, r in REFUSED.items()
    )
    asks = (
        (f"`{file}`", classes, str(n), *BRANCHES[file, classes])
        for (file, classes), n in sorted(places().items())
    )
    reads = ((f"`{name}`", str(n), verdict(name)) for name, n in attributes().items())
    return "\n".join(
        [
            BEGIN,
            "",
            "Pipelines that the tests build and run, small and with random weights, under "
            "`torch.inference_mode()` too:",
            "",
            *_rows("pipeline | how it is served", iter(SERVED.items())),
            "Refused with a `ConfigError` by `set_timesteps`, before the network is called:",
            "",
            *_rows("pipeline | why", refused),
            f"Every place in diffusers {VERSION} where a pipeline asks its scheduler for a class:",
            "",
            *_rows(
                "file | class asked for | places | what a FewstepScheduler gets | is that right",
                asks,
            ),
            "Everything that pipelines read, call or write on a scheduler:",
            "",
            *_rows("name | files | verdict", reads),
            END,
        ]
    )


def written() -> str:
    """The tables that docs/diffusers.md holds."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def installed() -> str:
    """The version of diffusers that is installed."""
    return importlib.metadata.version("diffusers")


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(old.replace(written(), tables()), encoding="utf-8")
