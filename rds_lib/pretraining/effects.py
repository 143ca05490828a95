"""What happens to a finished picture, for many frames at once on any device: light, blur, compression, grain.

Nothing here mixes frames, so a frame comes out the same in whatever batch it is made.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rds_lib.pretraining.recipes import NOISE, Look

BOXES = (3, 5, 9)  # px, widths of the box filters behind the levels of blur
# The tables of the JPEG standard (ITU-T T.81, annex K) for light and for colour.
_LIGHT = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_COLOUR = "17 18 24 47 18 21 26 66 24 26 56 99 47 66 99 99"  # the corner; all else is 99


def finish(images: Tensor, look: Look, noise: Tensor) -> Tensor:
    """Apply a look to frames.

    Parameters
    ----------
    images : Tensor, shape (B, T, 3, S, S), float
        RGB in [0, 1].
    look : Look
        On the CPU; only the frames that it names are blurred and compressed.
    noise : Tensor, shape (NOISE,), float
        `grain` on the device of ``images``.

    Returns
    -------
    Tensor, shape (B, T, 3, S, S)
        RGB in [0, 1].
    """
    device, (clips, frames, _, size, _) = images.device, images.shape
    x = images * look.gain.to(device)[..., None, None] + look.lift.to(device)[..., None, None, None]
    x = x.clamp_(0, 1).flatten(0, 1)
    for strength, effect in ((look.blur, blurred), (look.squash, compressed)):
        rows = (strength.flatten() > 0.02).nonzero()[:, 0]
        if len(rows):
            there = rows.to(device)
            x[there] = effect(x[there], strength.flatten()[rows].to(device))
    at = look.noise_at.to(device).flatten()[:, None] + torch.arange(3 * size * size, device=device)
    x = x + noise[at % NOISE].view_as(x) * look.noise.to(device).flatten()[:, None, None, None]
    return x.clamp_(0, 1).view(clips, frames, 3, size, size)


def grain() -> Tensor:
    """Normal noise that frames take pieces of, (NOISE,) float; the same on every device."""
    return torch.randn(NOISE, generator=torch.Generator().manual_seed(0))


def blurred(images: Tensor, level: Tensor) -> Tensor:
    """Blur (N, 3, S, S) by ``level`` (N,) in [0, 3]: between nothing and three widths, the last about 4 px wide."""
    steps = [images, *(_box(_box(images, width), width) for width in BOXES)]
    total = torch.zeros_like(images)
    for n, step in enumerate(steps):
        total += step * (1 - (level - n).abs()).clamp(min=0)[:, None, None, None]
    return total


def _box(images, width):
    return F.avg_pool2d(images, width, stride=1, padding=width // 2, count_include_pad=False)


def compressed(images: Tensor, strength: Tensor) -> Tensor:
    """What JPEG leaves of (N, 3, S, S) RGB in [0, 1]: quality 43 at ``strength`` (N,) 0, 3 at 1; S a multiple of 8."""
    n, _, size, _ = images.shape
    quality = 3 + 40 * (1 - strength)
    tables = torch.stack([_table(_LIGHT), _table(_COLOUR), _table(_COLOUR)]).to(images.device)
    steps = (tables * (50 / quality)[:, None, None, None]).clamp(1, 255)[:, :, None, None] / 255  # (N, 3, 1, 1, 8, 8)
    red, green, blue = images.unbind(1)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = torch.stack([light - 0.5, 0.564 * (blue - light), 0.713 * (red - light)], 1)
    cosines = _cosines().to(images.device)
    blocks = planes.view(n, 3, size // 8, 8, size // 8, 8).transpose(3, 4)
    kept = (cosines @ blocks @ cosines.T / steps).round() * steps
    planes = (cosines.T @ kept @ cosines).transpose(3, 4).reshape(n, 3, size, size)
    light, blue_less, red_less = planes.unbind(1)
    light = light + 0.5
    red, blue = light + red_less / 0.713, light + blue_less / 0.564
    return torch.stack([red, (light - 0.299 * red - 0.114 * blue) / 0.587, blue], 1).clamp(0, 1)


def _table(text):
    numbers = torch.tensor([float(word) for word in text.split()])
    side = math.isqrt(len(numbers))
    return F.pad(numbers.view(side, side), (0, 8 - side, 0, 8 - side), value=99.0)


def _cosines():
    """The orthonormal cosine transform of eight numbers, (8, 8)."""
    k, i = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    basis = torch.cos((2 * i + 1) * k * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
