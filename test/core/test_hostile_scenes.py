"""Scene files in which something is wrong: each is refused, with one error that names it."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import time
import zipfile

import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, FileError, InvalidScene
from wildseg3d_ros.core.types import MaskCache
from wildseg3d_ros.masks.cache import describe_objects
from wildseg3d_ros.scene.file.consistency import check_scene
from wildseg3d_ros.scene.file.mask_checks import check_masks
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.exact import exact_cache, exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

HEADER = "wildseg3d-scene.json"


@pytest.fixture(scope="module")
def scene():
    """Three views, a part of an object, an embedding per view, a mask that one view misses."""
    truth = construct_scene(views=3, width=96, height=72)
    exact = exact_cache(truth)
    first = exact.object_ids[0]
    half = [(m == first) & (np.arange(96) < np.median(np.nonzero(m == first)[1])) for m in
            exact.labels]  # fmt: skip
    half[2][:] = False
    parts = tuple(np.where(mask, 50, 0).astype(np.int32) for mask in half)
    maps = [exact.labels, parts]
    soft = {
        (m.view, each.object_id): np.full(
            (m.box[3] - m.box[1] + 1, m.box[2] - m.box[0] + 1), 200, np.uint8
        )
        for each in describe_objects(maps, exact.scores)
        for m in each.masks
    }
    records = describe_objects(maps, exact.scores, soft=soft, unmasked={50: (2,)})
    embeddings = tuple((np.ones((16, 1, 8), np.float16),) for _ in range(3))
    masks = MaskCache(exact.labels, exact.scores, exact.object_ids, (parts,), records, embeddings)
    return exact_scene(truth, cache=masks)


@pytest.fixture(scope="module")
def saved(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "scene.ws3d"
    save_scene(scene, path)
    return path


def changed(saved, folder, change):
    """The file after ``change(header, members)``, in which arrays are arrays."""
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members.pop(HEADER))
    for name in members:
        if name.endswith(".npy"):
            members[name] = np.load(io.BytesIO(members[name]))
    change(header, members)
    path = folder / "hostile.ws3d"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(HEADER, json.dumps(header))
        for name, data in members.items():
            if isinstance(data, np.ndarray):
                buffer = io.BytesIO()
                np.save(buffer, data)
                data = buffer.getvalue()
            archive.writestr(name, data)
    return path


def put(name, where, value):
    def change(_, members):
        members[f"{name}.npy"][where] = value

    return change


def number(name, where, value):
    """Of numbers that are stored by bytes: one of them."""

    def change(_, members):
        members[f"{name}.npy"][:, where] = np.frombuffer(np.float32(value).tobytes(), np.uint8)

    return change


def become(name, make):
    def change(_, members):
        members[f"{name}.npy"] = make(members[f"{name}.npy"])

    return change


def say(group, name, value):
    return lambda header, _: header[group].__setitem__(name, value)


def of_object(which, name, value):
    return lambda header, _: header["masks"]["objects"][which].__setitem__(name, value)


def of_mask(which, entry, value):
    def change(header, _):
        header["masks"]["objects"][which]["masks"][0][entry] = value

    return change


def too_large(name):
    """An array that says that it is larger than any machine."""

    def change(_, members):
        buffer = io.BytesIO()
        dtype = np.dtype(members[f"{name}.npy"].dtype).str
        claim = {"descr": dtype, "fortran_order": False, "shape": (1 << 20, 1 << 30)}
        np.lib.format.write_array_header_1_0(buffer, claim)
        members[f"{name}.npy"] = buffer.getvalue() + bytes(64)

    return change


def pickled(_, members):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"evil": 1}], dtype=object), allow_pickle=True)
    members["K.npy"] = buffer.getvalue()


def not_rigid(poses):
    poses[1, :3, :3] *= 1.1
    return poses


HOSTILE = {
    # ---- label maps
    "a label map of another size": (
        become("labels/0/1", lambda m: m[:-1].copy()), r"label map of view 1.*\(72, 96\).*71"),
    "a label map of another type": (
        become("labels/0/1", lambda m: m.astype(np.int64)), r"labels/0/1.npy.*int32.*int64"),
    "a label map of other dimensions": (
        become("labels/0/1", lambda m: m[None].copy()), r"labels/0/1.npy.*2 dimension"),
    "an id that nobody knows": (
        put("labels/0/1", (3, 4), 777), r"label map of wholes in view 1.*recorded.*777 on 1 pix"),
    "a negative id": (put("labels/1/0", (3, 4), -1), r"label map of parts in view 0.*got -1 on 1"),
    "no label map": (lambda h, _: h["masks"].update(levels=0), "at least one"),
    "more levels than there are": (
        lambda h, _: h["masks"].update(levels=7), r"labels/2/0.npy.*missing"),
    "fewer views of masks": (
        lambda h, _: h["masks"].update(views=2), "label maps by view: expected 3 entries, got 2"),
    "one more view": (lambda h, _: h["masks"].update(views=4), r"labels/0/3.npy.*missing"),
    # ---- records
    "an object twice": (of_object(-1, "id", 1), "ids of objects: expected each once.*1 after"),
    "an id that is no number": (of_object(0, "id", "one"), "id of the record.*int, got one"),
    "an id beyond int32": (of_object(-1, "id", 2**40), "id of an object.*1099511627776"),
    "a level of another name": (of_object(0, "level", "pile"), "level of object.*whole.*pile"),
    "a parent that is not there": (of_object(-1, "parent", 99), "parent of object 50.*got 99"),
    "a whole that is part of its part": (of_object(0, "parent", 50), "parent of object.*got 50"),
    "an object within itself": (of_object(-1, "parent", 50), "parent of object 50.*got 50"),
    "a record of what no map shows": (
        lambda h, _: h["masks"]["objects"].append(
            {"id": 60, "level": "part", "parent": 0, "unmasked": [], "nodes": [],
             "score": 0.5, "ambiguity": 0.5,
             "masks": [[0, 9, 1, 1, 3, 3, 0.5, False]]}),
        r"views with a mask of object 60: expected \[\], got \[0\]"),
    "an object without a record": (
        lambda h, _: h["masks"]["objects"].pop(), "soft.npy|recorded objects.*got 50"),
    "a mask of a view that is not there": (of_mask(0, 0, 9), "view of object.*0 to 2, got 9"),
    "an area that the map does not have": (of_mask(0, 1, 4), "area of the mask.*pixels.*got 4"),
    "a box outside its image": (of_mask(0, 4, 96), "box of|soft.npy"),
    "a box before its first pixel": (of_mask(0, 4, -1), "box of the mask of object 1.*got -1"),
    "a quality above one": (of_mask(0, 6, 1.5), "score of the mask.*0 to 1.*1.5"),
    "a mask with a value too few": (
        lambda h, _: h["masks"]["objects"][0]["masks"][0].pop(), "mask of object 1: .*corners"),
    "a mask that is a number": (
        lambda h, _: h["masks"]["objects"][0]["masks"].append(3), "mask of object 1: .*got 3"),
    "a record without a level": (
        lambda h, _: h["masks"]["objects"][0].pop("level"), "record of an object.*level"),
    "a quality that is a text": (of_mask(0, 6, "good"), "score of the mask.*got good"),
    "a quality that is no number": (of_mask(0, 6, float("nan")), "score of the mask.*nan"),
    "unmasked in a view that is not there": (
        of_object(-1, "unmasked", [5]), "views without a mask of object 50.*got 5"),
    "unmasked where it has a mask": (
        of_object(-1, "unmasked", [0]), "views without a mask of object 50"),
    "ids of wholes that are no list": (
        say("masks", "object_ids", 3), "object_ids of the masks.*list, got 3"),
    "ids of wholes out of order": (
        lambda h, _: h["masks"]["object_ids"].reverse(), "ids of whole objects.*sorted"),
    "an id of a whole left out": (
        lambda h, _: h["masks"]["object_ids"].pop(), "ids of whole objects.*among them"),
    "a next id that is no number": (say("masks", "next_id", "9"), "next_id of the masks.*int"),
    "a next id beyond int32": (say("masks", "next_id", 2**40), "next_id"),
    "no next id": (lambda h, _: h["masks"].pop("next_id"), "masks in the header.*next_id"),
    "no records at all": (say("masks", "objects", None), "objects of the masks.*list, got None"),
    "soft scores cut off": (become("soft", lambda s: s[:-1]), "soft.npy: expected .* pixels"),
    "soft scores left over": (
        become("soft", lambda s: np.append(s, s[:1])), "soft.npy: expected .* pixels"),
    # ---- scores and embeddings
    "a soft score above one": (put("scores/2", (0, 0), 1.5), "soft scores of view 2.*1.5"),
    "a soft score that is no number": (put("scores/2", (0, 0), np.nan), "view 2.*such as nan"),
    "soft scores of another size": (
        become("scores/2", lambda s: s[:, 1:].copy()), r"soft scores of view 2.*\(72, 95\)"),
    "an embedding that is not finite": (
        put("embedding/1/0", (0, 0, 0), np.inf), "embedding of view 1, level 0.*finite"),
    "an embedding of another type": (
        become("embedding/1/0", lambda e: e.astype(np.float64)), "embedding/1/0.npy.*float16"),
    "a fingerprint that is no text": (say("masks", "encoder", 7), "encoder of the.*str, got 7"),
    "an origin that is no text": (
        say("masks", "origin", {"backend": "sam2", "weights": 3}), "weights of the.*str, got 3"),
    "an origin of another kind": (say("masks", "origin", "sam2"), "origin of the masks.*got sam2"),
    "embeddings of some views": (
        lambda h, _: h["masks"]["embeddings"].pop(), "embeddings: expected 3 or none"),
    # ---- points, cameras, index
    "points of another size": (
        become("points/1/depth", lambda p: p[:, :-1].copy()), "points/1/depth.npy.*shape"),
    "points that are not finite": (
        number("points/1/depth", 7, np.inf), "points of view 1.*finite values, got"),
    "a negative confidence": (
        number("confidence/0/values", 7, -1), "confidence of view 0.*-1"),
    "a validity mask cut off": (
        become("points/1/filled", lambda f: f[:-1].copy()), "points/1/filled.npy.*863"),
    "an image that is none": (
        lambda _, m: m.update({"image/0.png": b"no picture"}), "image/0.png.*a PNG"),
    "an empty image": (lambda _, m: m.update({"image/0.png": b""}), "image/0.png.*a PNG"),
    "no image": (lambda _, m: m.pop("image/2.png"), "image/2.png.*missing"),
    "a pose that is not rigid": (
        become("world_from_cam", not_rigid), r"world_from_cam\[1\].*not a rotation"),
    "a pose that is not finite": (put("world_from_cam", (0, 0, 3), np.nan), "finite 4x4"),
    "poses of other views than the alignment's": (
        put("world_from_cam", (0, 0, 3), 9.0), "world_from_cam of the alignment"),
    "a focal length of zero": (put("K", (2, 0, 0), 0.0), "K of view 2.*positive focal"),
    "intrinsics of two views": (become("K", lambda k: k[:2].copy()), r"K: .*\(3, 3, 3\)"),
    "intrinsics that are not finite": (put("K", (0, 1, 2), np.nan), "K: expected finite"),
    "intrinsics of another last row": (put("K", (0, 2, 0), 1.0), "K of view 0.*last row"),
    "an index of other pixels": (
        become("index/1", lambda i: i[:-1].copy()), r"index/1.npy.*\(72, 96\).*71"),
    "an index of another type": (
        become("index/1", lambda i: i.astype(np.int64)), "index/1.npy.*uint8.*int64"),
    "an index of what has no point": (
        put("index/1", (0, 0), 1), "index/1.npy.*with a point and a leaf, got 1 without"),
    # ---- alignment
    "a pair of a view that is not there": (put("alignment/edges", (0, 1), 3), "edges.*0 to 2.*3"),
    "a scale of zero": (put("alignment/pair_scale", 0, 0.0), "pair_scale of the used pairs"),
    "a pair's pose that is not rigid": (
        put("alignment/world_from_pair", (0, 3, 0), 1.0), "world_from_pair.*bottom row"),
    "residuals of other views": (
        become("alignment/view_residual", lambda r: r[:-1].copy()), "view_residual.*(3)"),
    "true that is a text": (say("alignment", "converged", "yes"), "converged: .*true or false"),
    "a factor that is none": (say("alignment", "scale_factor", 0), "scale_factor"),
    # ---- header
    "two cameras of one name": (
        say("scene", "view_names", ["cam_0", "cam_1", "cam_1"]), "view_names: two cameras"),
    "a name that is no text": (
        say("scene", "view_names", ["cam_0", "cam_1", 2]), "name in view_names.*a text, got 2"),
    "names in one text": (say("scene", "view_names", "abc"), "view_names: expected a list"),
    "a frame that cannot be sent": (
        say("scene", "frame_id", "\ud800"), "frame_id.* has half of a character"),
    "a time beyond its range": (say("scene", "stamp_ns", 2**63), "stamp_ns"),
    "a time that is no number": (say("scene", "stamps_ns", [1, 2, "3"]), "time in stamps_ns"),
    "a radius below zero": (say("scene", "click_radius", -1), "click_radius.*got -1"),
    "seconds that are none": (say("scene", "seconds", {"masks": "x"}), "seconds of stage masks"),
    "a value too few": (lambda h, _: h["alignment"].pop("metric"), "alignment in the .*metric"),
    "no values at all": (lambda h, _: h.pop("scene"), "scene in the header: expected scene_id"),
    "values that are a list": (lambda h, _: h.update(scene=[1]), "scene in the header"),
    "no masks": (lambda h, _: h.pop("masks"), "masks in the header: .*got None"),
    # ---- what readers stumble over
    "an array larger than memory": (too_large("labels/0/0"), "labels/0/0.npy.*bytes"),
    "an array of Python's objects": (pickled, "K.npy.*float64.*got object"),
    "an array that is none": (lambda _, m: m.update({"K.npy": b"none"}), "damaged: ValueError"),
    "an array in Fortran's order": (
        become("scores/0", np.asfortranarray), "scores/0.npy"),
    "an array that is missing": (
        lambda _, m: m.pop("index/1.npy"), "index/1.npy.*uint8.*missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_load_scene_names_what_is_wrong_and_the_way_out(saved, tmp_path, name):
    change, says = HOSTILE[name]
    path = changed(saved, tmp_path, change)
    with pytest.raises(FileError, match=f"(?s){says}.*build it again") as error:
        load_scene(path)
    assert error.value.code == ErrorCode.BAD_FILE
    assert str(path) in str(error.value)


def deflated(saved, path, replaced):
    """The file with other members, which shrink a thousandfold."""
    with (
        zipfile.ZipFile(saved) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in archive.namelist():
            target.writestr(name, replaced.get(name, archive.read(name)))
    return path


def test_load_scene_refuses_what_would_fill_memory(saved, tmp_path):
    """Members of a thousand times their bytes, before one of them is inflated."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5000, 5000), np.int32))
    path = deflated(saved, tmp_path / "a", {"labels/0/1.npy": buffer.getvalue()})
    assert path.stat().st_size < 10**6
    with pytest.raises(FileError, match=r"\d+ members of 1\d\d MB in 0\.\d MB"):
        load_scene(path)


