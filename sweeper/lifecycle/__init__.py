"""What the verbs for a study's life do: run, resume, stop, winners."""
