"""Who imports whom, read off the syntax trees: nothing is run, and what a function imports is seen too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import statement's target, a module as `import` names it. in_function: it is run when a function is called."""

    target: str
    in_function: bool
    line: int


class ImportGraph:
    """The modules below some folders of `root`. Imports for type checkers alone (`if TYPE_CHECKING:`) are no imports."""

    def __init__(self, root: Path, folders: tuple[str, ...]) -> None:
        self._root = root
        files = (path for folder in folders for path in sorted((root / folder).rglob("*.py")))
        self.files = {_module_name(path.relative_to(root)): path for path in files}

    @cached_property
    def imports(self) -> dict[str, tuple[Import, ...]]:
        """Of each module. `from package import name` is an import of package.name where that is a module of ours."""
        return {
            module: tuple(self._found(ast.parse(path.read_text(encoding="utf-8"), str(path)), False))
            for module, path in self.files.items()
        }

    def where(self, module: str, line: int) -> str:
        """A place to look at: path and line."""
        return f"{self.files[module].relative_to(self._root)}:{line}"

    def reached(self, start: str, with_functions: bool = False) -> dict[str, str]:
        """Every module (ours or not) that `start` brings along, and the chain of imports it is reached by.

        A module brings its packages along, of which only what is imported at module level counts. with_functions: what
        functions import counts too, but for that of such packages: there it is for whoever asks for a name of theirs.
        """
        found = {start: start}
        waiting = [(start, with_functions)]
        seen: set[tuple[str, bool]] = set(waiting)
        while waiting:
            module, whole = waiting.pop(0)
            following = [(package, False) for package in _packages_of(module)]
            following += [
                (one.target, with_functions) for one in self.imports.get(module, ()) if whole or not one.in_function
            ]
            for target, its_functions in following:
                found.setdefault(target, f"{found[module]} -> {target}")
                if (target, its_functions) not in seen:
                    seen.add((target, its_functions))
                    waiting.append((target, its_functions))
        del found[start]
        return found

    def circles(self) -> list[frozenset[str]]:
        """Sets of modules that import each other, in functions or not: the strongly connected parts of the graph."""
        direct = {
            module: {one.target for one in imports if one.target in self.files}
            for module, imports in self.imports.items()
        }
        reach = {module: _closure(module, direct) for module in direct}
        parts = {frozenset(other for other in reach[module] if module in reach[other]) for module in direct}
        return sorted((part for part in parts if part), key=sorted)

    def _found(self, node: ast.AST, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                for other in child.orelse:
                    yield from self._found(ast.Module([other], []), in_function)
            elif isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(name.name, in_function, child.lineno)
            elif isinstance(child, ast.ImportFrom):
                if child.level or child.module is None:
                    raise ValueError(f"a relative import, in line {child.lineno}: imports are absolute here")
                for name in child.names:
                    submodule = f"{child.module}.{name.name}"
                    is_module = submodule in self.files or submodule in GENERATED
                    yield Import(submodule if is_module else child.module, in_function, child.lineno)
            else:
                inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                if isinstance(child, ast.Call) and ast.unparse(child.func) in LOADERS and child.args:
                    if isinstance(child.args[0], ast.Constant):
                        yield Import(str(child.args[0].value), in_function, child.lineno)
                yield from self._found(child, in_function or inner)


# Modules of the package that only exist once it is built.
GENERATED = ("esam_perception.msg", "esam_perception.srv", "esam_perception.action")
# Calls that import what their first argument names.
LOADERS = ("importlib.import_module", "pytest.importorskip")


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _packages_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _closure(start: str, direct: dict[str, set[str]]) -> set[str]:
    """What is reached from `start` in one step or more; `start` itself only over a circle."""
    found: set[str] = set()
    waiting = list(direct[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += direct[module]
    return found
