"""The page itself, in Gradio: upload or record a clip, choose, run; see and hear the result."""

import html
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ska_vct.engine.predictor import Predictor
from ska_vct.utils.errors import InputError, SkaVctError

from .examples import make_examples
from .files import VisitorFiles
from .segment import Choices, Limits, Result, segment_clip
from .work import CancelledError, Work

TITLE = "SKA-VCT: what makes the sound?"
_LOGGER = logging.getLogger(__name__)
_CACHE = "GRADIO_TEMP_DIR"
# Height of the clip and of the result, so that the buttons stay in sight, pixels; below the clip are its sources.
_HEIGHT = 360
_STYLE = f"#clip video {{ max-height: {_HEIGHT - 48}px }}"
# Files of visits that ended without notice are deleted after this long, seconds.
_OLDEST = 3600


class Models:
    """The checkpoints that can be chosen; the one that was used last stays in memory.

    Args:
        weights: name on the page -> checkpoint.
        config, device: see :meth:`ska_vct.Predictor.from_pretrained`.
    """

    def __init__(self, weights: dict[str, str], config: str | None, device: str | None) -> None:
        self.names = list(weights)
        self._weights, self._config, self._device = weights, config, device
        self._loaded: tuple[str, Predictor] | None = None

    def get(self, name: str) -> Predictor:
        """The predictor of that name.

        Raises:
            SkaVctError: the checkpoint cannot be used.
        """
        if name not in self._weights:
            raise InputError("Choose one of the checkpoints.")
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            self._loaded = name, Predictor.from_pretrained(self._weights[name], self._config, self._device)
        return self._loaded[1]


