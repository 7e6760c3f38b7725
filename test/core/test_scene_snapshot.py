from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, FileError, InvalidScene
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.scene.file import snapshot
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_testing.exact import exact_scene, exact_world
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def scene():
    truth = construct_scene(views=3, width=96, height=72)
    world = exact_world(truth)
    for points, confidence in zip(world.points, world.confidence, strict=True):
        points[:, :20] = np.nan
        confidence[:, :20] = 0
        confidence[:, 40:] *= np.float32(1.1)
    return exact_scene(truth, world, warnings=("a pair was left out",))


@pytest.fixture
def saved(scene, tmp_path):
    path = tmp_path / "scene.ws3d"
    save_scene(scene, path)
    return path


ROUNDED = ("points", "confidence")
"""What is stored with fewer bits: relative to distances of 1 to 4 m, and to themselves."""


def assert_same(a, b, where="scene"):
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b), where
        for f in dataclasses.fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        if any(f".{name}" in where for name in ROUNDED):
            assert np.array_equal(np.isnan(a), np.isnan(b)), where
            np.testing.assert_allclose(a, b, rtol=1e-3 * ("conf" in where), atol=5e-6)
        else:
            np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert type(a) is type(b), where
        assert a == b or (a != a and b != b), where  # NaN


def test_load_scene_gives_back_what_was_saved(scene, saved):
    again = load_scene(saved)
    assert_same(scene, again)
    with pytest.raises(ValueError, match="read-only"):
        again.index.points[0] = 0


