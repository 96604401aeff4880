"""Files of a bundle: any that is not what bundle.json says is refused, and what was read is what is used."""

import os
from pathlib import Path

import pytest
from PIL import Image
from tiny_bundle import HEIGHT, SHAPES, WIDTH, refuse

from genie_rt.errors import BundleError
from genie_rt.runtime.bundle import load_weights, open_bundle, read_file, read_prompt

FILES = ("bundle.json", "weights.safetensors", "README.md", "prompts/000.png", "prompts/001.png")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refuse(folder, name, "found nothing")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    refuse(folder, name)


@pytest.mark.parametrize("name", FILES[1:])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_flipped_bit(folder: Path, name: str, where: float) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    (folder / name).write_bytes(data)
    refuse(folder, name, "sha256")


def test_a_longer_file(folder: Path) -> None:
    with (folder / "weights.safetensors").open("ab") as file:
        file.write(b"\0")
    size = (folder / "weights.safetensors").stat().st_size
    refuse(folder, "weights.safetensors", f"expected {size - 1} bytes, found {size}")


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    refuse(folder, "README.md", "regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_refused_rather_than_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refuse(folder, name, "regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", FILES)
def test_a_link_to_what_is_no_file_is_refused(folder: Path, name: str) -> None:
    for target, found in (("/dev/zero", "a device"), (folder.parent / "pipe", "a named pipe")):
        if not isinstance(target, str):
            os.mkfifo(target)
        (folder / name).unlink()
        (folder / name).symlink_to(target)
        refuse(folder, name, found)


def test_a_bundle_in_the_cache_of_a_hub_is_read_through_its_links(folder: Path, tmp_path: Path) -> None:
    """`snapshots/REVISION/NAME -> ../../blobs/HASH`, as huggingface_hub lays it out."""
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0123"
    (snapshot / "prompts").mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(FILES):
        (folder / name).rename(blobs / f"{number}")
        (snapshot / name).symlink_to(Path(*[".."] * (name.count("/") + 2), "blobs", f"{number}"))
    bundle = open_bundle(snapshot)
    assert load_weights(bundle, SHAPES).keys() == SHAPES.keys()
    assert read_prompt(bundle, 0).shape == (HEIGHT, WIDTH, 3)
    with (blobs / "1").open("r+b") as file:  # what is hashed is what the link leads to
        file.write(b"!")
    refuse(snapshot, "weights.safetensors", "sha256")


def test_a_linked_folder_of_prompts_is_fine(folder: Path) -> None:
    (folder / "prompts").rename(folder.parent / "outside")
    (folder / "prompts").symlink_to(folder.parent / "outside")
    assert len(open_bundle(folder).prompts) == 2


def test_a_link_within_the_bundle_is_fine(folder: Path) -> None:
    (folder / "README.md").rename(folder / "CARD")
    (folder / "README.md").symlink_to("CARD")
    open_bundle(folder)


def test_a_loop_of_links(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("README.md")
    refuse(folder, "README.md")


@pytest.mark.parametrize("name", ["more.safetensors", "pass.onnx", "prompts/999.png"])
def test_an_unlisted_file_that_somebody_could_read(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    refuse(folder, name, "found none")


@pytest.mark.parametrize("name", [".DS_Store", "notes.txt", "prompts/.DS_Store", "prompts/Thumbs.db"])
def test_other_unlisted_files_are_ignored(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    open_bundle(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "README.md"])
def test_a_file_that_changed_since_the_bundle_was_opened_is_not_read(folder: Path, name: str) -> None:
    bundle, path = open_bundle(folder), folder / name
    data = path.read_bytes()
    assert read_file(bundle, name).tobytes() == data
    path.rename(folder / "moved")
    with pytest.raises(BundleError, match=f"{name}: changed since it was opened; load the bundle again"):
        read_file(bundle, name)
    path.write_bytes(data)  # the same bytes in another file
    assert read_file(bundle, name).tobytes() == data
    for changed in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=f"{name}: changed since"):
            read_file(bundle, name)


def test_weights_that_were_changed_in_place_are_noticed_whatever_their_dates_say(folder: Path) -> None:
    path = folder / "weights.safetensors"
    bundle, status, data = open_bundle(folder), path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BundleError, match=r"weights\.safetensors: changed since"):
        load_weights(bundle, SHAPES)


def test_weights_are_left_to_whoever_reads_them_next(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="sha256"):
        open_bundle(folder)
    bundle = open_bundle(folder, hash_weights=False)
    with pytest.raises(BundleError, match="sha256"):
        load_weights(bundle, SHAPES)


def test_writing_over_weights_that_were_read_changes_nothing(folder: Path) -> None:
    """As `cp` does it, which a map of the file would show, or die of."""
    weights = load_weights(open_bundle(folder), SHAPES)
    before = {name: weight.clone() for name, weight in weights.items()}
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(0)
        file.write(b"something else")
    assert all(bool((weights[name] == before[name]).all()) for name in weights)


def test_a_prompt_that_changed_is_not_played(folder: Path) -> None:
    bundle = open_bundle(folder)
    picture = read_prompt(bundle, 1)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    Image.fromarray(255 - picture).save(folder / "prompts/001.png")
    with pytest.raises(BundleError, match=r"001\.png: changed since"):
        read_prompt(bundle, 1)
