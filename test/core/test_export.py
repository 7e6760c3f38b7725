"""Exports are read back by independent code and compared with the constructed truth."""

from __future__ import annotations

import dataclasses
import html.parser
import json

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import ConfigError, FileError, InputError, PromptError
from wildseg3d_ros.export.contents import Contents
from wildseg3d_ros.export.formats import FORMATS, export_scene
from wildseg3d_ros.export.meshes import object_mesh, surface_mesh
from wildseg3d_ros.export.target import MANIFEST, file_names
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_testing.clouds import read_ply
from wildseg3d_testing.exact import exact_alignment, exact_scene
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, arc_degrees=120, objects=4)


@pytest.fixture(scope="module")
def scene(truth):
    return exact_scene(truth)


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    """Everything but meshes, which take longest and have tests of their own."""
    out = tmp_path_factory.mktemp("export") / "out"
    export_scene(scene, out, [name for name in FORMATS if name != "mesh"])
    return out


def decoded(code):
    """The mask of an uncompressed run-length code, run by run."""
    flat, value = [], False
    for length in code["counts"]:
        flat += [value] * length
        value = not value
    height, width = code["size"]
    assert len(flat) == height * width
    return np.array(flat, bool).reshape(width, height).T


def png(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def test_export_labels_are_the_true_ones(truth, folder):
    for view, labels in zip(truth.views, truth.labels, strict=True):
        found = png(folder / "labels" / f"{view.name}.png")
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, labels)


def test_export_coco_masks_are_the_true_ones(truth, folder):
    said = json.loads((folder / "coco.json").read_text())
    images = {image["id"]: image for image in said["images"]}
    seen = set()
    for each in said["annotations"]:
        image = images[each["image_id"]]
        view = next(i for i, v in enumerate(truth.views) if v.name in image["file_name"])
        stored = png(folder / image["file_name"])[..., ::-1]
        np.testing.assert_array_equal(stored, truth.views[view].image)
        mask = decoded(each["segmentation"])
        np.testing.assert_array_equal(mask, truth.labels[view] == each["track_id"])
        rows, columns = np.nonzero(mask)
        u, v, width, height = each["bbox"]
        assert (u, v) == (columns.min(), rows.min())
        assert (u + width - 1, v + height - 1) == (columns.max(), rows.max())
        assert each["area"] == len(rows)
        seen.add((view, each["track_id"]))
    true = {(v, int(i)) for v, m in enumerate(truth.labels) for i in np.unique(m) if i}
    assert seen == true
    assert len({each["id"] for each in said["annotations"]}) == len(seen)
    assert {each["category_id"] for each in said["annotations"]} <= {
        each["id"] for each in said["categories"]
    }


def test_export_nerfstudio_is_a_recording_of_the_same_views(truth, folder):
    recording = load_folder(folder)
    for view, mask, given, labels, depth in zip(
        recording.views,
        recording.object_masks,
        truth.views,
        truth.labels,
        truth.depths,
        strict=True,
    ):
        assert (view.name, view.frame_id, view.stamp_ns) == (
            given.name,
            given.frame_id,
            given.stamp_ns,
        )
        np.testing.assert_array_equal(view.image, given.image)
        np.testing.assert_allclose(view.K, given.K)
        np.testing.assert_allclose(view.world_from_cam_prior, given.world_from_cam_prior)
        np.testing.assert_allclose(view.depth, depth, atol=1e-4)
        np.testing.assert_array_equal(mask, labels)
        shown = png(folder / "masks" / f"{view.name}.png")
        np.testing.assert_array_equal(shown, np.where(labels > 0, 255, 0))


def test_export_clouds_and_json(scene, folder):
    said = json.loads((folder / "scene.json").read_text())
    assert [each["id"] for each in said["objects"]] == list(scene.object_ids)
    for each in said["objects"]:
        rows = scene.index.rows(each["id"])
        for suffix in (".ply", ".pcd", ".npz"):
            assert (folder / "clouds" / f"object_{each['id']:04d}{suffix}").is_file()
        cloud = read_ply(folder / "clouds" / f"object_{each['id']:04d}.ply")
        np.testing.assert_array_equal(cloud["points"], scene.index.points[rows])
        assert each["points"] == len(cloud["points"])
        # Nearly all of it is inside its box.
        box = each["box"]
        pose = np.array(box["frame_from_box"])
        inside = (cloud["points"] - pose[:3, 3]) @ pose[:3, :3]
        assert (np.abs(inside) <= np.array(box["size"]) / 2 + 1e-3).all(axis=1).mean() > 0.98
        assert set(each["masks"]) == set(each["views"])
    for camera, K, pose in zip(said["cameras"], scene.K, scene.world_from_cam, strict=True):
        np.testing.assert_allclose(camera["K"], K)
        np.testing.assert_allclose(camera["world_from_cam"], pose)


