"""The one source of configuration: frozen dataclasses, read from mappings or YAML, walked by ROS.

Units stand in the field's metadata text. An unknown key or a value outside its range is an error
that names the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wildseg3d_ros.errors import ConfigError, FileError


def setting(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A configuration field with its description and, for numbers, its inclusive range."""
    return field(default=default, metadata={"text": text, "low": low, "high": high})


def _check_order(section: str, config: Any, low: str, high: str) -> None:
    """Raises ConfigError unless one setting of a section is below another."""
    least, most = getattr(config, low), getattr(config, high)
    if not least < most:
        raise ConfigError(
            f"'{section}.{low}' must be below '{section}.{high}'; got {least!r} and {most!r}"
        )


@dataclass(frozen=True)
class PairingConfig:
    """Which views are compared with each other."""

    max_pairs_per_view: int = setting(
        6, "upper bound of pairs that each view takes part in; the graph stays connected", 1, 64
    )
    min_overlap: float = setting(
        0.15, "share of a view's points that must be visible in the other view [0..1]", 0.0, 1.0
    )


@dataclass(frozen=True)
class DepthPointmapConfig:
    """Pointmaps of calibrated RGB-D cameras."""

    min_depth: float = setting(0.1, "closest depth that is trusted [m]", 0.0, 100.0)
    max_depth: float = setting(5.0, "farthest depth that is trusted [m]", 0.0, 1000.0)
    prior_translation_sigma: float = setting(
        0.01, "standard deviation of the given camera positions [m]", 1e-6, 10.0
    )
    prior_rotation_sigma: float = setting(
        0.01, "standard deviation of the given camera orientations [rad]", 1e-6, 3.0
    )
    refine: bool = setting(True, "estimate each pair's relative pose by registration")
    noise_constant: float = setting(
        0.0012, "standard deviation of the depth at close range [m]", 1e-5, 1.0
    )
    noise_quadratic: float = setting(
        0.0019, "growth of that deviation with the square of the range [1/m]", 0.0, 1.0
    )

    def __post_init__(self) -> None:
        _check_order("pointmaps.depth", self, "min_depth", "max_depth")


@dataclass(frozen=True)
class StereoPointmapConfig:
    """Pointmaps of RGB cameras with known intrinsics and poses."""

    min_angle: float = setting(
        5.0, "least angle between two cameras at the scene [degrees]", 0.5, 60.0
    )
    max_angle: float = setting(20.0, "largest such angle [degrees]", 1.0, 60.0)
    bridge_angle: float = setting(
        35.0,
        "largest angle of a pair that is used although it is too wide, where nothing narrower "
        "connects the views [degrees]",
        1.0,
        60.0,
    )
    min_depth: float = setting(
        0.0, "closest depth that is searched [m]; 0 = from cameras and features", 0.0, 1000.0
    )
    max_depth: float = setting(
        0.0, "farthest depth that is searched [m]; 0 = from cameras and features", 0.0, 1000.0
    )
    prior_translation_sigma: float = setting(
        0.01,
        "standard deviation of given camera positions [m], where a view does not say its own",
        1e-6,
        10.0,
    )
    prior_rotation_sigma: float = setting(
        0.01, "the same of given camera orientations [rad]", 1e-6, 3.0
    )
    max_disagreement: float = setting(
        0.3,
        "share of their depth that two pairs may put the same pixels apart, beyond what the "
        "poses' deviations explain, before no scene is built; 0 = never refuse",
        0.0,
        1e6,
    )

    def __post_init__(self) -> None:
        _check_order("pointmaps.stereo", self, "min_angle", "max_angle")
        if self.min_depth and self.max_depth:
            _check_order("pointmaps.stereo", self, "min_depth", "max_depth")


@dataclass(frozen=True)
class Mast3rPointmapConfig:
    """Pointmaps of RGB cameras by the MASt3R network."""

    weights: str = setting(
        "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        "hub name of a downloaded model, or a .safetensors or .pth file, or its folder",
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "number type of the network; auto: bfloat16 on a GPU, else float32"
    )
    image_size: int = setting(
        512, "longer side of the network's images, a multiple of 16 [px]; trained: 512", 32, 2048
    )
    batch_size: int = setting(
        0, "most pairs at once; 0 = as many as fit into a GPU's memory, one on a CPU", 0, 256
    )
    both_directions: bool = setting(
        True, "predict each pair in both cameras' frames; one direction takes half the time"
    )
    min_confidence: float = setting(
        1.5,
        "least confidence (above 1) that the surest tenth of a pair's second view must reach; "
        "less sure pairs are left out",
        0.0,
        1000.0,
    )


