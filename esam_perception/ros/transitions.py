"""Lifecycle transitions that cannot be made are refused, on every distribution."""

from __future__ import annotations

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn


class RefusingLifecycleNode(LifecycleNode):
    """A LifecycleNode that outlives a request for a transition that its state does not have.

    rclpy of Humble and Jazzy lets rcl's error out of the service's callback, which ends the executor and with it the
    node, and the caller is never answered; Kilted's answers that it failed, as this does everywhere.
    """

    # the name under which rclpy's own callback finds it; where a newer rclpy calls it otherwise, this is never called
    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except RuntimeError as error:  # rcl's errors are
            self.get_logger().error(f"transition {transition_id} refused: {error}")
            return TransitionCallbackReturn.ERROR
