"""The graph's drawing as a PNG, made here: no browser, no service, and a font of our own.

Colours and line styles are those of the pages (`assets/report.css`), in their light form. The font is a part of DejaVu
Sans (Latin, Greek, arrows, mathematics; its licence lies beside it), so that text is drawn where no font is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from . import drawing

STYLE = Path(__file__).with_name("assets") / "report.css"
FONT = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
FAMILY = "DejaVu Sans"
ZOOM = 2.0  # pixels of the picture for one of the drawing: sharp on a screen of many pixels, and in print
MARGIN = 32
HEADING = 74  # from the top to the drawing
TITLE = "The adaptation graph"
CAPTION = "Solid arrows are always taken, dashed ones depend on the state."


def graph_png(topology: drawing.Topology, zoom: float = ZOOM) -> bytes:
    """The drawing under its title, on a light ground. `zoom`: pixels of the picture for one of the drawing."""
    from resvg_py import svg_to_bytes

    return svg_to_bytes(
        svg_string=framed(topology),
        style_sheet=light_style(STYLE.read_text(encoding="utf-8")),
        zoom=zoom,
        skip_system_fonts=True,  # the same picture on every machine
        font_files=[str(FONT)],
        font_family=FAMILY,
        sans_serif_family=FAMILY,
    )


def framed(topology: drawing.Topology) -> str:
    """The drawing as an SVG document of its own, with a margin, a title and a line that says what dashes mean."""
    layout = drawing.arrange(topology)
    width = max(layout.width, 8 * len(CAPTION)) + 2 * MARGIN
    height = layout.height + HEADING + MARGIN
    x = (width - layout.width) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">'
        f'<rect class="ground" width="100%" height="100%"/>'
        f'<text class="heading" x="{MARGIN}" y="38">{TITLE}</text><text x="{MARGIN}" y="60">{CAPTION}</text>'
        f'<svg x="{x:.0f}" y="{HEADING}" width="{layout.width:.0f}" height="{layout.height:.0f}">'
        f"{drawing.svg(topology, title=TITLE)}</svg></svg>"
    )


def light_style(css: str) -> str:
    """The rules for SVG of a page's style sheet with its variables resolved, since no renderer but a browser knows
    them: those of the first `:root`, which is the light form."""
    values = dict(re.findall(r"--([\w-]+):\s*([^;]+);", css.partition("}")[0]))
    more = f"svg .ground {{ fill: {values['paper']}; }} svg .heading {{ font-size: 19px; }}"
    rules = "\n".join(_svg_rules(css)).replace("inherit", f"'{FAMILY}'")
    return re.sub(r"var\(--([\w-]+)\)", lambda found: values[found[1]], rules) + more


def _svg_rules(css: str) -> Iterator[str]:
    """Without those that only a browser can follow, such as `:hover`."""
    for selector, body in re.findall(r"^([^{}@]+)\{([^{}]*)\}", css, re.MULTILINE):
        if selector.strip().startswith("svg") and ":" not in selector:
            yield f"{selector.strip()} {{{body}}}"