@dataclass(frozen=True)
class PointmapConfig:
    """The geometry back end."""

    backend: Literal["depth", "stereo", "mast3r"] = setting("depth", "geometry back end")
    depth: DepthPointmapConfig = DepthPointmapConfig()
    stereo: StereoPointmapConfig = StereoPointmapConfig()
    mast3r: Mast3rPointmapConfig = Mast3rPointmapConfig()


@dataclass(frozen=True)
class GeometricMaskConfig:
    """Weight-free object masks from the fused cloud."""

    voxel_size: float = setting(
        0.0, "edge of the voxels that are segmented [m]; 0 = from the images' resolution", 0.0, 0.1
    )


@dataclass(frozen=True)
class Sam2MaskConfig:
    """Object masks by SAM 2, SAM 2.1 or EdgeTAM."""

    weights: str = setting(
        "facebook/sam2.1-hiera-small", "hub name of a downloaded model, or its folder"
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "number type of the network; auto: bfloat16 on a GPU, else float32"
    )
    grid: int = setting(32, "points per side of the grid that everything is sought from", 1, 128)
    predicted_iou: float = setting(
        0.8, "least quality of a mask by the network's own estimate", 0.0, 1.0
    )
    stability: float = setting(
        0.92, "least overlap of a mask with itself when its threshold moves", 0.0, 1.0
    )
    stability_offset: float = setting(
        1.0, "by how much the threshold moves, up and down [logits]", 0.0, 10.0
    )
    box_overlap: float = setting(
        0.9, "overlap of boxes beyond which the worse of two like masks is dropped", 0.0, 1.0
    )
    mask_overlap: float = setting(
        0.8, "overlap of masks beyond which the worse one of two masks is dropped", 0.0, 1.0
    )
    min_area: float = setting(
        0.0005, "smallest mask, island or hole, as a share of the image", 0.0, 1.0
    )
    max_area: float = setting(
        0.5, "largest mask, as a share of the image; what is larger is background", 0.0, 1.0
    )
    anchors: int = setting(
        3, "views whose masks are tracked through the others; 0 = no tracking", 0, 64
    )
    keep_embeddings: bool = setting(
        True, "keep the views' embeddings for prompts that no mask answers (8 MB each)"
    )
    max_memory_mib: int = setting(
        4096, "bound of the memory beside the network's weights [MiB]", 1, 1 << 20
    )


@dataclass(frozen=True)
class MaskConfig:
    """The mask back end."""

    backend: Literal["geometric", "sam2"] = setting("geometric", "mask back end")
    geometric: GeometricMaskConfig = GeometricMaskConfig()
    sam2: Sam2MaskConfig = Sam2MaskConfig()


@dataclass(frozen=True)
class AlignmentConfig:
    """Dynamic Global Alignment."""

    weighting: Literal["dynamic", "dynamic_confidence", "soft_mask", "confidence", "sharpened"] = (
        setting(
            "sharpened",
            "point weights: confidences, plain or sharpened; WildSeg3D's soft mask, its dynamic "
            "adjustment, or that times the confidence",
        )
    )
    alpha_p: float = setting(1.0, "dynamic adjustment at matched points", 0.0, 10.0)
    alpha_n: float = setting(1.0, "dynamic adjustment at unmatched points", 0.0, 2.0)
    loss: Literal["huber", "geman_mcclure"] = setting(
        "huber", "robust loss; geman_mcclure ignores gross errors but has local minima"
    )
    samples_per_view: int = setting(512, "pixels per view that the solve uses", 32, 65536)
    max_iterations: int = setting(30, "upper bound of Gauss-Newton passes per solve", 1, 200)
    tolerance: float = setting(
        1e-4, "largest step of a converged solve [rad, or share of the scene's size]", 1e-12, 0.1
    )
    prior_translation_sigma: float = setting(
        0.0,
        "standard deviation of given camera positions that bend the solve [m], where a view does "
        "not say its own; 0 = they only place the finished world",
        0.0,
        10.0,
    )
    prior_rotation_sigma: float = setting(
        0.0, "the same of given orientations [rad]; 0 = they only place the world", 0.0, 3.0
    )
    trust_intrinsics: bool = setting(
        False,
        "keep given focal lengths that pointmaps of unknown scale contradict by more than 8 "
        "percent; else theirs are used, with a warning",
    )
    max_residual: float = setting(
        0.0,
        "median residual of a view beyond which the alignment is refused [m, or scene units]; "
        "0 = never",
        0.0,
        1e6,
    )
    max_residual_px: float = setting(
        0.0,
        "median reprojection error of a view beyond which it is refused [px]; 0 = never",
        0.0,
        1e6,
    )
    max_condition: float = setting(
        0.0,
        "condition of the solve beyond which it is refused, the pairs leaving some pose "
        "undetermined; 0 = never: beyond 1e6 there is a warning",
        0.0,
        1e16,
    )
    max_prior_residual: float = setting(
        0.2,
        "median distance at the scene between given poses or depth and the finished world beyond "
        "which it is refused [m], as it is beyond a tenth of the viewing distance; 0 = never",
        0.0,
        1e6,
    )
    device: str = setting("cpu", "torch device of the solver: auto, cpu, cuda or cuda:N")


