"""Many runs at once: one stream of blocks keeps every worker busy, however short a run is.

A run of one ensemble, or of a `Group` of ensembles that share one draw, begins with a block
by itself, to which its histograms are fitted; its other blocks follow once that is back.
Meanwhile the workers begin the next runs. Blocks are folded strictly in the order of each
run, so the order in which they happen to end changes no bit.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sigprop import work
from sigprop.errors import NonFinite, SpecError
from sigprop.label import estimates, members
from sigprop.work import PENDING, Fold

if TYPE_CHECKING:
    from sigprop.observables import Variable
    from sigprop.request import Request

__all__ = ["Group", "Outcome", "flow"]


@dataclass(frozen=True)
class Group:
    """Ensembles that are run together; one alone, or several that share one draw.

    Attributes
    ----------
    requests : tuple of Request
        Alike in all but the ensemble.
    names : tuple of str
        What to call each in a message; empty for none.
    tag : object
        Whatever the caller needs to know it again.
    """

    requests: tuple[Request, ...]
    names: tuple[str, ...] = ()
    tag: Any = None

    def check(self) -> None:
        """Raise SpecError unless the requests can be run together."""
        one = self.requests[0]
        for other in self.requests[1:]:
            for what, a, b in (
                ("the layers recorded", one.layers.tolist(), other.layers.tolist()),
                ("what is observed", one.observables, other.observables),
                ("the number of inputs", one.ensemble.inputs.count, other.ensemble.inputs.count),
                ("the sampler", one.sampler.name, other.sampler.name),
            ):
                if a != b:
                    raise SpecError(
                        f"ensembles cannot be coupled: {what} would be {_brief(a)} for the first "
                        f"and {_brief(b)} for another, and one draw serves them all. Name layers, "
                        "observables and a sampler that all have, or run them apart."
                    )


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Outcome:
    """What came of a group: the variables of each ensemble, and the time that it took.

    ``seconds`` is that of one network of one ensemble in its first block, drawn and observed:
    it is measured, and differs from run to run.
    """

    variables: list[dict[str, Variable]]
    seconds: float


@dataclass
class _Course:
    """A group on its way."""

    group: Group
    begun: Future[Any]
    job: work.Job
    folds: list[Fold] = field(default_factory=list)
    pending: deque[Future[Any]] = field(default_factory=deque)
    submitted: int = 1
    seconds: float = 0.0

    @property
    def request(self) -> Request:
        return self.group.requests[0]

    @property
    def blocks(self) -> int:
        return -(-self.request.replicas // self.request.block)

    @property
    def replicas(self) -> int:
        """Replicas folded so far."""
        folded = self.folds[0].blocks if self.folds else 0
        return min(folded * self.request.block, self.request.replicas)

    @property
    def complete(self) -> bool:
        return bool(self.folds) and self.folds[0].blocks == self.blocks

    def ready(self) -> bool:
        """Whether there is a block to submit."""
        return self.submitted < self.blocks and bool(self.folds)

    def submit(self, pool: Executor) -> None:
        block = self.request.block
        first = self.submitted * block
        count = min(block, self.request.replicas - first)
        self.pending.append(pool.submit(work.work, self.job, first, count))
        self.submitted += 1

    def take(self) -> None:
        """Fold the next block in order, waiting for it."""
        try:
            if not self.folds:
                begun = self.begun.result()
                self.job = dataclasses.replace(self.job, observables=begun.observables)
                self.seconds = begun.seconds
                self.folds = [Fold()] * len(begun.done)
                done = begun.done
            else:
                done = self.pending[0].result()
                self.pending.popleft()
        except NonFinite as error:
            raise NonFinite(self._named(str(error))) from error
        self.folds = [
            fold.plus(observables, part)
            for fold, observables, part in zip(self.folds, self.job.observables, done, strict=True)
        ]

    def _named(self, message: str) -> str:
        names = self.group.names
        if not names:
            return message
        return f"at {names[0]}{f' .. {names[-1]}' if len(names) > 1 else ''}: {message}"

    def absorb(self) -> None:
        """Fold what is there already; what failed waits until those before are done."""
        while True:
            if not self.folds:
                following: Future[Any] | None = self.begun
            else:
                following = self.pending[0] if self.pending else None
            if following is None or not following.done() or following.exception() is not None:
                return
            self.take()

    def outcome(self) -> Outcome:
        found: list[dict[str, Variable]] = []
        requests = self.group.requests
        for batch, observables, fold in zip(
            self.job.batches, self.job.observables, self.folds, strict=True
        ):
            limit = requests[batch][0].ensemble.table.law.moment_limit
            variables = estimates(observables, fold, limit)
            found += members(variables, len(requests[batch]))
        networks = min(self.request.block, self.request.replicas) * len(requests)
        return Outcome(found, self.seconds / networks)


def flow(
    groups: Iterable[Group],
    pool: Executor,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    total: int | None = None,
    done: int = 0,
) -> Iterator[tuple[Group, Outcome]]:
    """Run the groups and yield each as it ends.

    Parameters
    ----------
    groups : iterable of Group
        Taken one by one as workers become free.
    pool : Executor
    workers : int
        How many blocks it works on at a time.
    progress : callable, optional
        Called with (networks done, networks in all).
    total, done : int
        Networks in all (default: those of the first group), and those done before.

    Raises
    ------
    NonFinite
        If a number is; the message names the point.
    """
    coming, courses = iter(groups), deque[_Course]()
    checked = False

    def begin() -> bool:
        nonlocal checked, total
        group = next(coming, None)
        if group is None:
            return False
        request = group.requests[0]
        job = work.job_of(group.requests)
        if not checked:
            work.check_travels(job, pool)
            checked = True
        if total is None:
            total = request.replicas * len(group.requests)
        count = min(request.block, request.replicas)
        future = pool.submit(work.begin, job, request.observables, count)
        courses.append(_Course(group, future, job))
        return True

    def fill() -> None:
        busy = sum(not f.done() for c in courses for f in (c.begun, *c.pending))
        while busy < PENDING * workers:
            ready = next((course for course in courses if course.ready()), None)
            if ready is not None:
                ready.submit(pool)
            elif len(courses) >= 2 * workers or not begin():
                return
            busy += 1

    try:
        while True:
            fill()
            if not courses:
                return
            # The oldest has a block on its way: `fill` serves it first, and what it finished
            # last has left a place in the window.
            courses[0].take()
            for course in courses:
                course.absorb()
            if progress and total is not None:
                under_way = sum(c.replicas * len(c.group.requests) for c in courses)
                progress(done + under_way, total)
            for course in [c for c in courses if c.complete]:
                courses.remove(course)
                done += course.request.replicas * len(course.group.requests)
                yield course.group, course.outcome()
    finally:
        for course in courses:
            for future in (course.begun, *course.pending):
                future.cancel()
