"""Training beside other work: an ensemble's configurations, one by one, in a process of its own."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue

from histojax.config import Boosting
from histojax.learners import boost, ensembles
from histojax.learners.training import TrainingJob
from histojax.utils import processes
from histojax.utils.progress import from_to, now

# Added to the process's niceness: what is trained beside other work gives way to it.
_NICENESS = 10


@contextlib.contextmanager
def training(
    job: TrainingJob, boosting: Boosting, workers: int
) -> Iterator[Callable[[tuple[str, ...]], None]]:
    """Yields a function that takes configurations whose descriptors are there, to be trained.

    At the end of the block, also after an error, the models that are being trained are finished and
    the others are left: `boost.train` goes on from there, and raises what went wrong here. The
    models are the same bit for bit.

    Args:
      job: descriptors, folds and models; its configurations are the ones that may be passed.
      boosting: the learner's parameters.
      workers: processes, each with one thread.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_train, args=(queue, job, boosting, workers, os.getpid()))
    with processes.interrupts_held():  # Ctrl-C is the parent's, which then ends this process.
        process.start()
    try:
        yield queue.put
    finally:
        process.terminate()
        process.join()


def _train(
    queue: "Queue[tuple[str, ...]]", job: TrainingJob, boosting: Boosting, workers: int, parent: int
) -> None:
    """Trains configurations as they come, until it is terminated; tells in a line when."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes.exit_when_parent_dies(parent)
    os.nice(_NICENESS)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.suppress(KeyboardInterrupt, Exception),
    ):
        while True:
            part = dataclasses.replace(job, configurations=queue.get())
            missing = part.start(boosting.learner, boosting).values()
            start = now()
            try:
                boost.train(part, boosting, workers)
            finally:
                paths = [path for by_model in missing for path in by_model.values()]
                if done := sum(map(ensembles.is_finished, paths)):
                    names = ", ".join(part.configurations)
                    print(f"training: {names}, {done} models, {from_to(start)}", flush=True)
