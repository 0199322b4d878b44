"""The demo in a real browser: upload, run, play the result, cancel; an error is a sentence, and nothing stays."""

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from detectron2.modeling import build_model

from ska_vct import Predictor
from ska_vct.deploy.demo.examples import make_examples
from ska_vct.visualization.mp4 import write_mp4

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
# Milliseconds; a busy machine may need most of it.
PATIENCE = 300_000
STATUS = "document.querySelector('#status textarea').value"


@pytest.fixture
def server(tiny_cfg, tmp_path):
    """Address of the page and the folder below which it keeps its files."""
    pytest.importorskip("gradio")
    Predictor(tiny_cfg, build_model(tiny_cfg)).model.save_pretrained(tmp_path / "model")
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "tools/demo_app.py", "--weights", str(tmp_path / "model"), "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stdout if "page is at" in line)
        yield line.split()[4], tmp_path / "temporary"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert not list((tmp_path / "temporary").glob("ska-vct-demo-*")), "no upload and no result stays"


def test_upload_run_play_cancel_and_an_error_message(server, browser, tmp_path):
    address, temporary = server
    assert address.startswith("http://127.0.0.1:")
    (tmp_path / "examples").mkdir()
    clip = make_examples(tmp_path / "examples")[0]
    (tmp_path / "text.mp4").write_text("This is no video.")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="domcontentloaded")
    page.locator("#start").click()
    page.get_by_text("Upload or record a clip, or choose an example first.").first.wait_for()

    page.locator("#clip input[type=file]").set_input_files(clip)
    page.locator("#clip video").wait_for()
    page.locator("#start").click()
    video = page.locator("#result video")
    video.wait_for()
    video.evaluate("video => { video.muted = true; return video.play(); }")
    page.wait_for_function("() => document.querySelector('#result video').currentTime > 0.5")
    shown = video.evaluate("video => [video.duration, video.videoWidth, video.webkitAudioDecodedByteCount]")
    assert 4.5 < shown[0] < 5.5 and shown[1] > 640 and shown[2] > 0, "five seconds, two panels, sound"
    assert "Loudest second" in page.locator("#status textarea").input_value()

    # A minute of video is work enough to be cancelled.
    long = tmp_path / "long.mp4"
    write_mp4(long, np.random.default_rng(0).integers(0, 256, (300, 48, 64, 3), np.uint8), rate=Fraction(5))
    page.reload(wait_until="domcontentloaded")
    page.locator("#clip input[type=file]").set_input_files(long)
    page.locator("#clip video").wait_for()
    page.locator("#start").click()
    page.wait_for_function(f"() => {STATUS}.includes('no audio, so that nothing can be heard')")
    page.get_by_label("Silence if there is no audio").check()
    page.locator("#start").click()
    page.wait_for_function(f"() => {STATUS}.includes('Segmenting')")
    page.locator("#stop").click()
    page.wait_for_function(f"() => {STATUS} == 'Cancelled.'")
    assert page.locator("#result video").count() == 0

    page.reload(wait_until="domcontentloaded")
    page.locator("#clip input[type=file]").set_input_files(tmp_path / "text.mp4")
    page.get_by_label("Clear").or_(page.get_by_label("Remove")).or_(page.locator("#clip video")).first.wait_for()
    page.locator("#start").click()
    page.wait_for_function(f"() => {STATUS}.includes('text.mp4')")
    message = page.locator("#status textarea").input_value()
    assert str(temporary) not in message and "Traceback" not in message
    assert all(url.startswith((address, "data:", "blob:")) for url in asked if "127.0.0.1" in url)
    page.close()
