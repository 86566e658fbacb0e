"""From the outbox into MLflow: the operations, the thread that repeats them, and what writes them into runs."""