def test_load_scene_answers_alike(scene, saved):
    v, u = np.argwhere(scene.labels[1] == scene.object_ids[0])[0]
    prompt = Prompt((Click(scene.view_names[1], u, v),))
    before, after = answer(scene, prompt), answer(load_scene(saved), prompt)
    np.testing.assert_allclose(before.points, after.points, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(before.colors, after.colors)


def test_points_beside_their_pixels_rays_come_back_exactly(scene, tmp_path):
    """As a network that compares pairs gives them: no depth says where they are."""
    truth = construct_scene(views=3, width=96, height=72)
    world = exact_world(truth)
    for points in world.points:
        points += np.random.default_rng(1).normal(0, 1e-3, points.shape).astype(np.float32)
    aside = exact_scene(truth, world)
    save_scene(aside, tmp_path / "aside.ws3d")
    again = load_scene(tmp_path / "aside.ws3d")
    for view, points in enumerate(aside.world.points):
        np.testing.assert_array_equal(points, again.world.points[view])
    np.testing.assert_array_equal(aside.index.points, again.index.points)


def test_what_follows_from_the_rest_is_not_in_the_file(scene, saved):
    """Of a pixel's point the depth, of the index which pixels are in it."""
    points = sum(int(np.isfinite(p[..., 0]).sum()) for p in scene.world.points)
    with zipfile.ZipFile(saved) as archive:
        sizes = {i.filename: i.file_size for i in archive.infolist()}
    held = sum(size for name, size in sizes.items() if name.startswith("points/"))
    assert 4 * points < held < 4.5 * points
    index = sum(size for name, size in sizes.items() if name.startswith("index/"))
    assert index < 1.1 * sum(labels.size for labels in scene.labels)


def test_a_scene_whose_index_is_not_of_its_points_is_not_written(scene, tmp_path):
    moved = dataclasses.replace(scene.index, points=scene.index.points + np.float32(0.01))
    with pytest.raises(InvalidScene, match="points of view 0 in the index"):
        save_scene(dataclasses.replace(scene, index=moved), tmp_path / "moved.ws3d")


def test_save_scene_makes_folders_and_leaves_no_draft(scene, tmp_path):
    path = tmp_path / "a" / "b" / "scene.ws3d"
    save_scene(scene, path)
    save_scene(scene, path)
    assert [p.name for p in path.parent.iterdir()] == ["scene.ws3d"]


def test_save_scene_that_fails_leaves_the_old_file(scene, saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "_write", full)
    with pytest.raises(FileError, match="No space left"):
        save_scene(scene, saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_save_scene_where_a_file_is_in_the_way_is_an_error(scene, saved):
    with pytest.raises(FileError, match="cannot write"):
        save_scene(scene, saved / "inside.ws3d")


def test_save_scene_never_replaces_what_is_no_file(scene, tmp_path):
    """Whoever runs as root and saves to /dev/null must find it again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(FileError, match="it is there and no file"):
            save_scene(scene, path)
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [pipe]


def test_load_scene_of_what_is_not_there(tmp_path):
    with pytest.raises(FileError, match="cannot read scene") as caught:
        load_scene(tmp_path / "none.ws3d")
    assert caught.value.code == ErrorCode.BAD_FILE


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_load_scene_truncated_file_is_a_clear_error(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FileError, match="truncated, damaged, or not a saved scene"):
        load_scene(saved)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9])
def test_load_scene_notices_a_flipped_byte_in_a_member(saved, share):
    data = bytearray(saved.read_bytes())
    # Into the plain data of a member: deflated zeros may well survive a flip unchanged.
    with zipfile.ZipFile(saved) as archive:
        plain = [i for i in archive.infolist() if i.compress_type == zipfile.ZIP_STORED]
        inside = [i for i in plain if i.file_size > 250]
    member = inside[int(share * len(inside))]
    data[member.header_offset + 30 + len(member.filename) + 150] ^= 0xFF
    saved.write_bytes(data)
    with pytest.raises(FileError, match="damaged"):
        load_scene(saved)


def test_load_scene_tells_foreign_files(tmp_path):
    text = tmp_path / "text.ws3d"
    text.write_text("no scene at all")
    with pytest.raises(FileError, match="not a saved scene.*give a file that `wildseg3d build`"):
        load_scene(text)
    for name, members, says in [
        ("pairs.npz", ["edges.npy", "K.npy"], "is a NumPy file of arrays.* but not a saved scene"),
        ("weights.pt", ["w/data.pkl", "w/data/0"], "is a file of PyTorch.* but not a saved scene"),
        ("other.zip", ["readme.txt"], "is a zip file but not a saved scene"),
        ("empty.zip", [], "is a zip file but not a saved scene"),
    ]:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, b"abc")
        with pytest.raises(FileError, match=f"{says}.*give a file that `wildseg3d build`"):
            load_scene(tmp_path / name)
    with pytest.raises(FileError, match="cannot read scene"):
        load_scene(tmp_path)


def rewrite(path, change, skip=()):
    """The archive with another header, and without some members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["wildseg3d-scene.json"])
    change(header)
    members["wildseg3d-scene.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if name not in skip:
                archive.writestr(name, data)


def test_load_scene_of_a_newer_format_says_update(saved):
    rewrite(saved, lambda h: h.update(version=99, written_by="7.0"))
    with pytest.raises(
        FileError, match=r"format 99 \(written by wildseg3d 7.0\).*update wildseg3d"
    ):
        load_scene(saved)


def test_load_scene_of_an_unknown_format_says_build_again(saved):
    rewrite(saved, lambda h: h.update(version=0))
    with pytest.raises(FileError, match="build it again"):
        load_scene(saved)
    rewrite(saved, lambda h: h.update(format="something else"))
    with pytest.raises(FileError, match="does not say 'wildseg3d-scene'"):
        load_scene(saved)


def test_load_scene_missing_part_is_damage(saved):
    rewrite(saved, lambda h: None, skip=("labels/0/1.npy",))
    with pytest.raises(FileError, match=r"damaged.*labels/0/1.npy"):
        load_scene(saved)


def test_load_scene_missing_value_is_damage(saved):
    rewrite(saved, lambda h: h["scene"].pop("stamp_ns"))
    with pytest.raises(FileError, match=r"damaged.*stamp_ns"):
        load_scene(saved)


def test_load_scene_refuses_pickled_arrays(saved):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"evil": 1}], dtype=object), allow_pickle=True)
    rewrite(saved, lambda h: None, skip=("K.npy",))
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("K.npy", buffer.getvalue())
    with pytest.raises(FileError, match="damaged"):
        load_scene(saved)
