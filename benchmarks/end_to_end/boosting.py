"""Baseline: pandas, scikit-learn's HistGradientBoosting with its defaults, MLflow.

Run as `python -m benchmarks.end_to_end.boosting CASE FOLDER STORE`.
"""

from __future__ import annotations

from benchmarks.end_to_end.baseline import read_arguments, score
from benchmarks.end_to_end.stopwatch import begin, finish

_MOST_CATEGORIES = 255
"""HistGradientBoosting takes no categorical feature with more."""


def main() -> None:
    """Read, train, evaluate, log and register."""
    begin("imports")
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    from benchmarks.end_to_end.frames import read_table

    case, folder, store = read_arguments()
    begin("reading and features")
    table = read_table(case, folder)
    train, _, test = table.parts
    features = np.concatenate([table.numbers, table.codes], axis=1)
    width = table.numbers.shape[1]
    categorical = [width + index for index, count in enumerate(table.cardinalities) if count <= _MOST_CATEGORIES]
    begin("training")
    model = HistGradientBoostingClassifier(categorical_features=categorical, random_state=1)
    model.fit(features[train], table.label[train])
    begin("evaluation")
    metrics = score(table.label[test], model.predict_proba(features[test])[:, 1])
    begin("logging and registering")
    import mlflow

    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(case)
    with mlflow.start_run():
        mlflow.log_params(model.get_params())
        mlflow.log_metrics({f"test.{name}": value for name, value in metrics.items()})
        # skops, MLflow's default, needs a list of the trusted types of scikit-learn.
        mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="cloudpickle",
            input_example=features[:2],
            registered_model_name=f"{case}-boosting",
        )
    finish(metrics)


if __name__ == "__main__":
    main()
