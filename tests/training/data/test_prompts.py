"""Prompt pictures: from as many held-out episodes as there are, and never none where there is a frame."""

from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from genie_rt.errors import InputError
from genie_rt.training.data.commands import PromptsCommand
from genie_rt.training.data.prompts import choose_prompts
from genie_rt.training.data.store import ClipStore
from genie_rt.training.data.writer import ClipStoreWriter


def store(path: Path, *held_out: int) -> ClipStore:
    """A training episode, then held-out ones of these lengths; red is the episode, green the frame."""
    with ClipStoreWriter(path, source="test", height=8, width=8) as writer:
        for episode, length in enumerate((30, *held_out)):
            frames = np.zeros((length, 8, 8, 3), np.uint8)
            frames[..., 0] = episode
            frames[..., 1] = np.arange(length)[:, None, None]
            writer.append(frames, split="heldout" if episode else "train")
    return ClipStore.open(path)


def test_each_picture_is_of_another_episode_where_there_are_enough(tmp_path: Path) -> None:
    chosen = choose_prompts(store(tmp_path, *[20] * 16, 5))
    assert chosen == [(episode, 12) for episode in range(1, 17, 2)]


def test_one_episode_gives_several_frames_spread_evenly(tmp_path: Path) -> None:
    assert choose_prompts(store(tmp_path, 52)) == [(1, frame) for frame in range(12, 52, 5)]


def test_two_episodes_share(tmp_path: Path) -> None:
    assert choose_prompts(store(tmp_path, 52, 14), count=4) == [(1, 12), (1, 32), (2, 12), (2, 13)]


def test_short_episodes_give_what_they_have(tmp_path: Path) -> None:
    assert choose_prompts(store(tmp_path / "a", 3)) == [(1, 0), (1, 1), (1, 2)]
    assert choose_prompts(store(tmp_path / "b", 1)) == [(1, 0)]
    few = choose_prompts(store(tmp_path / "c", 1, 6))
    assert few == [(1, 0), *((2, frame) for frame in range(6))]


def test_all_frames_can_be_had(tmp_path: Path) -> None:
    kept = store(tmp_path, 9, 30, 2)
    everything = [
        (episode, frame) for episode, length in ((1, 9), (2, 30), (3, 2)) for frame in range(length)
    ]
    assert choose_prompts(kept, count=41) == everything
    for count in range(1, 42):
        chosen = choose_prompts(kept, count=count)
        assert len(set(chosen)) == count and set(chosen) <= set(everything)


def test_a_frame_that_is_asked_for_is_where_all_begin(tmp_path: Path) -> None:
    kept = store(tmp_path, 20, 4, 20)
    assert choose_prompts(kept, count=2, frame=4) == [(1, 4), (3, 4)]
    assert choose_prompts(kept, count=4, frame=4) == [(1, 4), (1, 12), (3, 4), (3, 12)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"count": 25}, r"^--count: expected 1 to 24, the held-out frames of .*; found 25$"),
        ({"count": 0}, r"^--count: expected 1 to 24,"),
        ({"count": 17, "frame": 4}, r"^--count: expected 1 to 16, .* from --frame 4 of .*; found 17$"),
        ({"frame": 20}, r"^--frame: expected 0 to 19, .*; found 20$"),
        ({"frame": -1}, r"^--frame: expected 0 to 19, .*; found -1$"),
    ],
)
def test_too_much_names_the_flag(tmp_path: Path, arguments: dict[str, int], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        choose_prompts(store(tmp_path, 20, 4), **arguments)


def test_a_store_without_held_out_frames_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected held-out frames, found none"):
        choose_prompts(store(tmp_path))


def test_the_command_writes_the_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "store", 14)
    args = [str(tmp_path / "store"), "--out", str(tmp_path / "out"), "--count", "2"]
    tyro.cli(PromptsCommand, args=args).run()
    said, following = capsys.readouterr().out.splitlines()
    assert said == f"2 images in {tmp_path / 'out'}"
    assert following == f"next: genie-rt export RUN --out my-world --prompt {tmp_path / 'out'}/*.png"
    pixels = [np.asarray(Image.open(tmp_path / "out" / f"prompt-{n}.png"))[0, 0].tolist() for n in (0, 1)]
    assert pixels == [[1, 12, 0], [1, 13, 0]]
