"""The functions of docs/video.md, on a file that is written here."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

import blurlib

PAGE = Path(__file__).resolve().parents[1] / "docs" / "video.md"
FRAMES, RATE, SIZE = 7, 25, (64, 48)

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def functions():
    """Those that the page defines."""
    found = {}
    for block in re.findall(
        r"^```python\n(def .*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        exec(compile(block, str(PAGE), "exec"), found)
    return found


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A file with a bright bar that moves."""
    path = tmp_path_factory.mktemp("video") / "bar.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE, SIZE)
    for number in range(FRAMES):
        frame = np.full((*SIZE[::-1], 3), (40, 90, 60), np.uint8)
        frame[:, 8 * number : 8 * number + 8] = 220
        writer.write(frame)
    writer.release()
    return path


def frames_of(path):
    opened, found = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = opened.read()
        if not there:
            return np.stack(found), opened.get(cv2.CAP_PROP_FPS)
        found.append(frame)


def test_a_file_becomes_a_blurred_file(functions, video, tmp_path):
    functions["blur_video"](video, tmp_path / "soft.mp4", blurlib.kernels.disk(4))
    (sharp, rate), (soft, same_rate) = frames_of(video), frames_of(tmp_path / "soft.mp4")
    assert soft.shape == sharp.shape == (FRAMES, *SIZE[::-1], 3) and rate == same_rate == RATE
    taps = blurlib.kernels.disk(4).numpy()
    expected = [cv2.filter2D(frame, -1, taps, borderType=cv2.BORDER_REFLECT_101) for frame in sharp]
    lost = np.abs(soft.astype(int) - expected).mean()  # by the encoder
    assert 4 * lost < np.abs(soft.astype(int) - sharp).mean()


def test_parts_of_a_file_are_keyed_by_frame(functions, video):
    pytest.importorskip("torchcodec")
    mix = blurlib.BlurMixSampler("sharp + D4 + shake", seed=3)
    try:
        parts = [torch.cat(list(functions["blurred_parts"](str(video), mix, size=size))) for size in (3, 32)]
    except (OSError, RuntimeError) as error:  # it loads FFmpeg's libraries
        pytest.skip(f"torchcodec does not run here: {str(error).splitlines()[0]}")
    assert torch.equal(*parts) and len(parts[0]) == FRAMES


def test_frames_of_pyav(functions, video):
    pytest.importorskip("av")
    found = np.stack(list(functions["blurred_frames"](str(video), blurlib.kernels.disk(4))))
    sharp, _ = frames_of(video)
    expected = np.stack([blurlib.blur(frame[..., ::-1].copy(), blurlib.kernels.disk(4)) for frame in sharp])
    assert np.abs(found.astype(int) - expected).max() <= 3  # the two convert colours in other roundings


def test_clips_without_their_type_are_refused():
    clips = torch.zeros(2, FRAMES, 3, 8, 8, dtype=torch.uint8)
    mix = blurlib.BlurMixSampler("sharp + D2")
    with pytest.raises(ValueError, match=r"got shape \(2, 7, 3, 8, 8\); wrap videos in tv_tensors\.Video$"):
        mix(clips)
    assert mix(tv_tensors.Video(clips)).shape == clips.shape
