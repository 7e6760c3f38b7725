"""Things by their names: SAM 3's class with random weights, and an oracle in its place."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import wildseg3d_ros as ws  # noqa: E402
from wildseg3d_ros.cli import main  # noqa: E402
from wildseg3d_ros.core.errors import ErrorCode, FileError, PromptError  # noqa: E402
from wildseg3d_ros.core.types import Prompt  # noqa: E402
from wildseg3d_ros.masks.text.sam3 import TextFinder  # noqa: E402
from wildseg3d_ros.pipeline import segment  # noqa: E402
from wildseg3d_ros.scene.file.snapshot import save_scene  # noqa: E402
from wildseg3d_ros.viewer.file_source import FileSource  # noqa: E402
from wildseg3d_testing.exact import exact_scene  # noqa: E402
from wildseg3d_testing.sam2_weights import write_small_sam2  # noqa: E402
from wildseg3d_testing.sam3_weights import SIDE, write_small_sam3  # noqa: E402
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_small_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def finder(weights, one_thread):
    return TextFinder(str(weights), "cpu", min_score=0.0)


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=4)


def test_find_says_what_the_class_says(weights, finder, caplog):
    """An image at the network's size, twice: masks and scores of the published class itself."""
    model = transformers.Sam3Model.from_pretrained(weights).eval()
    words = transformers.AutoTokenizer.from_pretrained(weights)(
        "red mug", padding="max_length", max_length=32, return_tensors="pt"
    )
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    with torch.inference_mode():
        pixels = torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1.0
        out = model(pixel_values=pixels, **words)
    expected = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0]
    found = [each for each in finder.find([image, image], "red mug") if each.view == 1]
    assert 0 < len(found) <= len(expected)
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    for each in found:
        k = int((expected - each.score).abs().argmin())
        assert each.score == pytest.approx(float(expected[k]), abs=1e-5)
        soft = torch.nn.functional.interpolate(
            out.pred_masks[:, k : k + 1].sigmoid(), (SIDE, SIDE), mode="bilinear"
        )
        assert np.mean(each.mask == (soft[0, 0] > 0.5).numpy()) > 0.999


def test_find_depends_on_the_words(finder, truth):
    image = [truth.views[0].image]
    first, other = (finder.find(image, text) for text in ("red mug", "box"))
    assert [each.score for each in first] != [each.score for each in other]


def test_words_that_cannot_be_read(finder, truth):
    image = [truth.views[0].image]
    with pytest.raises(PromptError, match="text is empty"):
        finder.find(image, " ")
    with pytest.raises(PromptError, match="tokens, and SAM 3 reads 32; name .* fewer words"):
        finder.find(image, "red mug " * 40)


def test_load_names_what_is_missing(weights, tmp_path, caplog):
    with pytest.raises(FileError, match=r"(?s)SAM 3 weights.*hf download.*sam3.*SAM License"):
        TextFinder(str(tmp_path / "none" / "deeper"), "cpu")
    with pytest.raises(FileError, match=r"type 'sam2_video'; expected one of sam3, sam3_video"):
        TextFinder(str(write_small_sam2(tmp_path / "sam2")), "cpu")
    TextFinder(str(weights), "cpu")
    assert "SAM 3 weights" in caplog.text and "SAM License" in caplog.text


@pytest.fixture
def oracle(truth, monkeypatch):
    """A network that knows the largest thing of the second view, where it is asked for a mug."""
    mask = max((truth.labels[1] == k for k in range(1, 5)), key=np.count_nonzero)
    shown = iter(range(10**6))

    def network(pixel_values, input_ids, attention_mask):
        logits = torch.full((1, 2, *mask.shape), -9.0)
        if next(shown) % 3 == 1:
            logits[0, 1][torch.tensor(mask)] = 9.0
        score = torch.tensor([[-9.0, 2.0 if logits.max() > 0 else -3.0]])
        return SimpleNamespace(
            pred_masks=logits, pred_logits=score, presence_logits=torch.tensor([[9.0]])
        )

    made = TextFinder._tokens

    def tokens(finder, text):
        finder._model = network
        return made(finder, text)

    monkeypatch.setattr(TextFinder, "_tokens", tokens)
    monkeypatch.setattr(TextFinder, "_pixels", lambda finder, image: image)
    return mask


def test_a_name_becomes_a_cloud(weights, truth, oracle, tmp_path, capsys):
    """In Python and on the command line: the thing of the mask in one view, in all views."""
    object_id = int(truth.labels[1][oracle][0])
    path = tmp_path / "scene.ws3d"
    save_scene(exact_scene(truth), path)
    scene = ws.load(path)
    cloud = scene.segment(scene.find("red mug", str(weights)))
    for v, name in enumerate(scene.views):
        assert np.array_equal(cloud.masks[name], truth.labels[v] == object_id)
    asked = ["segment", str(path), "--text", "red mug", "--set", f"text.weights={weights}"]
    assert main([*asked, "-o", str(tmp_path / "mug.ply")]) == 0
    said = capsys.readouterr().out
    assert f"found    'red mug' in camera '{scene.views[1]}', score 0.88" in said
    assert (tmp_path / "mug.ply").exists()
    page = FileSource(path, (f"text.weights={weights}",))
    shown = page.ask(Prompt(text="red mug")).cloud
    assert np.array_equal(shown.points, cloud.points) and shown.object_ids == (object_id,)
    assert page.add(Prompt(text="red mug")).cloud.object_ids == (object_id,)


def test_a_name_in_a_scene_of_reduced_images(weights, truth, oracle):
    """The mask that was found is one of the camera's own image, as every prompt is."""
    views = [dataclasses.replace(view, camera_size=(240, 320)) for view in truth.views]
    scene = ws.Scene(exact_scene(dataclasses.replace(truth, views=tuple(views))))
    found = scene.find("red mug", str(weights))
    assert found.mask.shape == (240, 320) and np.array_equal(found.mask[::2, ::2], oracle)
    assert scene.segment(found).object_ids == (int(truth.labels[1][oracle][0]),)


def test_a_scene_by_itself_knows_no_names(truth):
    with pytest.raises(PromptError, match="'red mug' is a name, .* find what it names first"):
        segment(exact_scene(truth), Prompt(text="red mug"))


def test_nothing_of_that_name(weights, finder, truth, oracle):
    strict = TextFinder(str(weights), "cpu", min_score=0.95)
    with pytest.raises(PromptError, match=r"'red mug' names in 3 .*best score is 0.88") as caught:
        strict.find([view.image for view in truth.views], "red mug")
    assert caught.value.code is ErrorCode.UNKNOWN_OBJECT