@pytest.mark.parametrize("side", [6000, 30_000])
def test_load_scene_refuses_an_image_bomb(saved, tmp_path, side):
    """An image whose header says more than a file of that size can have, before it is decoded."""
    head = struct.pack(">8sI4sIIBB", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", side, side, 8, 2)
    path = deflated(saved, tmp_path / "a", {"image/2.png": head + bytes(1000)})
    start = time.process_time()
    with pytest.raises(FileError, match=r"members of \d+ MB in 0\.\d MB"):
        load_scene(path)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("count", [10**6, 2**62])
@pytest.mark.parametrize("name", ["views", "levels"])
def test_load_scene_refuses_counts_at_once(saved, tmp_path, name, count):
    def change(header, _):
        header["masks"][name] = count

    start = time.process_time()
    with pytest.raises(FileError, match=r"views of masks|labels/.*missing"):
        load_scene(changed(saved, tmp_path, change))
    assert time.process_time() - start < 5


def test_load_scene_checks_many_large_boxes_in_time(tmp_path):
    """Thousands of objects of two pixels each in opposite corners: checked by their pixels."""
    size, count = (300, 400), 6000
    labels = np.zeros(size, np.int32)
    labels.ravel()[:count] = labels.ravel()[-count:] = np.arange(1, count + 1)
    assert labels[0, 0] == 1
    records = describe_objects([(labels,)], ((labels > 0).astype(np.float32),))
    cache = MaskCache(
        (labels,), ((labels > 0).astype(np.float32),), tuple(range(1, count + 1)), (), records
    )
    start = time.process_time()
    check_masks(cache)
    assert time.process_time() - start < 2  # by boxes: half a minute


def test_load_scene_takes_what_is_not_changed(scene, saved, tmp_path):
    again = load_scene(changed(saved, tmp_path, lambda *_: None))
    assert again.scene_id == scene.scene_id
    check_scene(again)


def of_node(name, where, value):
    return lambda tree: {name: _put(getattr(tree, name), where, value)}


def _put(array, where, value):
    changed = array.copy()
    changed[where] = value
    return changed


HOSTILE_TREES = {
    "a leaf beyond the last": (
        lambda tree: {"leaves": (_put(tree.leaves[0], (3, 4), tree.leaf_count), *tree.leaves[1:])},
        "leaves of view 0: .*from -1 to"),
    "a leaf below -1": (
        lambda t: {"leaves": (_put(t.leaves[0], (3, 4), -2), *t.leaves[1:])}, "view 0: .*-2"),
    "leaves of another size": (
        lambda t: {"leaves": (t.leaves[0][:-1], *t.leaves[1:])}, r"leaves of view 0.*\(72, 96\)"),
    "leaves of two views": (lambda t: {"leaves": t.leaves[:-1]}, "leaves: expected 3|missing"),
    "a pixel of an object that is none of its leaves": (
        lambda t: {"leaves": tuple(np.full_like(m, t.leaf_count - 1) for m in t.leaves)},
        "pixels of object .*leaves of its nodes"),
    "a leaf that is another one": (of_node("start", 1, 0), "start|leaves"),
    "a leaf of two": (of_node("stop", 0, 2), "leaves"),
    "a node that ends before it starts": (of_node("stop", -1, 1), "leaves|nodes"),
    "a node beyond the last leaf": (of_node("stop", -1, 2**31 - 1), "stop of the nodes"),
    "a node that starts before the first leaf": (of_node("start", -1, -1), "start of the nodes"),
    "a parent before its child": (of_node("parent", -1, 3), "parent of the nodes.*later"),
    "a node that is its own parent": (
        lambda t: {"parent": _put(t.parent, -1, len(t) - 1)}, "parent of the nodes.*later"),
    "a parent that is not there": (of_node("parent", 0, 10**6), "parent of the nodes"),
    "a parent of no one's leaves": (
        lambda t: {"parent": _put(t.parent, 0, t.parent[t.leaf_count - 1])}, "leaves"),
    "a child less": (of_node("parent", 0, -1), "leaves of the nodes.*shared out"),
    "a score above one": (of_node("score", 2, 1.5), "score of the nodes.*1.5"),
    "a score that is no number": (of_node("score", 2, np.nan), "score of the nodes.*nan"),
    "scores of other nodes": (lambda t: {"score": t.score[1:]}, "score of the nodes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def treed(tmp_path_factory):
    """A scene with a tree, and its file."""
    truth = construct_scene(views=3, width=96, height=72)
    made = exact_scene(truth, cache=treed_cache(truth, true_tree(truth)))
    path = tmp_path_factory.mktemp("hostile") / "tree.ws3d"
    save_scene(made, path)
    return made, path


@pytest.mark.parametrize("name", HOSTILE_TREES)
def test_load_scene_names_what_is_wrong_with_a_tree(treed, tmp_path, name):
    (scene, saved), (change, says) = treed, HOSTILE_TREES[name]
    values = change(scene.masks.tree)

    def put_all(_, members):
        for field, value in values.items():
            if field == "leaves":
                for view in range(3):
                    members.pop(f"tree/leaves/{view}.npy")
                members |= {f"tree/leaves/{v}.npy": each for v, each in enumerate(value)}
            else:
                members[f"tree/{field}.npy"] = value

    with pytest.raises(FileError, match=f"(?s){says}.*build it again"):
        load_scene(changed(saved, tmp_path, put_all))
    with pytest.raises(InvalidScene, match=f"(?s){says}"):
        check_masks(
            dataclasses.replace(scene.masks, tree=dataclasses.replace(scene.masks.tree, **values))
        )


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("nodes", [], "nodes of object 1: expected one or more"),
        ("nodes", [3, 2], "nodes of object 1.*sorted"),
        ("nodes", [10**6], "nodes of object 1"),
        ("nodes", ["one"], "nodes of object 1"),
        ("nodes", None, "nodes of the record.*list"),
        ("score", 1.5, "score of object 1: expected a number from 0 to 1"),
        ("score", "good", "score of the record.*float"),
        ("ambiguity", -0.5, "ambiguity of object 1"),
    ],
)
def test_load_scene_names_what_is_wrong_with_nodes_of_an_object(
    treed, tmp_path, field, value, says
):
    path = changed(treed[1], tmp_path, of_object(0, field, value))
    with pytest.raises(FileError, match=f"(?s){says}.*build it again"):
        load_scene(path)


def test_load_scene_nodes_without_a_tree_are_damage(saved, treed, tmp_path):
    with pytest.raises(FileError, match="nodes of object 1: expected none.*build it again"):
        load_scene(changed(saved, tmp_path, of_object(0, "nodes", [1])))
    path = changed(treed[1], tmp_path, lambda _, members: members.pop("tree/start.npy"))
    with pytest.raises(FileError, match="tree/start.npy.*missing"):
        load_scene(path)


def test_load_scene_header_nested_without_end_is_damage(saved, tmp_path):
    path = changed(saved, tmp_path, lambda *_: None)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(HEADER, "[" * 100_000)
    with pytest.raises(FileError, match="damaged.*build it again"):
        load_scene(path)


def test_load_scene_locked_member_is_damage(saved, tmp_path):
    """As by a zip program that was asked for a password."""
    path = changed(saved, tmp_path, lambda *_: None)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match="damaged.*build it again"):
        load_scene(path)


def test_save_scene_does_not_write_what_could_not_be_read_back(scene, tmp_path):
    other = tuple(m + np.int32(m == 0) * 1000 for m in scene.masks.labels)
    broken = dataclasses.replace(scene, masks=dataclasses.replace(scene.masks, labels=other))
    with pytest.raises(InvalidScene, match="label map of wholes in view 0"):
        save_scene(broken, tmp_path / "scene.ws3d")
    assert not list(tmp_path.iterdir())
