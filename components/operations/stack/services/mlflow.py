"""MLflow: on SQLite and a folder of the home, or on PostgreSQL and S3."""

import sys
from collections.abc import Mapping, Sequence

from components.operations.stack import postgres
from components.operations.stack.http import succeeds
from components.operations.stack.service import Service
from components.operations.stack.stack import BUCKET, HOST, Stack

QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Mlflow(Service):
    title = "MLflow"
    after = ("postgres", "seaweedfs")
    port = ("mlflow", 5000)

    def prepare(self, stack: Stack) -> None:
        if stack.form.team:
            postgres.make_database(stack, "mlflow")

    def command(self, stack: Stack) -> Sequence[str]:
        serving = ["--serve-artifacts", "--host", HOST, "--port", str(stack.port("mlflow")), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "server", *serving]

    def environment(self, stack: Stack) -> Mapping[str, str]:
        """Where it keeps things stands here and not in its command: the database's address has a password."""
        if stack.form.team:
            own = stack.s3_exports | {
                "MLFLOW_BACKEND_STORE_URI": stack.database("mlflow"),
                "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
                "MLFLOW_S3_ENDPOINT_URL": stack.url("s3"),
            }
        else:
            own = {
                "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{stack.home.mlflow_database}",
                "MLFLOW_ARTIFACTS_DESTINATION": str(stack.home.mlflow_artifacts),
            }
        return QUIET | own

    def answers(self, stack: Stack) -> bool:
        return succeeds(f"{stack.url('mlflow')}/health")

    def address(self, stack: Stack) -> str:
        return stack.url("mlflow")


service = Mlflow()
