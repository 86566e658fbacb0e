"""MLflow's store: its database, its address, and what happens to it when a home is moved."""
