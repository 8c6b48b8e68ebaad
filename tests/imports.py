# SPDX-License-Identifier: Apache-2.0
"""Which module of a package imports which, read from the source: no import is missed because it did not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

Edge = tuple[str, str]
"""A module, and one that it imports."""


@dataclass(frozen=True)
class Imports:
    """
    The imports of a package: those in functions and under ``TYPE_CHECKING`` too.

    A reader has to know both modules for either kind, so both count.

    :param package: Its name.
    :param inner: Module -> the modules of this package that it imports, named without the package.
    :param outer: Module -> the other modules that it imports.
    """

    package: str
    inner: Mapping[str, AbstractSet[str]]
    outer: Mapping[str, AbstractSet[str]]

    @classmethod
    def read(cls, folder: Path) -> Imports:
        """Read every module in the folder of a package."""
        package = folder.name
        paths = {_module_name(path, folder): path for path in sorted(folder.rglob("*.py"))}
        inner: dict[str, set[str]] = {name: set() for name in paths}
        outer: dict[str, set[str]] = {name: set() for name in paths}
        for name, path in paths.items():
            for imported, member in _imported(ast.parse(path.read_text()), _parent(package, name, path)):
                if imported != package and not imported.startswith(f"{package}."):
                    outer[name].add(imported)
                    continue
                target = imported.removeprefix(package).lstrip(".")
                below = f"{target}.{member}".lstrip(".")
                inner[name].add(below if member and below in paths else target)
        return cls(package, inner, outer)

    def knots(self) -> set[Edge]:
        """Return every import that is part of a circle."""
        reach = {module: self._reachable(module) for module in self.inner}
        return {
            (module, imported)
            for module, targets in self.inner.items()
            for imported in targets
            if module in reach.get(imported, ()) or module == imported
        }

    def ways_to(
        self, libraries: AbstractSet[str], start: str, except_through: str | None = None
    ) -> dict[str, list[str]]:
        """
        Return the libraries that a module imports, itself or through others, each with the modules on the way.

        A package on the way counts as well: importing a module runs the ``__init__`` of each package around it.
        """
        found: dict[str, list[str]] = {}
        ways = {start: [start]}
        queue = [start]
        while queue:
            module = queue.pop(0)
            if module == except_through:
                continue
            for library in sorted(libraries):
                if any(name == library or name.startswith(f"{library}.") for name in self.outer.get(module, ())):
                    found.setdefault(library, ways[module])
            for target in sorted({*self.inner.get(module, ()), *_around(module)}):
                if target not in ways:
                    ways[target] = [*ways[module], target]
                    queue.append(target)
        return found

    def _reachable(self, start: str) -> set[str]:
        found: set[str] = set()
        stack = list(self.inner[start])
        while stack:
            module = stack.pop()
            if module not in found:
                found.add(module)
                stack += self.inner.get(module, ())
        return found


@dataclass(frozen=True)
class Layer:
    """
    Modules that may import the same things.

    :param modules: Modules and packages, by their names inside the package.
    :param imports: The layers below, by name; whatever those may import is allowed too.
    :param without: Libraries that none of its modules may reach, not through others either.
    :param except_through: A module through which they may be reached all the same.
    """

    modules: tuple[str, ...]
    imports: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    except_through: str | None = None


def violations(imports: Imports, layers: Mapping[str, Layer]) -> list[str]:
    """Return what breaks the rule of the layers, a sentence each."""
    layer_of = {
        module: name
        for module in imports.inner
        for name, layer in layers.items()
        if any(module == own or (own and module.startswith(f"{own}.")) for own in layer.modules)
    }
    found = [f"{module or imports.package} is in no layer" for module in imports.inner if module not in layer_of]
    for module, name in layer_of.items():
        allowed = _allowed(name, layers)
        found += [
            f"{module} ({name}) imports {target} ({layer_of[target]})"
            for target in sorted(imports.inner[module])
            if target in layer_of and layer_of[target] not in allowed
        ]
        found += [
            f"{module} ({name}) imports {library}" + (f" through {' -> '.join(way[1:])}" if way[1:] else "")
            for library, way in imports.ways_to(layers[name].without, module, layers[name].except_through).items()
        ]
    return found


def _allowed(name: str, layers: Mapping[str, Layer]) -> set[str]:
    allowed: set[str] = set()
    stack = [name]
    while stack:
        layer = stack.pop()
        if layer not in allowed:
            allowed.add(layer)
            stack += layers[layer].imports
    return allowed


def _module_name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parent(package: str, name: str, path: Path) -> str:
    """Return what one dot means in a module."""
    full = f"{package}.{name}".rstrip(".")
    return full if path.stem == "__init__" else full.rpartition(".")[0]


def _around(module: str) -> Iterator[str]:
    while module:
        module = module.rpartition(".")[0]
        yield module


def _imported(tree: ast.Module, parent: str) -> Iterator[tuple[str, str]]:
    """Yield the module of every import, and what is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = parent.split(".")[: len(parent.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield from ((base, alias.name) for alias in node.names)
