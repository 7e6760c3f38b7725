"""Image files of recordings: formats, sizes, orientations, and frames that cannot be read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_testing.recording_folder import SIZE, rotated_jpeg, write_png


@pytest.mark.parametrize("size", [(24, 32), (16, 21), (96, 128)])
def test_load_folder_depth_of_another_size(folder, size):
    """ARKit's, for one: every pixel has the depth of the one that lies there."""
    steps = np.arange(1, size[0] * size[1] + 1, dtype=np.uint16).reshape(size)
    write_png(folder.path / "depth/right.png", steps)
    depth = np.rint(folder.load().views[1].depth * 1000).astype(int)
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    row, column = (v + 0.5) * size[0] / SIZE[0] - 0.5, (u + 0.5) * size[1] / SIZE[1] - 0.5
    found_row, found_column = np.divmod(depth - 1, size[1])
    assert np.abs(found_row - row).max() <= 0.51
    assert np.abs(found_column - column).max() <= 0.51


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_load_folder_exif_orientation(folder, orientation):
    """Applied where only the rotated image has the size of the intrinsics; else it is named."""
    smooth = cv2.GaussianBlur(folder.bgr[1], (0, 0), 5)
    path = folder.path / "images/right.jpg"
    path.write_bytes(rotated_jpeg(smooth, orientation))
    folder.frame.update(file_path="images/right.jpg")
    recording = folder.load()
    assert recording.views[1].size == SIZE
    assert ("EXIF orientation 3" in "".join(recording.warnings)) == (orientation == 3)
    if orientation < 5:
        return
    folder.frame.update(w=48, h=64)
    for key in ("depth_file_path", "object_mask_path"):
        folder.frame.pop(key)
    view = folder.load().views[1]
    assert view.size == (64, 48)
    turn = {6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}[orientation]
    upright = cv2.rotate(smooth, turn)[..., ::-1]
    assert np.abs(view.image.astype(int) - upright).mean() < 4


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC or AVIF"),
        (b"\x76\x2f\x31\x01" + bytes(40), "OpenEXR"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"\x00\x00\x00\x0cjP  " + bytes(40), "JPEG 2000"),
        (b"\x00\x00\x00\x0cJXL " + bytes(40), "JPEG XL"),
        (b"#?RADIANCE" + bytes(40), "Radiance HDR"),
        (b"Pf\n4 4\n" + bytes(40), "PFM"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(40), "video"),
        (b"PK\x03\x04" + bytes(40), ".npz"),
    ],
)
def test_load_folder_names_formats_that_are_not_read(folder, content, what):
    (folder.path / "images/right.png").write_bytes(content)
    with pytest.raises(FileError, match=rf"right.png': it is .*{what}.*, which is not read"):
        folder.load()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"])
def test_load_folder_image_formats(folder, suffix):
    smooth = cv2.GaussianBlur(folder.bgr[1], (0, 0), 5)
    write_png(folder.path / f"images/right{suffix}", smooth)
    folder.frame["file_path"] = f"images/right{suffix}"
    found = folder.load().views[1].image
    assert np.abs(found.astype(int) - smooth[..., ::-1]).mean() < 3


def many(folder, count=5):
    folder.meta["frames"] = []
    for i in range(count):
        write_png(folder.path / f"images/{i}.png", folder.bgr[0])
        folder.meta["frames"].append({"file_path": f"images/{i}.png"})


def test_load_folder_leaves_out_a_bad_frame_of_many(folder):
    many(folder)
    path = folder.path / "images/2.png"
    path.write_bytes(path.read_bytes()[:500])
    folder.meta["frames"][3]["transform_matrix"] = "here"
    recording = folder.load()
    assert [view.name for view in recording.views] == ["0", "1", "4"]
    first, second = recording.warnings
    assert first.startswith("one of 5 frames was left out: cannot read image")
    assert str(path) in first
    assert "camera '3': transform_matrix" in second
    assert recording.object_masks == (None,) * 3
    with pytest.raises(FileError, match=r"cannot read image .*2.png"):
        folder.load(strict=True)
    (folder.path / "images/0.png").unlink()
    with pytest.raises(FileError, match=r"names 'images/0.png', which does not exist"):
        folder.load()


@pytest.mark.parametrize(
    ("file", "array", "message", "code"),
    [
        ("depth/right.png", np.ones((24, 40), np.uint16),
         "camera 'right': depth is 40x24 but the image is 64x48", ErrorCode.BAD_DEPTH),
        ("depth/right.png", np.ones((48, 64, 3), np.uint8), "must be one channel of 16-bit",
         ErrorCode.BAD_DEPTH),
        ("masks/right.png", np.ones((24, 32), np.uint8),
         "camera 'right': object mask is 32x24 but the image is 64x48", ErrorCode.BAD_IMAGE),
        ("masks/right.png", np.ones((48, 64, 3), np.uint8), "not colours", ErrorCode.BAD_IMAGE),
    ],
)  # fmt: skip
def test_load_folder_images_that_do_not_fit(folder, file, array, message, code):
    write_png(folder.path / file, array)
    with pytest.raises(InputError, match=message) as caught:
        folder.load()
    assert caught.value.code == code


@pytest.mark.parametrize("file", ["images/right.png", "depth/right.png", "masks/right.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_load_folder_names_unreadable_images(folder, file, content):
    path = folder.path / file
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(FileError, match="cannot read image") as caught:
        folder.load()
    assert str(path) in str(caught.value)


def test_load_folder_names_a_broken_npy_depth(folder):
    (folder.path / "depth/right.npy").write_bytes(b"\x93NUMPY")
    folder.frame["depth_file_path"] = "depth/right.npy"
    with pytest.raises(FileError, match=r"cannot read depth .*right.npy"):
        folder.load()


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", "<u2", ">u2", "<i4", "<i8"])
def test_load_folder_depth_types(folder, kind):
    """Of .npy files, with one channel as an axis or not."""
    steps = folder.depth[1].copy()
    steps[:2] = [[0], [65535]]
    steps[2:] //= 2  # float16 has 11 bits
    with np.errstate(over="ignore"):
        np.save(folder.path / "depth/right.npy", steps.astype(kind)[..., None])
    folder.frame["depth_file_path"] = "depth/right.npy"
    depth = folder.load().views[1].depth
    assert (depth[0] == 0).all()
    if "u2" in kind:
        assert (depth[1] == 0).all()  # saturated
    np.testing.assert_allclose(depth[2:], steps[2:] * 0.001, rtol=1e-3, atol=1e-6)


def test_load_folder_depth_in_tiff(folder):
    metres = folder.depth[1].astype(np.float32) / 1000
    write_png(folder.path / "depth/right.tiff", metres)
    folder.frame["depth_file_path"] = "depth/right.tiff"
    folder.meta["depth_unit_scale_factor"] = 1.0
    np.testing.assert_array_equal(folder.load().views[1].depth, metres)


@pytest.mark.parametrize("pixels", [np.ones(SIZE, np.uint8), np.ones((*SIZE, 3), np.uint16)])
def test_load_folder_pictures_of_depth(folder, pixels):
    write_png(folder.path / "depth/right.png", pixels)
    with pytest.raises(InputError, match=r"one channel of 16-bit integers, larger ones or floats"):
        folder.load()
