"""The durable truth about a study."""
