# pyright: basic, reportMissingImports=false
"""Runs inside MLflow's environment: load a model as its users do, predict rows.csv, tell it as one line of JSON.

`with_mlflow.py MODEL [URL RUN]`: MODEL is a directory or `models:/name/version`; with a tracking server also the
metrics and the state of a run. Knows nothing of the project.
"""

import json
import sys

import mlflow
import mlflow.onnx
import mlflow.pyfunc
import pandas as pd


def main(model: str, url: str = "", run: str = "") -> None:
    """Load, predict and tell."""
    if url:
        mlflow.set_tracking_uri(url)
    loaded = mlflow.pyfunc.load_model(model)
    frame = pd.read_csv("rows.csv", dtype={"code": str})
    answers = loaded.predict(frame)
    probabilities = [name for name in answers.columns if name.startswith("probability_")]
    told = {
        "answers": [
            {
                "prediction": row["prediction"],
                "probabilities": {name.removeprefix("probability_"): row[name] for name in probabilities},
            }
            for row in answers.to_dict("records")
        ],
        "inputs": json.loads(loaded.metadata.signature.to_dict()["inputs"]),
        "examples": len(loaded.predict(loaded.input_example)),
    }
    mlflow.onnx.load_model(model)
    if run:
        found = mlflow.MlflowClient().get_run(run)
        told |= {"metrics": found.data.metrics, "status": found.info.status}
    sys.stdout.write(json.dumps(told) + "\n")


main(*sys.argv[1:])
