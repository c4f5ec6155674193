"""The worker of trainings: one run at once, as one GPU has room for. Where there is no GPU it works on the CPU."""

from components.operations.stack.pool_worker import Worker


class GpuWorker(Worker):
    title = "GPU worker"
    pool = "genwright-gpu"
    limit = 1


service = GpuWorker()
