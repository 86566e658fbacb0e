"""The names under which a trial is recorded in MLflow."""

from sweeper.tracking.schema import checkpoint_sums


def test_checksums_of_older_records_are_read_too() -> None:
    tags = {"sweeper.sha256.epoch_001": "old", "mlflow.sweeper.sha256.epoch_002": "new", "sweeper.state": "COMPLETE"}
    assert checkpoint_sums(tags) == {"epoch_001": "old", "epoch_002": "new"}
