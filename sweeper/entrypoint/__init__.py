"""The trainer that a spec names, and how it is called."""
