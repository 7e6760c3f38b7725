"""The page about a rig: whom it names, what it says, what it never fails of."""

from __future__ import annotations

import warnings
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import AlignmentError, FileError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig import aligned as aligned_module
from wildseg3d_ros.rig.aligned import align_measured, check_rig
from wildseg3d_ros.rig.judge import judge
from wildseg3d_ros.rig.page import PAGE, check_folder, write_report
from wildseg3d_testing.rigs import MISTAKES, with_poses
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.stereo import stereo_scene


@pytest.fixture(scope="module")
def truth():
    return construct_scene(4, 160, 120, seed=5, arc_degrees=110)


@pytest.fixture(scope="module")
def views(truth):
    return truth.views


class Page(HTMLParser):
    """Text, files and tags of a page; every tag is closed in order."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.files, self.tags, self.rows, self.text = folder, [], set(), [], []
        self._open = []
        self.raw = (folder / PAGE).read_text()
        self.feed(self.raw)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.files += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "td" in self._open:
            self.rows[-1][-1] += data
        elif "style" not in self._open:
            self.text.append(data)

    @property
    def cameras(self):
        """Cells by the camera's name."""
        return {row[1]: [cell.strip() for cell in row] for row in self.rows if row}

    @property
    def said(self):
        return " ".join(" ".join(self.text).split())


