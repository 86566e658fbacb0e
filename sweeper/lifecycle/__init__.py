"""What the verbs of a study's life do: run, resume, stop, winners."""
