"""Pictures on their way into the published models: tensors in 0..1 become the 8-bit pictures those models were shown."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from cotlib.errors import UserError


def to_pil(images: Tensor | Sequence[Image.Image]) -> list[Image.Image]:
    """RGB pictures of 8 bits; images: float [B, 3, H, W] in 0..1, or PIL pictures of any mode and size.

    Levels are cut off, not rounded, as in Show-o's and the paper's own saving, so that a picture judged in memory and the
    same one written and read again are equal. A level k / 255 stays k. Transparency is dropped. Raises UserError for
    other shapes and for values outside 0..1.
    """
    if not isinstance(images, Tensor):
        return [picture.convert("RGB") for picture in images]
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"pictures of shape {list(images.shape)}; expected RGB pictures [B, 3, H, W] in 0..1")
    images = images.detach().to("cpu", torch.float32)
    if images.numel() and not (0 <= images.min() and images.max() <= 1):
        raise UserError(f"pictures with values from {images.min():.3g} to {images.max():.3g}; expected 0..1")
    levels = (images * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(picture) for picture in levels]
