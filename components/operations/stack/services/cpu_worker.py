"""The worker of what needs no GPU."""

from components.operations.stack.pool_worker import Worker


class CpuWorker(Worker):
    title = "CPU worker"
    pool = "genwright"


service = CpuWorker()
