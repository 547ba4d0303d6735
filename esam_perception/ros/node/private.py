"""rclpy's private members that the node needs, in one place: transitions, the state machine's end, what it was given."""

from __future__ import annotations

from typing import Any, cast

from rclpy.lifecycle import TransitionCallbackReturn

from esam_perception.ros.node.ending import Gate


class RefusesTransitions:
    """A base that stands before rclpy's LifecycleNode: a transition that the current state does not have is refused, and
    one that is under way passes the gate `under_way`.

    Kilted's rclpy and later ones refuse by themselves. Humble's and Jazzy's raise: the caller gets no answer, and the node
    ends. The overridden methods are private to rclpy, and the same in all supported distributions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.under_way = Gate()
        super().__init__(*args, **kwargs)

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> Any:
        node, rclpys = cast(Any, self), cast(Any, super())
        with self.under_way:
            try:
                return rclpys._LifecycleNodeMixin__change_state(transition_id)
            except RuntimeError as error:  # rclpy's RCLError is one
                node.get_logger().error(f"transition {transition_id} refused: {error}")
                return TransitionCallbackReturn.FAILURE

    def _LifecycleNodeMixin__execute_callback(self, *args: Any) -> Any:
        done = cast(Any, super())._LifecycleNodeMixin__execute_callback(*args)
        # what follows uses the state machine, which the end may have destroyed: that crashes (Kilted)
        self.under_way.pass_by()
        return done


def destroy_state_machine(node: Any) -> None:
    """Give back what a destroyed lifecycle node's state machine holds of DDS and its shared memory.

    rclpy leaves it to the garbage collector, which a thread at work keeps away. The member is private, and the same in
    all supported distributions; where another one has it no more, the garbage collector has its turn as ever."""
    destroy = getattr(getattr(node, "_state_machine", None), "destroy_when_not_in_use", None)
    if destroy is not None:
        destroy()


def parameter_overrides(node: Any) -> dict[str, Any]:
    """The values by name that the command line and parameter files give to a node, declared or not.

    rclpy tells them to nobody: a wrong type ends the node, and a misspelt name is ignored in silence. The member is the same
    in all supported distributions."""
    return {name: parameter.value for name, parameter in getattr(node, "_parameter_overrides").items()}  # noqa: B009
