"""Published step lists, as data.

AYS  noise-to-signal ratios before the final 0, "Align Your Steps", Sabour et al. 2024, arXiv
2404.14507, and its project page. OSS  flow times before the final 0, "Optimal Stepsize for
Diffusion Sampling", Pei et al. 2025, arXiv 2503.21774, and its
     repository; the closing 0.001 stands for that 0 where the list is interpolated to another
         length.
"""

from __future__ import annotations

AYS: dict[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034),
}

OSS: dict[str, tuple[float, ...]] = {
    "flux": (0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001),
    "wan": (
        *(1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973),
        *(0.968, 0.96, 0.946, 0.927, 0.902, 0.864, 0.776, 0.539, 0.208, 0.001),
    ),
}