def test_export_bop_models_fall_onto_their_masks(truth, folder):
    """By the format's own equation: P = K [R_m2c | t_m2c], in millimetres."""
    root = folder / "bop"
    place = root / "test" / "000000"
    coco = json.loads((place / "scene_gt_coco.json").read_text())
    cameras = json.loads((place / "scene_camera.json").read_text())
    found = json.loads((place / "scene_gt.json").read_text())
    info = json.loads((root / "models" / "models_info.json").read_text())
    annotations = iter(coco["annotations"])
    for view, labels in enumerate(truth.labels):
        camera, depth = cameras[str(view)], png(place / "depth" / f"{view:06d}.png")
        np.testing.assert_allclose(
            depth * camera["depth_scale"], 1000 * truth.depths[view], atol=0.06
        )
        np.testing.assert_array_equal(
            png(place / "rgb" / f"{view:06d}.png")[..., ::-1], truth.views[view].image
        )
        for number, each in enumerate(found[str(view)]):
            mask = labels == each["obj_id"]
            written = png(place / "mask_visib" / f"{view:06d}_{number:06d}.png")
            np.testing.assert_array_equal(written, np.where(mask, 255, 0))
            annotation = next(annotations)
            assert (annotation["image_id"], annotation["category_id"]) == (view, each["obj_id"])
            np.testing.assert_array_equal(decoded(annotation["segmentation"]), mask)
            model = read_ply(root / "models" / f"obj_{each['obj_id']:06d}.ply")["points"]
            R = np.reshape(each["cam_R_m2c"], (3, 3))
            points = model @ R.T + each["cam_t_m2c"]
            uv = points @ np.reshape(camera["cam_K"], (3, 3)).T
            u, v = np.rint(uv[:, :2] / uv[:, 2:]).astype(int).T
            inside = (u >= 0) & (v >= 0) & (u < mask.shape[1]) & (v < mask.shape[0])
            z = depth[v[inside], u[inside]] * camera["depth_scale"]
            visible = np.abs(z - points[inside, 2]) < 1
            assert visible.sum() > 20
            assert mask[v[inside], u[inside]][visible].mean() > 0.9
            size = info[str(each["obj_id"])]
            for axis, name in enumerate("xyz"):
                assert size[f"size_{name}"] == pytest.approx(np.ptp(model[:, axis]), abs=1e-3)
    assert next(annotations, None) is None
    targets = json.loads((root / "test_targets_bop19.json").read_text())
    assert [(each["im_id"], each["obj_id"]) for each in targets] == [
        (annotation["image_id"], annotation["category_id"]) for annotation in coco["annotations"]
    ]


class _Page(html.parser.HTMLParser):
    """What a page holds and what it loads."""

    def __init__(self):
        super().__init__()
        self.images, self.links, self.open, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.images.append((attrs["src"], attrs["alt"]))
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_export_page_is_one_file_with_all_objects(scene, folder):
    page = _Page()
    page.feed((folder / "index.html").read_text())
    assert page.open == []
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    shown = [text for _, text in page.images]
    for object_id in scene.object_ids:
        assert f"cloud of object {object_id}" in shown
        assert str(object_id) in page.texts
    assert {f"objects in {name}" for name in scene.view_names} <= set(shown)


