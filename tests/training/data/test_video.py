"""Importing videos: rate, size, cuts and stills; broken files are named and the rest goes on."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_rt.errors import BundleError, InputError, StateError
from genie_rt.training.data.commands import VideoCommand
from genie_rt.training.data.store import SPLITS, ClipStore, Frames, Split

pytest.importorskip("av", reason='needs PyAV: pip install -e ".[train]"')

import av

from genie_rt.training.data import video_source, writer
from genie_rt.training.data.video import VideoOptions, import_videos


def moving(num: int, height: int = 48, width: int = 64, level: int = 0) -> Frames:
    """A bright square that walks over a flat background, [T, H, W, 3]."""
    frames = np.full((num, height, width, 3), level, dtype=np.uint8)
    for t in range(num):
        left = (2 * t) % (width - 16)
        frames[t, 12:32, left : left + 16] = (250, 200, 40)
    return frames


def write(path: Path, frames: Frames, *, rate: int = 20, faststart: bool = True) -> Path:
    options = {"movflags": "+faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.bit_rate = 4_000_000
        stream.gop_size = 5
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


SMALL = VideoOptions(height=24, width=24, min_frames=8)


def test_a_video_whose_codec_nobody_knows_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", moving(20))
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"$dinf", b"\xff\xff\xff\xfff"))
    assert file.read_bytes() != whole
    with pytest.raises(InputError, match=r"a\.mp4: skipped: its codec is none that ffmpeg knows"):
        import_videos([file], tmp_path / "out", options=SMALL)
    assert not (tmp_path / "out").exists()


def test_whatever_a_decoder_raises_is_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV has no list of it; it raises IndexError where another stream begins late."""
    file = write(tmp_path / "a.mp4", moving(20))

    def decode(*arguments: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(video_source.VideoSource, "_decode", decode)
    with pytest.raises(InputError, match=r"a\.mp4: skipped: cannot be decoded: list index out of range"):
        import_videos([file], tmp_path / "out", options=SMALL)


def test_a_video_is_resampled_shrunk_and_cropped(tmp_path: Path) -> None:
    frames = moving(80)
    frames[:, :, :8] = (0, 0, 255)
    file = write(tmp_path / "a.mp4", frames, rate=20)
    report = import_videos([file], tmp_path / "out", options=SMALL)
    store = report.store
    assert (store.height, store.width, store.source, store.action_names) == (24, 24, "video", ())
    # 80 frames at 20 Hz are 40 at 10 Hz; the only scene is parted so that both splits have some.
    assert [(e.length, e.split) for e in store.episodes] == [(32, "train"), (8, "heldout")]
    assert report.problems == () and report.results[0].num_frames == 40
    stored = np.concatenate([store.episode_frames(i) for i in range(2)])
    assert (store.episode_actions(0) == -1).all()
    # 64x48 shrinks to 32x24; the centre 24 columns are source columns 8 to 55.
    expected = frames[::2].reshape(40, 24, 2, 32, 2, 3).mean(axis=(2, 4))[:, :, 4:28]
    assert np.abs(stored.astype(float) - expected).mean() < 6
    assert store.clips(length=8).sample(2, seed=0, step=0)[0].shape == (2, 8, 24, 24, 3)


def test_a_slow_video_repeats_frames(tmp_path: Path) -> None:
    file = write(tmp_path / "slow.mp4", moving(40), rate=5)
    report = import_videos([file], tmp_path / "out", options=SMALL)
    assert 76 <= report.store.num_frames <= 80


def test_scenes_end_at_cuts_and_stills_are_dropped(tmp_path: Path) -> None:
    still = np.repeat(moving(1, level=200), 40, axis=0)
    file = write(tmp_path / "cuts.mp4", np.concatenate([moving(40), still, moving(60, level=100)]), rate=20)
    store = import_videos([file], tmp_path / "out", options=SMALL).store
    assert store.num_frames == 50
    # of one scene the end is held out: which one, their pixels decide
    assert [e.length for e in store.episodes] in ([12, 8, 30], [20, 22, 8])
    assert {e.length: e.split for e in store.episodes}[8] == "heldout"
    frames = np.concatenate([store.episode_frames(index) for index in range(3)])
    assert frames[:20, -1, -1].mean() < 30
    assert 80 < frames[20:, -1, -1].mean() < 120


def test_a_long_scene_is_cut_in_pieces_and_its_end_is_held_out(tmp_path: Path) -> None:
    file = write(tmp_path / "long.mp4", moving(640), rate=10)
    options = VideoOptions(height=24, width=24, min_frames=8, max_frames=100)
    store = import_videos([file], tmp_path / "out", options=options).store
    assert [(e.length, e.split) for e in store.episodes] == [
        *[(100, "train")] * 5,
        (76, "train"),
        (24, "heldout"),
        (40, "heldout"),
    ]
    assert [e.start for e in store.episodes] == [0, 100, 200, 300, 400, 500, 576, 600]


def test_broken_files_are_named_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.mp4", moving(80))
    text = tmp_path / "text [1].mp4"
    text.write_text("this is not a video\n" * 100)
    headless = write(tmp_path / "headless.mp4", moving(80), faststart=False)
    headless.write_bytes(headless.read_bytes()[: headless.stat().st_size // 2])
    empty = tmp_path / "empty.mp4"
    empty.touch()
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{good}\n")
    files = [text, headless, good, empty, tmp_path / "none.mp4", tmp_path / ("x" * 300 + ".mp4"), playlist]
    report = import_videos(files, tmp_path / "out", options=SMALL)
    assert {result.file for result in report.problems} == set(files) - {good}
    assert report.store.num_frames == 40
    told = capsys.readouterr().err
    for file in set(files) - {good}:
        assert f"{file}: skipped: " in told


def test_a_truncated_video_keeps_what_came_before_the_break(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", moving(200))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    report = import_videos([broken], tmp_path / "out", options=SMALL)
    (result,) = report.problems
    assert 20 <= result.num_frames < 90
    assert result.problem is not None and str(result).startswith(f"{broken}: kept ")
    reference = import_videos([whole], tmp_path / "reference", options=SMALL).store
    kept = report.store.episode_frames(0)
    np.testing.assert_array_equal(kept, reference.episode_frames(0)[: len(kept)])


def test_noise_in_the_middle_never_ends_the_run(tmp_path: Path) -> None:
    good = write(tmp_path / "good.mp4", moving(80))
    data = bytearray(write(tmp_path / "noise.mp4", moving(200)).read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 3000)
    data[middle] = np.random.default_rng(0).integers(0, 256, len(data[middle]), dtype=np.uint8).tobytes()
    (tmp_path / "noise.mp4").write_bytes(data)
    report = import_videos([tmp_path / "noise.mp4", good], tmp_path / "out", options=SMALL)
    assert report.results[1].problem is None


def test_limits_are_kept(tmp_path: Path) -> None:
    good = write(tmp_path / "good.mp4", moving(200))
    flat = write(tmp_path / "flat.mp4", moving(40, height=32, width=512))
    options = VideoOptions(height=24, width=24, min_frames=8, max_pixels=10_000, max_seconds=4)
    report = import_videos([good, flat], tmp_path / "out", options=options)
    assert report.results[0].num_frames == 41
    assert "longer than --max-seconds 4" in (report.results[0].problem or "")
    assert "at most 10000 pixels" in (report.results[1].problem or "")
    with pytest.raises(InputError, match="8:1"):
        import_videos([flat], tmp_path / "other", options=SMALL)


def test_all_bad_is_an_error_and_leaves_no_store(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    still = write(tmp_path / "still.mp4", np.repeat(moving(1), 60, axis=0))
    with pytest.raises(InputError, match=r"(?s)text\.mp4: skipped.*still\.mp4: skipped: no moving scene"):
        import_videos([text, still], tmp_path / "out", options=SMALL)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="at least one video"):
        import_videos([], tmp_path / "out")
    with pytest.raises(InputError, match="no video could be imported"):
        import_videos([text], tmp_path / "deep" / "out")
    assert not (tmp_path / "deep").exists()


def test_an_existing_store_is_refused_before_decoding(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", moving(80))
    import_videos([file], tmp_path / "out", options=SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match="holds a clip store already"):
        import_videos([tmp_path / "none.mp4"], tmp_path / "out", options=SMALL)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def splits(store: ClipStore) -> dict[str, list[Split]]:
    """The splits of each scene, by what it shows."""
    found: dict[str, list[Split]] = {}
    for index, episode in enumerate(store.episodes):
        shown = hashlib.sha256(store.episode_frames(index).tobytes()).hexdigest()
        found.setdefault(shown, []).append(episode.split)
    return found


def test_neither_names_nor_order_choose_what_is_held_out(tmp_path: Path) -> None:
    """Each folder has a file of the same name, as recorders make them."""
    files = []
    for number in range(20):
        (tmp_path / f"take {number}").mkdir()
        files.append(write(tmp_path / f"take {number}" / "gameplay.mp4", moving(40, level=8 * number)))
    store = import_videos(files, tmp_path / "a", options=SMALL).store
    lengths = {split: [e.length for e in store.episodes if e.split == split] for split in SPLITS}
    assert lengths == {"train": [20] * 18, "heldout": [20] * 2}
    renamed = [file.rename(tmp_path / f"{hash(file)}.mp4") for file in files[::-1]]
    again = import_videos(renamed, tmp_path / "b", options=SMALL).store
    assert splits(again) == splits(store)


def test_scenes_that_look_the_same_are_in_the_same_split(tmp_path: Path) -> None:
    """Other files, of which the frames that are stored are the same."""
    files = [
        write(tmp_path / f"{number}.{kind}", moving(40, level=20 * number))
        for number in range(10)
        for kind in ("mp4", "mkv")
    ]
    store = import_videos(files, tmp_path / "out", options=SMALL).store
    assert len(store.episodes) == 20 and store.num_frames == 400
    found = splits(store)
    assert sorted(map(tuple, found.values())) == [("heldout", "heldout"), *[("train", "train")] * 9]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "No space left on device; .* can still be read; free some space and write the rest"),
        (errno.EIO, "Input/output error; .* can still be read; write the rest to another folder$"),
    ],
)
def test_a_disk_that_fails_keeps_both_splits_of_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    write_all, room = writer._write_all, 90_000

    def failing(file: Any, data: memoryview) -> None:
        nonlocal room
        room -= len(data)
        if room < 0:
            raise OSError(number, os.strerror(number))
        write_all(file, data)

    monkeypatch.setattr(writer, "_write_all", failing)
    monkeypatch.setattr(writer.ClipStoreWriter.__init__, "__kwdefaults__", SMALL_SHARDS)
    file = write(tmp_path / "a.mp4", moving(200))
    options = VideoOptions(height=24, width=24, min_frames=8, max_frames=20)
    with pytest.raises(BundleError, match=expected):
        import_videos([file], tmp_path / "out", options=options)
    store = ClipStore.open(tmp_path / "out")
    assert [(e.length, e.split) for e in store.episodes] == [(20, "train"), (12, "train"), (8, "heldout")]


SMALL_SHARDS = {**(writer.ClipStoreWriter.__init__.__kwdefaults__ or {}), "shard_bytes": 1}


def test_a_second_import_into_the_same_folder_is_refused_at_once(tmp_path: Path) -> None:
    """Before anything is decoded: the file does not even exist."""
    with writer.store_lock(tmp_path / "out"):
        with pytest.raises(
            StateError, match=rf"out: expected no other process .* found process {os.getpid()}"
        ):
            import_videos([tmp_path / "none.mp4"], tmp_path / "out", options=SMALL)
        assert (tmp_path / "out" / ".lock").exists()


def test_the_lock_is_held_from_the_start_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.mp4", moving(80))
    refused = []
    frames = video_source.VideoSource.frames

    def watched(self: Any) -> Any:
        with pytest.raises(StateError):
            import_videos([file], tmp_path / "out", options=SMALL)
        refused.append(True)
        yield from frames(self)
        with pytest.raises(StateError):
            import_videos([file], tmp_path / "out", options=SMALL)
        refused.append(True)

    monkeypatch.setattr(video_source.VideoSource, "frames", watched)
    import_videos([file], tmp_path / "out", options=SMALL)
    assert refused == [True, True]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "actions-00000.i16",
        "frames-00000.u8",
        "store.json",
    ]


def test_a_place_that_cannot_be_written_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(BundleError, match="expected a folder to write to, found: "):
            import_videos([tmp_path / "none.mp4"], out, options=SMALL)
    command = VideoCommand(files=(tmp_path / "none.mp4",), out=tmp_path / "file")
    with pytest.raises(InputError, match=r"^--out: expected a folder"):
        command.run()


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 5000},
        {"fps": 0},
        {"fps": float("nan")},
        {"min_frames": 1},
        {"max_frames": 10},
        {"max_seconds": 0},
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        VideoOptions(**change)  # type: ignore[arg-type]
