"""How the probabilities of a scene are distributed, as a picture."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_LEFT, _TOP, _BOTTOM, _RIGHT = 44, 24, 24, 18
_WIDE, _HIGH = 3 * 101, 150  # pixels of the bars
_PAPER, _INK, _LINE = (255, 255, 255), (40, 40, 40), (222, 222, 222)
_LOW, _OVER = (120, 134, 150), (226, 40, 130)


def histogram(counts: npt.NDArray[np.int64], threshold: int = 50) -> Image.Image:
    """Pixels at each percent of probability, on a logarithmic axis.

    Args:
        counts: pixels at 0, 1, ... 100 percent (101,).
        threshold: percent; bars over it are red, as `polygons` takes them for slumps by default.

    Returns:
        RGB, 365 x 198.
    """
    image = Image.new("RGB", (_LEFT + _WIDE + _RIGHT, _TOP + _HIGH + _BOTTOM), _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    decades = max(1, math.ceil(math.log10(max(int(counts.max()), 1) * 1.05)))
    floor = _TOP + _HIGH
    for decade in range(decades + 1):
        y = floor - round(_HIGH * decade / decades)
        draw.line([(_LEFT, y), (_LEFT + _WIDE, y)], fill=_LINE)
        draw.text((_LEFT - 5, y), f"{10**decade:,}" if decade < 4 else f"10^{decade}", _INK, font, anchor="rm")
    for percent, pixels in enumerate(counts.tolist()):
        if pixels:
            # One pixel is not nothing: it gets a bar too.
            top = floor - max(3, round(_HIGH * math.log10(pixels) / decades))
            x = _LEFT + 3 * percent
            draw.rectangle([(x, top), (x + 1, floor)], fill=_OVER if percent > threshold else _LOW)
    for percent in range(0, 101, 25):
        x = _LEFT + 3 * percent + 1
        draw.line([(x, floor), (x, floor + 3)], fill=_INK)
        draw.text((x, floor + 5), f"{percent} %", _INK, font, anchor="ma")
    over = int(counts[threshold + 1 :].sum()) / max(int(counts.sum()), 1)
    title = f"pixels by probability; {100 * over:.3g} % of them over {threshold} %"
    draw.text((_LEFT, 5), title, _INK, font)
    return image
