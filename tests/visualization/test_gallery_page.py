"""Gallery and clip page in a real browser, opened from disk: sorting, classes, audio, and no request elsewhere."""

import numpy as np
import pytest

from ska_vct.visualization.audio import encode_audio
from ska_vct.visualization.gallery import GalleryClip, gallery_page
from ska_vct.visualization.page import Shown, clip_page, encode_image
from tests.visualization.test_images import make_clip

pytestmark = pytest.mark.slow


def test_the_gallery_sorts_and_its_pages_play(browser, tmp_path):
    clip, prediction = make_clip()
    tone = encode_audio(0.3 * np.sin(np.arange(3 * 16000) / 6), 16000, seconds=3)
    scores = {"a": 0.9, "b": 0.2, "c": 0.5}
    clips = [
        GalleryClip(
            name=name, image=f"{name}.webp", size=(8, 8), scores={"mIoU": score}, page=f"{name}.html",
            audio=f"{name}.m4a", classes={"dog": 1 - score} if name != "b" else {},
        )
        for name, score in scores.items()
    ]  # fmt: skip
    for name in scores:
        (tmp_path / f"{name}.webp").write_bytes(encode_image(np.zeros((8, 8, 3), np.uint8)))
        (tmp_path / f"{name}.m4a").write_bytes(tone)
        page = clip_page(clip | {"clip_id": name}, [Shown(title="model", prediction=prediction)], audio=tone)
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
    (tmp_path / "index.html").write_text(gallery_page(clips, title="clips"), encoding="utf-8")

    page = browser.new_page()
    page.set_default_timeout(300_000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "index.html").as_uri())

    def shown() -> list[str]:
        return page.locator("article:visible h2").all_inner_texts()

    assert shown() == ["b", "c", "a"], "worst first"
    page.select_option("#order", "best 0")
    assert shown() == ["a", "c", "b"]
    page.locator("article:visible .chips button").first.click()
    assert shown() == ["a", "c"], "clips of the class, its worst first"
    page.select_option("#class", "")
    page.fill("#find", "C")
    assert shown() == ["c"] and "1 of 3" in page.inner_text("#count")
    assert page.evaluate("document.querySelector('article:not([hidden]) img').naturalWidth") == 8
    # Under the page's policy only evaluate may run text, wait_for_function may not.
    played = "audio => new Promise(done => { audio.ontimeupdate = () => done(audio.readyState); audio.play(); })"
    assert page.locator("article:visible audio").evaluate(played) >= 2

    page.locator("article:visible h2 a").click()
    page.locator("audio").evaluate("audio => { audio.currentTime = 1.2; }")
    page.locator("th.now").first.wait_for()
    assert set(page.locator("th.now").all_inner_texts()) == {"second 1"}
    page.locator("td img").first.click()
    assert page.locator("dialog").is_visible() and "Frames" in page.inner_text("dialog p")
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert errors == []
    page.close()
