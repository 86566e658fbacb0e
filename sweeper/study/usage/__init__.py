"""What a study may use, and what it has used."""