def serve(
    weights: Sequence[str],
    *,
    config: str | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> None:
    """Show the page until the process is interrupted.

    Args:
        weights: checkpoints to choose from; the first is loaded at once.
        config, device: see :meth:`ska_vct.Predictor.from_pretrained`.
        limits: of the clips; None for the usual ones.
        host: address to listen at; others than 127.0.0.1 can be reached from other machines.
        port: None for the first that is free from 7860 on.

    Raises:
        SkaVctError: a checkpoint cannot be used, or the port is taken.
        ModuleNotFoundError: Gradio is not installed.
    """
    limits = limits or Limits()
    models = Models(_named(weights), config, device)
    models.get(models.names[0])
    with tempfile.TemporaryDirectory(prefix="ska-vct-demo-") as root:
        # Read by Gradio when it is imported.
        os.environ |= {_CACHE: root, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        gradio = _import_gradio()
        examples = Path(root) / "examples"
        examples.mkdir()
        page = build_page(gradio, models, VisitorFiles(Path(root)), make_examples(examples), limits)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                max_file_size=round(limits.megabytes * 1e6),
                allowed_paths=[root],
                prevent_thread_lock=True,
                show_error=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                theme=_theme(gradio),
                css=_STYLE,
                footer_links=[],
            )
        except OSError as error:
            raise InputError(f"The page cannot be served at {host}:{port or 7860}: {error}") from None
        print(f"The page is at {page.local_url} - end it with Ctrl+C.", flush=True)
        # A server that is told to end deletes its files as well.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def build_page(gradio: Any, models: Models, files: VisitorFiles, examples: Sequence[Path], limits: Limits) -> Any:
    """Gradio's ``Blocks``.

    Args:
        gradio: the module.
        models: to choose from.
        files: where uploads and results go.
        examples: videos.
        limits: of the clips.
    """
    running: dict[str, Work] = {}

    def begin(video: str | None, name: str, use_threshold: bool, threshold: float, beside: bool, silence: bool,
              request: gradio.Request) -> Iterator[tuple]:  # fmt: skip
        def fail(message: str) -> tuple:
            # Not gradio.Error, which covers the results and the sentence with a badge.
            gradio.Warning(html.escape(message), duration=None, title="That did not work")
            return None, message

        if video is None:
            yield fail("Upload or record a clip, or choose an example first.")
            return
        visit = str(request.session_hash)
        files.add_upload(visit, Path(video))
        choices = Choices(
            threshold=float(threshold) if use_threshold else None, motion_map=bool(beside), no_audio=bool(silence)
        )
        folder = Path(tempfile.mkdtemp(dir=files.folder(visit)))

        def task(report: Any) -> Result:
            return segment_clip(models.get(name), Path(video), folder, choices, limits, report)

        work = running[visit] = Work(task)
        try:
            for progress in work:
                yield None, f"{progress.text} ..."
        except CancelledError:
            yield None, "Cancelled."
            return
        except (SkaVctError, OSError) as error:
            yield fail(_plain(error, video))
            return
        except Exception:
            _LOGGER.exception("A clip could not be segmented")
            yield fail("Something went wrong that is not the clip's fault; the server's log says what.")
            return
        finally:
            running.pop(visit, None)
        # The server keeps copies by name, so that each result needs its own.
        shown = work.result.video.rename(folder / f"{folder.name}.mp4")
        yield str(shown), work.result.summary

    def cancel(request: gradio.Request) -> None:
        work = running.get(str(request.session_hash))
        if work is not None:
            work.cancel()

    def uploaded(video: str | None, request: gradio.Request) -> None:
        if video is not None:
            files.add_upload(str(request.session_hash), Path(video))

    def leave(request: gradio.Request) -> None:
        cancel(request)
        files.forget(str(request.session_hash))

    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, _OLDEST)) as page:
        gradio.Markdown(
            f"## {TITLE}\nUpload or record a clip with audio, up to {limits.seconds:g} seconds and "
            f"{limits.megabytes:g} MB. It stays on this machine and is deleted when you leave the page."
        )
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(
                    label="Clip", sources=["upload", "webcam"], include_audio=True, elem_id="clip",
                    webcam_options=gradio.WebcamOptions(mirror=False), height=_HEIGHT,
                )  # fmt: skip
                with gradio.Row():
                    start = gradio.Button("Segment", variant="primary", elem_id="start")
                    stop = gradio.Button("Cancel", elem_id="stop")
                gradio.Examples([[str(path)] for path in examples], [video], label="Synthetic examples")
                name = gradio.Dropdown(models.names, value=models.names[0], label="Checkpoint", elem_id="weights")
                with gradio.Row():
                    use = gradio.Checkbox(
                        False,
                        label="Own threshold",
                        info="else the model's, or the highest score wins, as in the papers",
                    )
                    threshold = gradio.Slider(0.05, 0.95, 0.5, step=0.05, label="Threshold of the score")
                with gradio.Row():
                    beside = gradio.Checkbox(True, label="Motion map beside the masks")
                    silence = gradio.Checkbox(False, label="Silence if there is no audio")
            with gradio.Column():
                result = gradio.Video(
                    label="Result", show_label=False, interactive=False, elem_id="result", height=_HEIGHT
                )
                status = gradio.Textbox(label="Progress and summary", lines=4, interactive=False, elem_id="status")
        video.upload(uploaded, [video], None, queue=False, show_progress="hidden")
        inputs = [video, name, use, threshold, beside, silence]
        start.click(begin, inputs, [result, status], concurrency_limit=1, show_progress="minimal")
        # Not queued, so that it is not kept waiting by the work that it ends.
        stop.click(cancel, None, None, queue=False)
        page.unload(leave)
    return page


def _theme(gradio: Any) -> Any:
    """Fonts of the visitor's machine, nothing from the network; notes as large as the rest, and dark enough."""
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return theme.set(block_info_text_color="*neutral_600", block_info_text_size="*text_md")


def _named(weights: Sequence[str]) -> dict[str, str]:
    """Names on the page: addresses, and the last two parts of paths, or all of them where these are not unique."""
    short = [path if "://" in path else "/".join(Path(path).parts[-2:]) for path in weights]
    return dict(zip(short if len(set(short)) == len(short) else weights, weights, strict=True))


def _plain(error: Exception, path: str) -> str:
    """The sentence, with the file's name in place of where the server keeps it."""
    return " ".join(str(error).replace(path, Path(path).name).split())


def _import_gradio() -> Any:
    try:
        import gradio
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise InputError("The demo needs Gradio; install it with: pip install 'ska_vct[demo]'.") from None
    return gradio
