"""The decisions about a running study. No Ray, no MLflow."""
