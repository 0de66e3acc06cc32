"""The style sheets of a benchmark's plots and of its page: system fonts, light and dark, one column
on narrow screens."""

from __future__ import annotations

#: six hues that differ in lightness too, for a light and for a dark ground
LIGHT = ("#1d4ed8", "#c2410c", "#047857", "#9d174d", "#6d28d9", "#0e7490")
DARK = ("#7aa7ff", "#ff9a5c", "#4fd1a1", "#ff8fc2", "#bda4ff", "#5ad1e6")


def _palette(colours: tuple[str, ...]) -> str:
    return "".join(f"--c{k}:{colour};" for k, colour in enumerate(colours))


_HUES = "".join(f".c{k}{{--c:var(--c{k})}}" for k in range(len(LIGHT)))

#: what the plots need, on a page or alone
PLOT_STYLE = f"""
:root{{color-scheme:light dark;--back:#fff;--ink:#1a1c20;--faint:#5f6673;--rule:#d9dce1;--mark:#e8f0fe;--grey:#b9bec7;{_palette(LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{--back:#14161a;--ink:#e7e9ed;--faint:#a0a7b4;--rule:#343943;--mark:#1f2d4a;--grey:#4b515d;
{_palette(DARK)}}}}}
svg text{{font:11px system-ui,sans-serif;fill:var(--ink)}}
svg .head{{font-weight:600;font-size:12px}}svg .tick{{fill:var(--faint);font-size:10.5px}}
.grid{{stroke:var(--rule);stroke-width:1}}.floor{{stroke:var(--faint);stroke-dasharray:4 3}}
.axis{{stroke:var(--faint);stroke-width:1;fill:none}}
.line{{fill:none;stroke:var(--c);stroke-width:1.8}}.bar{{stroke:var(--c);stroke-width:1.2;opacity:.75}}
g circle{{fill:var(--c)}}g circle.low{{fill:var(--back);stroke:var(--c)}}
svg text.label{{fill:var(--c)}}.other{{--c:var(--grey)}}.dots{{--c:var(--c0)}}
{_HUES}
"""

#: the page
STYLE = f"""{PLOT_STYLE}*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:72rem;padding:1rem;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,sans-serif}}
h1{{font-size:1.6rem;line-height:1.2}}h2{{font-size:1.3rem;margin-top:2.5rem;border-top:1px solid var(--rule);padding-top:1rem}}
h3{{font-size:1.05rem;margin:1.6rem 0 .4rem}}
p{{max-width:46rem}}code,pre{{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}}
pre{{white-space:pre-wrap;border:1px solid var(--rule);padding:.6rem;border-radius:4px}}
a{{color:var(--c0)}}small,figcaption,.faint{{color:var(--faint)}}figcaption{{font-size:.85rem}}
figure{{margin:0}}.panels{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}}
svg{{display:block;width:100%;height:auto;max-width:36rem}}
.wide{{overflow-x:auto;margin:.6rem 0}}table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.2rem .7rem .2rem 0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}}
.word{{text-align:left}}td.best,tr.best td{{font-weight:600;background:var(--mark)}}
summary{{cursor:pointer;margin:.4rem 0}}
.row{{display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:center;margin:.35rem 0}}.who{{width:13rem}}
.who{{line-height:1.2;overflow-wrap:anywhere}}
.row img{{image-rendering:pixelated;width:100%;max-width:32rem;border-radius:2px}}
.clouds{{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.8rem}}.clouds .row{{display:block}}
.clouds .who{{width:auto}}svg.cloud{{max-width:12rem;border:1px solid var(--rule);border-radius:4px}}
"""
