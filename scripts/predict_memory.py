"""Memory of segmenting a long video, over time: a figure, and the peak of each minute.

    python scripts/predict_memory.py --weights model_best.pth --minutes 10 --figure output/memory.png my_video.mp4

The video's packets are repeated until it is long enough; it is segmented with all files, as by tools/predict.py.
"""

import argparse
import sys
import tempfile
import threading
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.utils.cli import one_sentence_errors


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", metavar="VIDEO", help="a short video with audio")
    parser.add_argument("--weights", required=True, metavar="FILE", help="see tools/predict.py")
    parser.add_argument("--minutes", type=float, default=10.0, help="length to segment (default: %(default)s)")
    parser.add_argument("--figure", metavar="FILE", help="write a plot, PNG")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    with one_sentence_errors(), tempfile.TemporaryDirectory() as folder:
        import matplotlib.pyplot as plt

        from ska_vct import Predictor
        from ska_vct.engine.segment.batch import segment_paths
        from ska_vct.profiling.timing.memory import anonymous_bytes

        video = Path(folder) / "long.mp4"
        repeat_video(args.video, video, 60 * args.minutes)
        predictor = Predictor.from_pretrained(args.weights, device="cpu")
        samples: list[float] = []
        done = threading.Event()

        def sample() -> None:
            while not done.wait(0.5):
                samples.append(anonymous_bytes() / 2**20)

        thread = threading.Thread(target=sample)
        thread.start()
        (report,) = segment_paths(predictor, [video], Path(folder) / "out")
        done.set()
        thread.join()
        print(f"{report.frames} frames segmented {report.error}")
        for tenth in range(10):
            part = samples[tenth * len(samples) // 10 : (tenth + 1) * len(samples) // 10]
            print(f"tenth {tenth + 1} of the run: at most {max(part):.0f} MiB")
        if args.figure:
            figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
            axis.plot([index / 2 for index in range(len(samples))], samples, color="#1f3b57")
            axis.set_xlabel(f"seconds of the run, {args.minutes:g} minutes of video")
            axis.set_ylabel("memory, MiB")
            axis.set_ylim(0)
            axis.spines[["top", "right"]].set_visible(False)
            Path(args.figure).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(args.figure, dpi=130)


def repeat_video(source: str, target: Path, seconds: float) -> None:
    """Copy a video's packets again and again, each time later by its length."""
    import av

    with av.open(f"file:{target}", "w") as output:
        with av.open(f"file:{source}") as container:
            chosen = [container.streams.video[0], container.streams.audio[0]]
            length = max(float(stream.duration * stream.time_base) for stream in chosen)
            streams = {stream.index: output.add_stream_from_template(stream) for stream in chosen}
        shift = 0.0
        while shift < seconds:
            with av.open(f"file:{source}") as container:
                for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
                    if packet.dts is not None:
                        later = round(shift / packet.time_base)
                        packet.pts, packet.dts = packet.pts + later, packet.dts + later
                        packet.stream = streams[packet.stream.index]
                        output.mux(packet)
            shift += length


if __name__ == "__main__":
    main()
