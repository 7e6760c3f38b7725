"""Back ends that any installed package can bring: entry points name their configurations.

An entry point of a group, such as ``wildseg3d.masks``, names a frozen dataclass of settings whose
method ``load()`` makes the back end; see docs/how-to/extending.md. Nothing is looked for before
somebody asks for a back end or its settings.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.settings import Setting, check_setting, members, walk

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OWN = "wildseg3d"
"""Name of our own distribution."""

_log = logging.getLogger(__name__)


class Registry:
    """The back ends of one kind that are installed.

    Args:
        group: of the entry points. What follows its last dot is the section of the configuration.
    """

    def __init__(self, group: str) -> None:
        self.group, self.section = group, group.rpartition(".")[2]
        self.refused: dict[str, str] = {}
        """Why the configuration of a back end cannot be used, by the name of the back end."""
        self._found: dict[str, type | None] = {}

    def setting(self, default: str, text: str) -> Any:
        """The configuration field that names one of the back ends."""
        metadata = {"text": text, "low": None, "high": None, "refused": self.refused}
        return field(default=default, metadata=metadata)

    @cached_property
    def entries(self) -> dict[str, EntryPoint]:
        """Entry points by name; of two with one name ours, else that of the first package.

        Raises:
            ConfigError: there is none at all, so that this package itself is not installed.
        """
        from importlib.metadata import entry_points

        found: dict[str, EntryPoint] = {}
        points = entry_points(group=self.group)
        for entry in sorted(points, key=lambda e: (_package(e) != OWN, _package(e))):
            if found.setdefault(entry.name, entry) is not entry:
                _log.warning(
                    "back end '%s' of the package '%s' is left out: '%s' has one of that name",
                    entry.name, _package(entry), _package(found[entry.name]),
                )  # fmt: skip
        if not found:
            raise ConfigError(
                f"no installed package has entry points '{self.group}', not even {OWN} itself: "
                f"`make setup` in a clone, or `pip install {OWN}`"
            )
        return dict(sorted(found.items()))

    def find(self, name: str) -> type | None:
        """The configuration of a back end; None where there is none that can be used."""
        if name not in self._found and name in self.entries:
            try:
                self._found[name] = _checked(self.entries[name])
            except Exception as error:  # noqa: BLE001  other people's code must not stop ours
                cause = " ".join(f"{type(error).__name__}: {error}".split())
                self.refused[name] = f"cannot be used: {cause}"
                self._found[name] = None
                _log.warning(
                    "back end '%s' of the package '%s' is left out, it %s",
                    name, _package(self.entries[name]), self.refused[name],
                )  # fmt: skip
        return self._found.get(name)

    @property
    def configs(self) -> dict[str, type]:
        """The configurations that can be used, by name."""
        found = {name: self.find(name) for name in self.entries}
        return {name: config for name, config in found.items() if config is not None}

    def missing(self, name: str, module: str) -> ConfigError:
        """The error that a module which a back end imports is not installed."""
        package, extra = _package(self.entries[name]), getattr(self.find(name), "extra", "")
        command = f"`pip install {package}`"
        if package == OWN and extra:
            in_clone = f"`make setup EXTRAS={extra}` in a clone"
            command = f"{in_clone}, else `pip install '{OWN}[{extra}]'`"
        return ConfigError(
            f"{self.section}.backend={name} needs the Python module '{module}', which is not "
            f"installed: {command}"
        )


@dataclass(frozen=True, init=False)
class BackendSection:
    """A section of the configuration: which back end, and the settings of all that there are.

    The settings of each back end are a group with its name, ``section.NAME``. Groups that differ
    from their defaults are given as keywords.

    Attributes:
        backend: name of the chosen one.
        groups: those that were given and differ from their defaults, by name.
    """

    registry: ClassVar[Registry]
    rules: ClassVar[tuple[str, ...]] = ()
    """Values of ``backend`` beside the names: how one is chosen."""
    backend: str = ""
    groups: tuple[tuple[str, Any], ...] = ()

    def __init__(
        self, backend: str | None = None, groups: tuple[tuple[str, Any], ...] = (), **given: Any
    ) -> None:
        given = {**dict(groups), **given}
        for name, group in given.items():
            config = self.registry.find(name)
            if config is None:
                raise TypeError(f"there is no back end '{name}' in '{self.registry.section}'")
            if type(group) is not config:
                raise TypeError(f"'{name}' takes a {config.__name__}, got {group!r}")
        changed = {name: group for name, group in given.items() if group != type(group)()}
        object.__setattr__(self, "backend", type(self).backend if backend is None else backend)
        object.__setattr__(self, "groups", tuple(sorted(changed.items())))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        group = self.group(name)
        if group is None:
            raise AttributeError(f"there is no back end '{name}' in '{self.registry.section}'")
        return group

    def group(self, name: str) -> Any:
        """The settings of a back end; None where there is none of that name."""
        config = self.registry.find(name)
        return None if config is None else dict(self.groups).get(name, config())

    def load(self) -> Any:
        """The chosen back end.

        Raises:
            ConfigError: there is none of that name, or a module that it imports is missing.
            Others: as the back end has them.
        """
        if self.group(self.backend) is None:
            check_setting(f"{self.registry.section}.backend", *members(self)[0][1:])
        config = getattr(self, self.backend)
        try:
            return config.load()
        except ImportError as error:
            module = error.name or str(error)
            package = module.partition(".")[0]
            if package == type(config).__module__.partition(".")[0]:
                raise
            if isinstance(error, ModuleNotFoundError) and package != __name__.partition(".")[0]:
                raise self.registry.missing(self.backend, module) from error
            raise ConfigError(
                f"{self.registry.section}.backend={self.backend} does not fit what is installed "
                f"here: {error}; install versions of the back end and of this that fit each other"
            ) from error


@members.register
def _(section: BackendSection) -> list[Setting]:
    spec = dataclasses.fields(section)[0]
    configs = section.registry.configs
    choice = Setting("backend", spec, Literal[(*section.rules, *configs)], section.backend)
    groups = (Setting(name, spec, config, section.group(name)) for name, config in configs.items())
    return [choice, *groups]


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _checked(entry: EntryPoint) -> type:
    """The configuration that an entry point names, every default of it looked at."""
    name, taken = entry.name, (*vars(BackendSection), *BackendSection.__annotations__)
    if not name.isidentifier() or name.startswith("_") or name in taken:
        raise ValueError(f"'{name}' cannot be the name of a group of settings")
    config = entry.load()
    frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
    if not (frozen and callable(getattr(config, "load", None))):
        raise TypeError(f"'{entry.value}' is no frozen dataclass with a method load()")
    for each in walk(config(), f"{name}."):
        if "text" not in each.spec.metadata:
            raise TypeError(f"'{each.name}' is no setting(): it has no description")
        check_setting(*each)
    return config