def test_export_of_names_that_mean_something_elsewhere(scene, tmp_path):
    names = ("../../up", "<b>bold</b>", "front/left")
    masks = scene.masks
    odd = dataclasses.replace(scene, view_names=names, masks=masks)
    export_scene(odd, tmp_path / "out", ["labels", "html", "coco", "nerfstudio"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<b>bold" not in text and "&lt;b&gt;bold&lt;/b&gt;" in text
    assert len(load_folder(tmp_path / "out").views) == 3
    assert file_names(("a", "A", "...", "a b")) == {
        "a": "a", "A": "view_1", "...": "view_2", "a b": "a_b",
    }  # fmt: skip


def test_export_replaces_what_an_export_wrote_and_nothing_else(scene, tmp_path):
    out = tmp_path / "out"
    export_scene(scene, out, ["ply", "labels"])
    (out / "notes.txt").write_text("mine")
    first, *_ = scene.object_ids
    files = export_scene(scene, out, ["npz"], [first])
    assert [str(file.relative_to(out)) for file in files] == [f"clouds/object_{first:04d}.npz"]
    left = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert left == [f"clouds/object_{first:04d}.npz", "notes.txt", MANIFEST]
    assert not (out / "labels").exists()
    (out / "coco.json").write_text("mine")
    with pytest.raises(FileError, match=r"coco\.json' is there and no export wrote it"):
        export_scene(scene, out, ["coco"])
    assert (out / "coco.json").read_text() == "mine"
    assert sorted(p.name for p in out.iterdir()) == ["clouds", "coco.json", "notes.txt", MANIFEST]


def test_export_that_was_interrupted_can_be_made_again(scene, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def fails(contents):
        def write(path):
            raise FileError("disk full")

        return {**FORMATS["labels"][0](contents), "last.txt": write}

    with monkeypatch.context() as patch:
        patch.setitem(FORMATS, "json", (fails, ""))
        with pytest.raises(FileError, match="disk full"):
            export_scene(scene, out, ["json"])
    assert (out / "labels").is_dir()
    assert json.loads((out / MANIFEST).read_text())["complete"] is False
    export_scene(scene, out, ["json"])
    assert sorted(p.name for p in out.iterdir()) == ["scene.json", MANIFEST]


@pytest.mark.parametrize(
    "manifest", ["{", "[]", '{"format": "another", "files": []}', '{"format": "wildseg3d-export"}']
)
def test_export_refuses_folders_that_are_not_its_own(scene, tmp_path, manifest):
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(FileError):
        export_scene(scene, tmp_path, ["json"])
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST]


def test_export_never_removes_what_a_list_names_outside(scene, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path)
    names = ["../precious.txt", str(precious), "link/precious.txt"]
    (out / MANIFEST).write_text(json.dumps({"format": "wildseg3d-export", "files": names}))
    export_scene(scene, out, ["json"])
    assert precious.read_text() == "mine"


def test_export_refuses_what_it_cannot_write(scene, truth, tmp_path):
    with pytest.raises(ConfigError, match=r"no format 'cocoo' \(did you mean 'coco'\?\)"):
        export_scene(scene, tmp_path / "out", ["cocoo"])
    with pytest.raises(PromptError, match="the scene has no object 99; its objects are 1, 2"):
        export_scene(scene, tmp_path / "out", ["ply"], [99])
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file"):
        export_scene(scene, tmp_path / "file", ["ply"])
    alignment = dataclasses.replace(exact_alignment(truth), metric=False, in_prior_frame=False)
    unscaled = dataclasses.replace(scene, alignment=alignment)
    with pytest.raises(ConfigError, match="bop needs lengths in millimetres"):
        export_scene(unscaled, tmp_path / "out", ["bop"])
    assert not (tmp_path / "out").exists()


def test_object_mesh_lies_on_the_true_surface(truth, scene, tmp_path):
    contents = Contents(scene, [1])
    (each,) = contents.objects
    mesh = object_mesh(contents, each)
    spacing = contents.graspable.surface((1,)).spacing
    distance = truth.distance_to_object(1, mesh.vertices)
    assert np.median(distance) < 0.1 * spacing
    assert np.percentile(distance, 90) < spacing
    assert distance.max() < 2 * spacing  # edges are rounded within a cell of the grid
    # Its triangles face outwards, as the normals do.
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)
    outwards = (facing * mesh.normals[mesh.faces[:, 0]]).sum(axis=1) > 0
    assert outwards.mean() > 0.95
    # What no camera saw, as the underside, stays open.
    cloud = contents.cloud(each).points
    assert mesh.vertices[:, 2].min() > cloud[:, 2].min() - 2 * spacing
    files = export_scene(scene, tmp_path / "out", ["mesh"], [1])
    text = files[0].read_bytes()
    assert b"element face %d\n" % len(mesh.faces) in text
    vertex, face = 6 * 4 + 3, 1 + 3 * 4
    assert len(text.split(b"end_header\n", 1)[1]) == (
        vertex * len(mesh.vertices) + face * len(mesh.faces)
    )


def test_surface_mesh_of_a_sphere_is_closed():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(4000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    spacing = np.sqrt(4 * np.pi / 4000)
    noisy = (1 + rng.normal(0, 0.2 * spacing, (4000, 1))) * normals
    mesh = surface_mesh(
        noisy.astype(np.float32),
        normals.astype(np.float32),
        np.zeros((4000, 3), np.uint8),
        spacing,
    )
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radius - 1).max() < spacing
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]],
                                    mesh.faces[:, [2, 0]]]), axis=1)  # fmt: skip
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()
    # Of a closed surface without handles: V - E + F = 2.
    assert len(mesh.vertices) - len(counts) + len(mesh.faces) == 2


def test_surface_mesh_needs_a_surface():
    few = np.zeros((10, 3), np.float32)
    with pytest.raises(InputError, match="a mesh needs 50 points"):
        surface_mesh(few, few, few.astype(np.uint8), 0.01)
