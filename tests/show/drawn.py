"""What a drawn figure shows, for tests."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def covered(figure, texts) -> list[str]:
    """The texts that lie on anything but white."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = {text: text.get_window_extent() for text in texts}
    for text in texts:
        text.set_visible(False)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[::-1, :, :3]  # from below, as boxes count
    under = {text: drawn[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)] for text, box in boxes.items()}
    assert all(pixels.size for pixels in under.values())
    return [text.get_text() for text, pixels in under.items() if (pixels < 255).any()]
