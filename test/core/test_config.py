"""Configuration: defaults, ranges, and errors that name the nearest valid key."""

import dataclasses
import typing

import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.core.settings import check_setting


def leaves(cls, prefix=""):
    hints = typing.get_type_hints(cls)
    for spec in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[spec.name]):
            yield from leaves(hints[spec.name], f"{prefix}{spec.name}.")
        else:
            yield f"{prefix}{spec.name}", spec, hints[spec.name]


def test_every_setting_is_described_and_its_default_is_valid():
    for name, spec, hint in leaves(SceneConfig):
        assert spec.metadata.get("text"), f"{name} has no description"
        assert check_setting(name, spec, hint, spec.default) == spec.default
        if hint in (int, float):  # ROS declares ranges by both ends
            assert None not in (spec.metadata["low"], spec.metadata["high"]), name


def test_nested_values_are_taken_and_the_rest_keeps_its_default():
    config = SceneConfig.from_mapping({"pairing": {"max_pairs_per_view": 3}})
    assert config.pairing.max_pairs_per_view == 3
    assert config.masks == SceneConfig().masks


def test_integers_serve_where_a_float_is_asked_for():
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
        ({"pointmaps": {"backend": "telepathy"}}, "one of depth"),
        (
            {"pointmaps": {"depth": {"min_depth": 5}}},
            r"depth.min_depth' must be below",
        ),
        ({"pointmaps": {"stereo": {"min_angle": 30}}}, "stereo.min_angle' must be below"),
        ({"pointmaps": {"stereo": {"min_depth": 2, "max_depth": 1}}}, "stereo.min_depth' must be"),
    ],
)
def test_wrong_values_are_refused_with_the_way_out(values, text):
    with pytest.raises(ConfigError, match=text):
        SceneConfig.from_mapping(values)


def test_yaml_files(tmp_path):
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
