"""Configuration: defaults, ranges, and errors that name the nearest valid key."""

import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.settings import check_setting, walk


def test_walk_texts_ranges_and_valid_defaults():
    for each in walk(SceneConfig()):
        assert each.spec.metadata.get("text"), f"{each.name} has no description"
        assert check_setting(*each) == each.value
        if each.hint in (int, float):  # ROS declares ranges by both ends
            assert None not in (each.spec.metadata["low"], each.spec.metadata["high"]), each.name


def test_from_mapping_nested_values():
    config = SceneConfig.from_mapping({"pairing": {"max_pairs_per_view": 3}})
    assert config.pairing.max_pairs_per_view == 3
    assert config.masks == SceneConfig().masks


def test_from_mapping_integer_for_float():
    config = SceneConfig.from_mapping({"pairing": {"min_overlap": 1}})
    assert config.pairing.min_overlap == 1.0
    assert isinstance(config.pairing.min_overlap, float)


@pytest.mark.parametrize(
    "values, text",
    [
        ({"pairings": {}}, "did you mean 'pairing'"),
        ({"pairing": {"max_pair_per_view": 3}}, "did you mean 'pairing.max_pairs_per_view'"),
        ({"pairing": 3}, "group of settings"),
        ({"pairing": {"max_pairs_per_view": 2.5}}, "of type int"),
        ({"pairing": {"max_pairs_per_view": True}}, "of type int"),
        ({"pairing": {"max_pairs_per_view": 0}}, r"must lie in \[1"),
        ({"pairing": {"min_overlap": float("nan")}}, "must lie in"),
        ({"pointmaps": {"backend": "telepathy"}}, "one of auto, da3, depth"),
        (
            {"pointmaps": {"depth": {"min_depth": 5}}},
            r"depth.min_depth' must be below",
        ),
        ({"pointmaps": {"stereo": {"min_angle": 30}}}, "stereo.min_angle' must be below"),
        ({"pointmaps": {"stereo": {"min_depth": 2, "max_depth": 1}}}, "stereo.min_depth' must be"),
    ],
)
def test_from_mapping_wrong_values(values, text):
    with pytest.raises(ConfigError, match=text):
        SceneConfig.from_mapping(values)


def test_from_yaml_files(tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text("alignment:\n  max_iterations: 5\n")
    assert SceneConfig.from_yaml(good).alignment.max_iterations == 5
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert SceneConfig.from_yaml(empty) == SceneConfig()
    with pytest.raises(FileError, match="absent.yaml"):
        SceneConfig.from_yaml(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(FileError, match="broken.yaml"):
        SceneConfig.from_yaml(broken)
    listed = tmp_path / "listed.yaml"
    listed.write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping"):
        SceneConfig.from_yaml(listed)


def test_check_setting_float_as_yaml_reads_it():
    """YAML 1.1 takes 1e-5 for a text."""
    made = SceneConfig.from_mapping({"alignment": {"tolerance": "1e-5"}})
    assert made.alignment.tolerance == 1e-5
    with pytest.raises(ConfigError, match="'alignment.tolerance' is of type float; got str"):
        SceneConfig.from_mapping({"alignment": {"tolerance": "small"}})
