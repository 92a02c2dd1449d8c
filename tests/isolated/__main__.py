"""Checks that need more than the suite may take: `python -m tests.isolated NAME [ARGUMENT ...]`.

Each is a module with `run(arguments) -> exit code`, imported only when it is asked for.
"""

import importlib
import sys
from typing import Final

from tests.isolated.saying import say

CHECKS: Final = {
    "evidently_drift": "the time that comparing a window with training takes, beside evidently's",
    "feast_export": "an exported feature repository in a real Feast: applied, materialised, asked",
    "compose": "the delivered compose file: server and Prometheus, brought up with podman",
    "image": "the delivered images, built and run with podman",
    "mlflow_export": "an exported model in a real MLflow: loaded, asked, logged to a store and read back",
    "ray_batch": "an Arrow predictor under Ray Data, against the same rows in one process",
    "sbom": "a bill of materials in CycloneDX's own validator",
    "schemathesis": "the server against its own OpenAPI document",
    "openlineage_export": "the lineage of a package in OpenLineage's own client",
    "prometheus": "a real Prometheus with the delivered rules: drift and wrong answers are played, alerts fire",
    "runbook": "every command of the runbook and of rollback.md, installing and training included",
    "workflow": "every line of the delivered workflow, in fresh environments",
}


def main(words: list[str]) -> int:
    """Run one check; without a name, tell which there are."""
    if not words or words[0] not in CHECKS:
        say("\n".join(f"{name:<14}{about}" for name, about in CHECKS.items()))
        return 2
    return importlib.import_module(f"tests.isolated.{words[0]}").run(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