@dataclass(frozen=True)
class IndexConfig:
    """The object index that answers prompts."""

    click_radius: int = setting(
        6, "half edge of the window around a click that decides the object [px]", 0, 64
    )
    min_confidence: float = setting(
        0.05, "least confidence of a point, relative to the median of its object", 0.0, 1.0
    )
    max_free_space_views: int = setting(
        2, "views that look through a point before it is left out; 0 = never", 0, 255
    )
    max_slant: float = setting(
        85.0,
        "steepest surface to the line of sight [degrees]; what is steeper on both sides of a "
        "pixel is a flying pixel and left out; 90 = never",
        45.0,
        90.0,
    )
    min_neighbours: int = setting(
        4, "least points of an object about each of its points, itself included; 0 = any", 0, 1000
    )
    min_density: float = setting(
        0.05, "least number of such points, relative to the median of the object", 0.0, 1.0
    )
    min_cluster: float = setting(
        0.01, "least size of a separate piece, relative to the object's largest one", 0.0, 1.0
    )


@dataclass(frozen=True)
class SceneConfig:
    """Everything that `build_scene` needs to know."""

    pairing: PairingConfig = PairingConfig()
    pointmaps: PointmapConfig = PointmapConfig()
    masks: MaskConfig = MaskConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    index: IndexConfig = IndexConfig()

    @classmethod
    def from_mapping(
        cls, values: Mapping[str, Any], base: SceneConfig | None = None
    ) -> SceneConfig:
        """Builds a configuration from nested mappings.

        Args:
            values: settings by name, by group.
            base: what is not given is as in it; None: the defaults.

        Raises:
            ConfigError: unknown key, wrong type or value outside its range.
        """
        return _from_mapping(base or cls(), values, "")

    @classmethod
    def from_yaml(cls, path: str | Path, base: SceneConfig | None = None) -> SceneConfig:
        """Reads a YAML file of nested mappings; ``base`` as of :meth:`from_mapping`.

        Raises:
            FileError: the file cannot be read. ConfigError: as :meth:`from_mapping`.
        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise FileError(f"cannot read configuration '{path}': {error}") from error
        if not isinstance(values or {}, Mapping):
            raise ConfigError(f"'{path}' holds {type(values).__name__}, expected a mapping")
        return cls.from_mapping(values or {}, base)


def _from_mapping(base: Any, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(base)}
    hints = typing.get_type_hints(type(base))
    chosen = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean '{prefix}{near[0]}'? " if near else ""
            raise ConfigError(
                f"unknown configuration key '{prefix}{key}'; {hint}valid keys here: "
                f"{', '.join(sorted(fields))}"
            )
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"'{prefix}{key}' is a group of settings, got {type(value).__name__} {value!r}"
                )
            chosen[key] = _from_mapping(getattr(base, key), value, f"{prefix}{key}.")
        else:
            chosen[key] = check_setting(f"{prefix}{key}", fields[key], hints[key], value)
    return dataclasses.replace(base, **chosen)


def check_setting(name: str, spec: dataclasses.Field, hint: Any, value: Any) -> Any:
    """Returns ``value`` converted to the setting's type.

    Raises:
        ConfigError: wrong type, not among the choices, or outside the range.
    """
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"'{name}' is one of {', '.join(choices)}; got {value!r}")
        return value
    if isinstance(hint, types.GenericAlias):
        raise TypeError(f"setting '{name}': containers are not supported")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(
            f"'{name}' is of type {hint.__name__}; got {type(value).__name__} {value!r}"
        )
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ConfigError(f"'{name}' must lie in [{low}, {high}]; got {value!r}")
    return value
