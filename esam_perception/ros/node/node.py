"""The lifecycle node `esam`: images and queries in, matches, masks and heatmaps out.

What a frame needs is one immutable Session. Frames and calls take it once; callbacks of the default group replace it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String

from esam_perception import msg
from esam_perception.environment.distro import profile_in_use
from esam_perception.environment.shared_memory import shortage
from esam_perception.errors import EsamError, in_one_line
from esam_perception.ros.health.graph_check import Wanted
from esam_perception.ros.health.health import Health, NodeState
from esam_perception.ros.health.statistics import Statistics
from esam_perception.ros.node import parameters
from esam_perception.ros.node.activation import Activation, Surroundings
from esam_perception.ros.node.depth_input import DepthInput, depth_topics
from esam_perception.ros.node.ending import WORK_SECONDS
from esam_perception.ros.node.locate_service import LocateService, Serving
from esam_perception.ros.node.parameters import BadParameter, Settings
from esam_perception.ros.node.private import RefusesTransitions, destroy_state_machine
from esam_perception.ros.wire import qos
from esam_perception.ros.wire.messages import ROS
from esam_perception.ros.wire.outputs import Outputs
from esam_perception.ros.wire.target_outputs import TargetOutputs
from esam_perception.stream.query_sets import RefusedQuery, parse_query_text, queries_of_message
from esam_perception.stream.query_store import QueryStore, QueryStoreError
from esam_perception.stream.session import Model, Session
from esam_perception.stream.turns import NotActive, PipelineTurns
from esam_perception.types import Query

Work = Callable[[], None]
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR


class EsamNode(RefusesTransitions, LifecycleNode):
    """See docs in README.md; topics, messages and parameters are the package's public contract."""

    def __init__(self) -> None:
        # before this process takes its own part of it, which it does with its first node
        transport_problem = shortage(profile_in_use())
        super().__init__("esam")
        # what destroy_node() needs first: ROS calls it also where what follows fails
        self._session: Session | None = None
        self._activation: Activation | None = None
        self._ending = False
        self._settings, self._wrong_parameters = parameters.declare(self)
        self._statistics = Statistics()
        self._queries: tuple[Query, ...] = ()
        self._restored = 0
        self._fatal = ""
        self._outputs = Outputs(self)
        self._depth = DepthInput(self, self._statistics, TargetOutputs(self, self._statistics))
        self._health = Health(self, self._statistics, self._state)
        self._remarks = self._first_remarks(transport_problem)
        self._query_topic = self._subscribe("~/query", String, lambda message: parse_query_text(message.data))
        self._queries_topic = self._subscribe("~/queries", msg.QueryArray, queries_of_message)
        # several calls may wait at once, beside everything else
        self._locate_service = LocateService(
            self, self._settings.locate_queue, ReentrantCallbackGroup(), self._serving, self.refuse
        )
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._store = QueryStore.of_node(self.get_fully_qualified_name()) if self._settings.keep_queries else None
        if not self._restore():
            self._take_queries("parameter queries", lambda: parse_query_text(self._settings.queries))
        if self._settings.autostart:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._starter = self.create_timer(0.0, self._start, clock=steady)

    def _first_remarks(self, transport_problem: str) -> tuple[str, ...]:
        """What people should know of how this node was started, said once in the log, and in diagnostics for good."""
        unknown = parameters.unknown_names(self)
        remarks = [f"parameter {name} is none of this node's and is ignored: is it misspelt?" for name in unknown]
        remarks += [transport_problem] if transport_problem else []
        for remark in remarks:
            self.get_logger().warning(remark)
        return tuple(remarks)

    # lifecycle -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Autostart, once: configure and activate."""
        self._starter.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model."""
        return self._transition("configure", self._configure, FAILURE, self._free)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the worker."""
        super().on_activate(state)
        done = self._transition("activate", self._activate, FAILURE, self._stop)
        if done != SUCCESS:
            super().on_deactivate(state)
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inference, the service's too; the models stay loaded."""
        done = self._transition("deactivate", self._stop, ERROR)
        super().on_deactivate(state)
        return done

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the models."""
        return self._transition("cleanup", self._free, ERROR)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state."""
        return self._transition("shutdown", self._stop_and_free, ERROR)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed half-way: back to unconfigured, from where everything can be tried again."""
        return self._transition("clearing up after an error", self._stop_and_free, FAILURE)

    def _transition(
        self, name: str, work: Work, failed: TransitionCallbackReturn, undo: Work = lambda: None
    ) -> TransitionCallbackReturn:
        """Do the work of a transition. rclpy swallows what its callbacks raise: here it is said in the log and on
        /diagnostics, what was half done is undone, and `failed` returned."""
        try:
            work()
        except Exception as error:
            if self.context.ok():
                self._fatal = f"{name} failed: {in_one_line(error)}"
                self.get_logger().error(self._fatal)
                self._statistics.problem(self._fatal)
                self._health.soon()
            undo()
            return failed
        self._fatal = ""
        return SUCCESS

    def _configure(self) -> None:
        if self._wrong_parameters:
            raise BadParameter("; ".join(self._wrong_parameters.values()))
        # torch takes seconds to import: not before it is needed
        import torch

        from esam_perception.computing import choose_threads
        from esam_perception.pipeline import Pipeline

        settings, log = self._settings, self.get_logger()
        began = time.monotonic()
        log.info(f"loading model '{settings.model}' on device '{settings.device}' ...")
        torch.set_num_threads(settings.threads or choose_threads())
        self._depth.configure(depth_topics(settings, self, self._image_base(settings)), settings.target_frame)
        pipeline = Pipeline.from_profile(settings.model, settings.device, settings.precision)
        # the first inference allocates and chooses kernels: not on the robot's first frame
        pipeline.warm_up()
        provenance, profile = pipeline.provenance, pipeline.profile
        for note in provenance.notes:
            log.warning(note)
        model = Model(PipelineTurns(pipeline), provenance, profile.verdict, profile.fusion.alpha)
        self._session = self._first_session(model)
        log.info(
            f"model '{provenance.profile}' on {provenance.device} ({provenance.precision}, {torch.get_num_threads()} CPU "
            f"threads) in {time.monotonic() - began:.1f} s"
        )

    def _first_session(self, model: Model) -> Session:
        """With the queries that came before the model did; those that it cannot take are refused one by one."""
        session, kept = Session(model, self._settings.options()), []
        for query in self._queries:
            try:
                session.check([query])
                kept.append(query)
            except RefusedQuery as error:
                self.refuse(self._query_topic, error.reason, str(error))
        if len(kept) < len(self._queries):
            self._announce(tuple(kept))
        return session.with_queries(tuple(kept))

    def _activate(self) -> None:
        settings = self._settings
        around = Surroundings(self, self._current_session, self.refuse, self._statistics, self._outputs)
        try:
            self._activation = Activation(around, settings, self._image_topic(settings), self._depth)
        except InvalidTopicNameException as error:
            raise BadParameter(str(error)) from error
        self._current_session().model.turns.resume()
        self.get_logger().info(f"active: images from {self._activation.image_topic}, {len(self._queries)} queries")

    def _stop(self) -> None:
        """End what lives while the node is active. Safe to call twice."""
        activation, self._activation = self._activation, None
        if self._session is not None and not self._ending:
            self._session.model.turns.pause()
        if activation is not None:
            # an inference that hangs must not keep the node from ending
            activation.stop(0.0 if self._ending else None)

    def _free(self) -> None:
        session, self._session = self._session, None
        self._depth.cleanup()
        if session is not None:
            session.model.turns.close()
            from esam_perception.computing import free_memory  # torch, which is loaded by now

            del session
            free_memory()

    def _stop_and_free(self) -> None:
        self._stop()
        self._free()

    def destroy_node(self) -> None:
        """Give the work under way some time, and stop before ROS goes away under it."""
        self._ending = True
        if self._activation is not None:
            self._activation.take_no_more()
        if self._session is not None:
            self._session.model.turns.refuse()
        self.under_way.close(WORK_SECONDS)
        self._stop()
        super().destroy_node()
        destroy_state_machine(self)

    def _current_session(self) -> Session:
        if self._session is None:
            raise NotActive("the node is not configured: no model is loaded")
        return self._session

    def _serving(self) -> Serving | None:
        session, activation = self._session, self._activation
        return Serving(session, activation) if session and activation else None

    def _image_base(self, settings: Settings) -> str:
        """The topic of the images, without /compressed."""
        return str(self.resolve_topic_name(settings.image or "image"))

    def _image_topic(self, settings: Settings) -> str:
        """The topic that is subscribed to."""
        return self._image_base(settings) + ("/compressed" if settings.image_transport == "compressed" else "")

    # queries and parameters ------------------------------------------------------------------------------------

    def _subscribe(self, name: str, kind: type, parse: Callable[..., tuple[Query, ...]]) -> str:
        """Take the active queries from a topic; returns its full name."""
        topic = str(self.resolve_topic_name(name))
        self.create_subscription(
            kind, name, lambda message: self._take_queries(topic, lambda: parse(message)), qos.QUERY
        )
        return topic

    def _take_queries(self, topic: str, parse: Callable[[], tuple[Query, ...]]) -> None:
        """Replace the active queries by what `parse` returns; what it refuses leaves them as they are."""
        try:
            queries = parse()
            if self._session is not None:
                self._session.check(queries)
                self._session = self._session.with_queries(queries)
        except RefusedQuery as error:
            self.refuse(topic, error.reason, str(error))
            return
        self._announce(queries)

    def _restore(self) -> bool:
        """Take up the queries that this node had when it died. Returns whether any set was kept."""
        try:
            queries = self._store.load() if self._store else None
        except QueryStoreError as error:
            self.refuse("keep_queries", error.reason, str(error))
            return False
        if queries is None:
            return False
        self.get_logger().info(f"restored {len(queries)} active queries, which were kept when the node ended")
        self._announce(queries)
        self._restored = len(queries)
        return True

    def _announce(self, queries: tuple[Query, ...]) -> None:
        """These are the active queries from now on."""
        news = queries != self._queries
        self._queries = queries
        self._restored = 0
        try:
            if self._store:
                self._store.save(queries)
        except QueryStoreError as error:
            self.refuse("keep_queries", error.reason, str(error))
        self._outputs.publish_queries(queries, ROS.header(self.get_clock().now().nanoseconds, ""))
        if news:
            texts = "; ".join(query.text for query in queries)[:200]
            self.get_logger().info(f"{len(queries)} active queries: {texts}", throttle_duration_sec=1.0)

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Take a change whole, or refuse it whole with a reason."""
        values = {change.name: change.value for change in changes}
        try:
            settings = self._settings.changed(values)
            parameters.check_time(values, self._session is not None, self._activation is not None)
            queries = parse_query_text(settings.queries) if "queries" in values else self._queries
            session = self._session
            if session is not None:
                session = Session(session.model, settings.options(), queries)
                session.check(queries)
        except EsamError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings, self._session = settings, session
        for name in values:
            self._wrong_parameters.pop(name, None)
        if "queries" in values:
            self._announce(queries)
        return SetParametersResult(successful=True)

    def refuse(self, topic: str, reason: str, detail: str) -> None:
        """Count it, say it on /diagnostics soon, and in the log once a second at most. Any thread; never raises."""
        if topic.startswith(f"{self.get_fully_qualified_name()}/"):
            topic = topic.removeprefix(self.get_namespace().rstrip("/") + "/")
        self._statistics.refuse(topic, reason, detail)
        self._health.soon()
        with contextlib.suppress(RuntimeError):  # of a node that is being destroyed; counted it is
            self.get_logger().warning(f"refused: {topic}: {reason}: {detail}", throttle_duration_sec=1.0)

    # diagnostics -----------------------------------------------------------------------------------------------

    def _state(self) -> NodeState:
        session, activation = self._session, self._activation
        provenance = session.model.provenance if session else None
        return NodeState(
            fatal=self._fatal,
            active=activation is not None,
            image_topic=self._image_topic(self._settings),
            model=provenance.profile if provenance else "none",
            device=provenance.device if provenance else "none",
            warnings=(*self._remarks, *(provenance.notes if provenance else ())),
            queries=len(self._queries),
            restored=self._restored,
            degradation=activation.degradation if activation else "none",
            wanted=[
                Wanted(self._query_topic, "std_msgs/msg/String", qos.QUERY),
                Wanted(self._queries_topic, "esam_perception/msg/QueryArray", qos.QUERY),
                *(activation.wanted if activation else ()),
            ],
        )
