"""Parameters come from the configuration dataclasses, validated and described."""

from __future__ import annotations

import pytest
import rclpy
from rclpy.parameter import Parameter

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.settings import walk
from wildseg3d_ros.ros.parameters import Parameters
from wildseg3d_ros.streams.config import CameraConfig, NodeConfig


@pytest.fixture
def make_parameters():
    context, nodes = rclpy.Context(), []
    rclpy.init(context=context)

    def make(**overrides) -> tuple[Parameters, rclpy.node.Node]:
        overrides.setdefault("cameras", ["left", "right"])
        node = rclpy.create_node(
            "wildseg3d",
            context=context,
            parameter_overrides=[
                Parameter(k.replace("__", "."), value=v) for k, v in overrides.items()
            ],
        )
        nodes.append(node)
        return Parameters(node), node

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_parameters_is_given(make_parameters):
    parameters, node = make_parameters(masks__backend="geometric")
    assert parameters.is_given("masks.backend")
    assert not parameters.is_given("pointmaps.backend")
    node.set_parameters([Parameter("pointmaps.backend", value="stereo")])
    assert parameters.is_given("pointmaps.backend")
    node.set_parameters([Parameter("index.click_radius", value=-3)])
    assert not parameters.is_given("index.click_radius")


def test_parameters_declared_with_default_and_text(make_parameters):
    parameters, node = make_parameters()
    assert parameters.scene() == SceneConfig()
    assert parameters.node() == NodeConfig()
    settings = [*walk(SceneConfig()), *walk(NodeConfig())]
    settings += [each._replace(value=None) for each in walk(CameraConfig(), "left.")]
    assert len(settings) > 20
    for name, spec, _, value in settings:
        descriptor = node.describe_parameter(name)
        assert descriptor.description == spec.metadata["text"]
        if value is not None:
            assert node.get_parameter(name).value == value
        low = spec.metadata["low"]
        if low is not None:
            (given,) = [*descriptor.integer_range, *descriptor.floating_point_range]
            assert (given.from_value, given.to_value) == (low, spec.metadata["high"])


def test_parameters_camera_topics(make_parameters):
    parameters, _ = make_parameters(left__depth_topic="", right__image_topic="/r/image")
    assert parameters.camera_names == ("left", "right")
    left, right = parameters.camera("left"), parameters.camera("right")
    assert left.image_topic == "left/color/image_raw"
    assert left.camera_info_topic == "left/color/camera_info"
    assert left.depth_topic == ""
    assert right.image_topic == "/r/image"
    assert right.depth_topic == "right/aligned_depth_to_color/image_raw"


def test_parameters_camera_defaults_of_the_node(make_parameters):
    parameters, node = make_parameters(
        image_transport="compressed", reliability="reliable", right__reliability="best_effort"
    )
    left, right = parameters.camera("left"), parameters.camera("right")
    assert (left.image_transport, left.reliability) == ("compressed", "reliable")
    assert (right.image_transport, right.reliability) == ("compressed", "best_effort")
    for name in ("cameras", "left.reliability", "sync_slop", "autostart"):
        assert node.describe_parameter(name).read_only, name
    assert not node.describe_parameter("target_frame").read_only


def test_parameters_overrides(make_parameters):
    parameters, node = make_parameters(
        pairing__max_pairs_per_view=3, pointmaps__depth__max_depth=2, world_frame="map"
    )
    assert parameters.scene().pairing.max_pairs_per_view == 3
    assert parameters.scene().pointmaps.depth.max_depth == 2.0
    assert parameters.node().world_frame == "map"
    node.set_parameters([Parameter("alignment.weighting", value="confidence")])
    assert parameters.scene().alignment.weighting == "confidence"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"cameras": []}, ["'cameras' must list", "[]"]),
        ({"cameras": ""}, ["'cameras' must list"]),
        ({"cameras": [1, 2]}, ["'cameras' must list"]),
        ({"cameras": ["left", "left", "right"]}, ["two cameras are named 'left'"]),
        ({"cameras": ["left", "a b"]}, ["'a b'", "letter"]),
        ({"cameras": ["left", ""]}, ["''", "letter"]),
        ({"pairing__max_pairs_per_view": 0}, ["pairing.max_pairs_per_view"]),
        ({"pairing__max_pairs_per_view": "many"}, ["pairing.max_pairs_per_view"]),
        ({"sync_slop": -1.0}, ["sync_slop"]),
        ({"sync_slop": "short"}, ["sync_slop", "float"]),
        ({"reliability": "perhaps"}, ["'reliability' is one of auto, best_effort, reliable"]),
        (
            {"target_frame": "no such frame!!"},
            ["'target_frame' is to name", "or nothing"],
        ),
        ({"world_frame": ""}, ["'world_frame' is to name a TF frame", "''"]),
        ({"left__image_topic": 3}, ["left.image_topic"]),
        ({"left__image_topic": ""}, ["left.image_topic", "to name a topic"]),
        ({"left__depth_topic": "my depth"}, ["left.depth_topic", "'my depth'"]),
        ({"left__depth_transport": "png"}, ["left.depth_transport", "raw, compressedDepth"]),
    ],
)
def test_parameters_wrong_values(make_parameters, overrides, words):
    with pytest.raises(ConfigError) as refused:
        make_parameters(**overrides)
    for word in words:
        assert word in str(refused.value)


def test_parameters_changes(make_parameters):
    parameters, node = make_parameters()
    for name, value in [
        ("alignment.weighting", "wishful"),
        ("sync_slop", 0.5),
        ("image_timeout", -1.0),
        ("image_timeout", "long"),
        ("cameras", ["left"]),
        ("left.image_topic", "/other"),
        ("target_frame", "no such frame!!"),
        ("world_frame", "two words"),
        ("pointmaps.depth.min_depth", 6.0),  # above max_depth
    ]:
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful, name
        assert result.reason
    depths = [("pointmaps.depth.min_depth", 6.0), ("pointmaps.depth.max_depth", 9.0)]
    changes = [Parameter(name, value=value) for name, value in depths]
    assert node.set_parameters_atomically(changes).successful
    for name, value in [
        ("image_timeout", 1),
        ("target_frame", "/arm_1/tool0"),
        ("target_frame", ""),
    ]:
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert result.successful, name
    assert parameters.node() == NodeConfig(image_timeout=1.0)


def test_parameters_misspelt(make_parameters, capfd):
    make_parameters(pairing__max_pair_per_view=3)
    heard = capfd.readouterr()
    assert "'pairing.max_pair_per_view'" in heard.out + heard.err
    assert "did you mean 'pairing.max_pairs_per_view'" in heard.out + heard.err