def write(folder, views):
    """The page, without a warning of NumPy's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked = check_rig(views)
        write_report(folder, checked)
    page = Page(folder)
    for file in page.files:
        assert (folder / file).is_file(), file
    assert not page.tags & {"script", "link", "iframe"}
    assert "http" not in page.raw
    assert set(page.cameras) == {view.name for view in views}
    return checked, page


# ---- what it says ----------------------------------------------------------------------------


def test_page_of_a_right_rig(views, tmp_path):
    rig, page = write(tmp_path / "out", views)
    assert rig.verdict == "ok"
    assert "Cameras: ok The cameras agree with each other." in page.said
    for camera in rig.cameras:
        cells = page.cameras[camera.name]
        assert cells[2] == "ok"
        assert cells[3] == f"{camera.agreement:.0%}".replace("%", " %")
        assert all(name in cells[4] for name in camera.overlap)
        assert cells[5] == f"{camera.median_depth:.3g} m, {camera.depth_share:.0%}"
        millimetres, degrees = (float(part.split()[0].rstrip("°")) for part in cells[8].split(","))
        assert millimetres < 5 and degrees < 1, "exact poses are not moved"
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == [
        "cameras_1.png", *(f"pair_0{k}.png" for k in range(1, 7)),
        *(f"view_0{k}.png" for k in range(1, 5)),
    ]  # fmt: skip
    for name in pictures:
        assert cv2.imread(str(tmp_path / "out" / name)).std() > 5


def test_page_of_inverse_matrices_says_so_first_and_shows_the_rig_without(views, tmp_path):
    wrong = MISTAKES["inverse matrices"].make(views, np.random.default_rng(0))
    rig, page = write(tmp_path, wrong)
    text = rig.report.finding.text
    assert f"Cameras: suspect {text[0].upper()}{text[1:]}." in page.said
    assert "Not aligned: cameras that are wrong in a known way are not aligned." in page.said
    assert (tmp_path / "cameras_2.png").is_file()
    # As given, mended: two pictures beside the first camera's image.
    assert cv2.imread(str(tmp_path / "pair_01.png")).shape[1] > 3 * 480


def test_finding_has_the_cameras_without_the_mistake(views):
    given = np.stack([view.world_from_cam_prior for view in views])
    for name in ("inverse matrices", "two poses swapped"):
        finding = judge(MISTAKES[name].make(views, np.random.default_rng(0))).finding
        np.testing.assert_allclose(finding.mended_cameras.world_from_cam, given, atol=1e-9)
    report = judge(MISTAKES["inverse matrices"].make(views, np.random.default_rng(0)))
    assert "mended_cameras" not in report.finding.to_dict()


def test_page_puts_a_suspect_camera_first(views, tmp_path):
    wrong = MISTAKES["pose of one turned by 180"].make([views[2]], np.random.default_rng(0))
    rig, page = write(tmp_path, [*views[:2], *wrong, views[3]])
    assert rig.report.suspects == (views[2].name,)
    assert next(iter(page.cameras)) == views[2].name


def test_page_escapes_names(views, tmp_path):
    names = ["<b>bold</b>", 'a "quote" & more', "l'été", "../up/and {away}"]
    named = [replace(view, name=name) for view, name in zip(views, names, strict=True)]
    _, page = write(tmp_path / "out", named)
    assert "bold" not in page.tags
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert all("/" not in file for file in page.files)


def test_align_measured_says_how_far_a_camera_was_moved(truth):
    """One camera of four is given 15 mm off."""
    poses = truth.world_from_cam.copy()
    poses[1, :3, 3] += [0.009, -0.012, 0.0]
    aligned = align_measured(with_poses(truth.views, poses))
    verdict = aligned.verdicts[truth.views[1].name]
    assert verdict.translation == pytest.approx(0.015, abs=0.005)
    assert verdict.rotation < np.radians(1.0)
    back = aligned.cameras.world_from_cam[1, :3, 3] - truth.world_from_cam[1, :3, 3]
    assert np.linalg.norm(back) < 0.005


# ---- what does not keep it from being written ------------------------------------------------


@pytest.mark.parametrize(
    "error", [AlignmentError("they do <not> fit"), np.linalg.LinAlgError("singular")]
)
def test_page_says_that_the_alignment_failed(views, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(aligned_module, "align", fail)
    _, page = write(tmp_path, views)
    assert f"Not aligned: the alignment failed: {error}" in page.said
    assert all(cells[8] == "-" for cells in page.cameras.values())
    assert (tmp_path / "pair_01.png").is_file()


def nothing(view):
    return replace(view, depth=np.full(view.size, np.nan, np.float32))


def black(view):
    return replace(view, image=np.zeros_like(view.image))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: [replace(v[0], depth=None), *v[1:]], "took no part in the alignment: no depth"),
        (lambda v: [replace(v[0], K=None), *v[1:]], "it has no intrinsics: poses and"),
        (lambda v: [nothing(v[0]), *v[1:]], "took no part in the alignment: no depth"),
        (lambda v: [replace(v[0], world_from_cam_prior=None), *v[1:]], "Constrained by a single"),
        (lambda v: [black(v[0]), *v[1:]], "Cameras:"),
        (lambda v: [black(nothing(each)) for each in v], "Not aligned: fewer than two"),
        (lambda v: [nothing(each) for each in v], "Not aligned: fewer than two"),
        (lambda v: [replace(each, depth=None, K=None) for each in v], "Nothing could be checked"),
        (lambda v: [v[0], *(replace(e, world_from_cam_prior=None) for e in v[1:])], "Nothing"),
        (lambda v: [replace(each, world_from_cam_prior=None) for each in v], "Constrained by a"),
        (lambda v: v[:2], "agree with each other"),
        (lambda v: v[:1], "Nothing could be checked"),
    ],
    ids=["depth of one", "K of one", "NaN of one", "pose of one", "black", "all black", "all NaN",
         "images alone", "one pose", "no pose", "two views", "one view"],
)  # fmt: skip
def test_page_of_what_is_missing(views, tmp_path, change, said):
    _, page = write(tmp_path, change(list(views)))
    assert said in page.said


def test_page_of_cameras_of_different_sizes(truth, tmp_path):
    """One image of four is cropped and upright."""
    view = truth.views[3]
    upright = view.image[:, 30:110], view.depth[:, 30:110]
    K = np.asarray(view.K) - [[0, 0, 30.0], [0, 0, 0], [0, 0, 0]]
    cropped = View(view.name, *upright[:1], K, upright[1], view.world_from_cam_prior)
    report, _ = write(tmp_path, [*truth.views[:3], cropped])
    assert report.verdict == "ok"


def test_page_of_plain_images_shows_features(tmp_path):
    views = stereo_scene(3, 12.0, 320, 240).views
    _, page = write(tmp_path, views)
    assert "fewer than two cameras have depth" in page.said
    assert (tmp_path / "pair_01.png").is_file()
    assert all(cells[5] == "-" for cells in page.cameras.values())


def test_page_of_views_that_share_nothing(views, tmp_path):
    apart = [
        replace(view, world_from_cam_prior=make_transform(np.eye(3), [100.0 * k, 0, 0]))
        for k, view in enumerate(views)
    ]
    flat = [replace(view, depth=np.full(view.size, 1.0, np.float32)) for view in apart]
    _, page = write(tmp_path, flat)
    assert "could not be checked" in page.said


def test_page_of_many_cameras_has_twelve_pairs_and_all_names(tmp_path):
    many = construct_scene(14, 80, 60, seed=3, arc_degrees=300).views
    write(tmp_path, many)
    assert len(list(tmp_path.glob("pair_*.png"))) == 12


# ---- files -----------------------------------------------------------------------------------


def test_write_report_replaces_an_earlier_one_and_nothing_else(views, tmp_path):
    write(tmp_path, views)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "pair_left.png").write_bytes(b"mine")
    write(tmp_path, views[:2])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        PAGE, "cameras_1.png", "pair_01.png", "view_01.png", "view_02.png", "notes.txt",
        "pair_left.png",
    }  # fmt: skip


def test_check_folder_refuses_files(tmp_path):
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError, match="is a file"):
            check_folder(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
