"""Video files for tests."""

import itertools

import av


def write_film(path, pictures, *, codec="libx264", pix_fmt="yuv420p", rate=10, muxer=None, turned=None, **options):
    """A video file of pictures (H, W, 3) uint8; ``options`` are the encoder's. Returns its path."""
    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, options
        if turned is not None:
            stream.set_display_rotation(turned)
        for picture in itertools.chain([first], pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
