"""The names of ROS that source files use, read off their syntax trees: what docs/ros_api.md lists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOTS = ("rclpy", "launch", "launch_ros", "ament_index_python", "tf2_ros", "rosidl_runtime_py", "cv_bridge")
SUFFIXES = ("_msgs", "_interfaces", "_srvs")
NODE = "rclpy.lifecycle.LifecycleNode"  # it has all of a plain node's, too
NODE_BASES = ("rclpy.node.Node", NODE)
# What our code calls a node, whatever file it is in.
NODE_NAMES = ("node", "_node")
# What a call or a property gives (a list: its elements), for the members that are used of that.
RESULTS = {
    f"{NODE}.get_logger": "rclpy.impl.rcutils_logger.RcutilsLogger",
    f"{NODE}.get_clock": "rclpy.clock.Clock",
    f"{NODE}.get_parameter": "rclpy.parameter.Parameter",
    f"{NODE}.create_publisher": "rclpy.publisher.Publisher",
    f"{NODE}.create_lifecycle_publisher": "rclpy.publisher.Publisher",
    f"{NODE}.create_subscription": "rclpy.subscription.Subscription",
    f"{NODE}.create_client": "rclpy.client.Client",
    f"{NODE}.create_timer": "rclpy.timer.Timer",
    f"{NODE}.get_publishers_info_by_topic": "rclpy.node.TopicEndpointInfo",
    "rclpy.client.Client.call_async": "rclpy.task.Future",
    "rclpy.clock.Clock.now": "rclpy.time.Time",
    "rclpy.executors.Executor.context": "rclpy.context.Context",
}


def is_ros(module: str) -> bool:
    """Whether a dotted name begins with a package of ROS (ours is none)."""
    root = module.split(".")[0]
    return root in ROOTS or root.endswith(SUFFIXES)


def used(paths: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """thing -> {member: a file that uses it}, of all these files.

    A thing is package.module.name. Its members are what is used of it (a class' or an object's attribute) and, in
    brackets, the keywords that it is called with: rclpy.qos.QoSProfile -> "(depth)"; rclpy.lifecycle.LifecycleNode ->
    "create_timer(clock)". "" stands for itself.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    # a test's stand-in for a node must not hide what real nodes are asked elsewhere
    own = {name for path, tree in trees.items() if "test" not in path.parts for name in _defined(tree)}
    things: dict[str, dict[str, Path]] = {}
    for path, tree in trees.items():
        if "ros" not in path.parts and not any(is_ros(name) for name in _imported(tree)):
            continue
        for name in _Names(tree, own | set(_defined(tree))).found:
            thing, member = _split(name)
            things.setdefault(thing, {}).setdefault(member, path)
    return things


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _split(name: str) -> tuple[str, str]:
    """(thing, member): up to the first class, or up to the keyword of a function, or all."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        plain, bracket, keyword = part.partition("(")
        if plain[:1].isupper() or bracket:
            members = [bracket + keyword] if bracket else []
            # a class within a class (a service's Request) has members of its own; what else has some is no thing of ROS
            members += parts[i + 1 :] if parts[i + 1 : i + 2] and parts[i + 1][0].isupper() else parts[i + 1 : i + 2]
            return ".".join([*parts[:i], plain]), ".".join(members)
    return name, ""


def foreign_private_members(paths: Iterable[Path]) -> set[str]:
    """file: ._name, for each attribute with one underscore that is used and that none of these files defines.

    os._exit is public in spite of its name."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    own = {name for tree in trees.values() for name in _defined(tree)}
    return {
        f"{path.name}: .{node.attr}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and node.attr not in {*own, "_exit"}
    }


def _defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, and of attributes that something is assigned to."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


class _Names(ast.NodeVisitor):
    """found: the dotted names of one file. What is not typed by an import, an assignment, an annotation or the name of
    a node is not seen."""

    def __init__(self, tree: ast.AST, own: set[str]) -> None:
        self.found: set[str] = set()
        self._own = own
        self._bound: dict[str, str] = {}  # name -> dotted name, of imports
        self._names: dict[str, str] = {}  # name -> the class of what it holds, in the function that is visited
        self._attributes: dict[str, str] = {}  # attribute -> the class of what it holds, in the whole file
        self._in_node = [False]
        # the files that read syntax trees have nodes of another kind
        self._nodes = NODE_NAMES
        for node in ast.walk(tree):
            self._import(node)
        self._hold_all(tree)
        self._names.clear()
        self.visit(tree)

    def _import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                if root == "ast":
                    self._nodes = ()
                if is_ros(root):  # `import a.b` binds a
                    self._bound[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and is_ros(node.module):
            for alias in node.names:
                self._bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self.found.add(f"{node.module}.{alias.name}")

    def _hold_all(self, tree: ast.AST) -> None:
        for _ in range(2):  # what an object gives may be held by another name
            for node in ast.walk(tree):
                self._hold(node)

    def _hold(self, node: ast.AST) -> None:
        """Note the class of what a name or an attribute is given."""
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, (ast.For, ast.comprehension)):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.NamedExpr):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.arg) and node.annotation is not None:
            kind = self._resolve(node.annotation)
            if kind.startswith("rclpy.") and node.arg not in self._nodes:
                self._names[node.arg] = kind
            return
        else:
            return
        for target, value in pairs:
            kind = self._class_of(value)
            if kind and isinstance(target, ast.Name) and target.id not in self._nodes:
                self._names[target.id] = kind
            elif kind and isinstance(target, ast.Attribute) and target.attr not in self._nodes:
                self._attributes[target.attr] = kind

    def _class_of(self, value: ast.AST) -> str:
        """The class of an expression's value, of rclpy; else empty."""
        if isinstance(value, ast.Call):
            callee = self._resolve(value.func)
            if callee in RESULTS:
                return RESULTS[callee]
            made = callee.startswith("rclpy.") and callee.rpartition(".")[2][:1].isupper()
            return callee if made and callee not in NODE_BASES else ""
        if isinstance(value, ast.Name):
            return self._names.get(value.id, "")
        if isinstance(value, ast.Attribute):
            return self._attributes.get(value.attr, "") or RESULTS.get(self._resolve(value), "")
        return ""

    def _resolve(self, node: ast.AST) -> str:
        """The dotted name of an expression; empty where it is none of ROS."""
        if isinstance(node, ast.Name):
            return self._bound.get(node.id, "")
        if not isinstance(node, ast.Attribute) or node.attr.startswith("_"):
            return ""
        before = self._class_of(node.value) or self._resolve(node.value)
        if not before and self._is_node(node.value) and node.attr not in self._own:
            before = NODE
        return f"{before}.{node.attr}" if before else ""

    def _is_node(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._nodes or (node.id == "self" and self._in_node[-1])
        return isinstance(node, ast.Attribute) and node.attr in self._nodes

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._in_node.append(any(self._resolve(base) in NODE_BASES for base in node.bases))
        self.generic_visit(node)
        self._in_node.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self._names)
        self._hold_all(node)
        self.generic_visit(node)
        self._names = before

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._resolve(node)
        if name and name not in self._bound.values():
            self.found.add(name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = self._resolve(node.func)
        if name:
            self.found.update(f"{name}({keyword.arg})" for keyword in node.keywords if keyword.arg)
        self.generic_visit(node)
