"""What MLflow has recorded: a trial is found, read, registered as a model, and compared with from here."""
