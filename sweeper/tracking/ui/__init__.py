"""MLflow's web page, opened on a study's candidates."""
