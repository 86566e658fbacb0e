"""MLflow's store: its database, its address, and what becomes of it when a home moves."""
