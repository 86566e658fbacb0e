"""The embedded hand, rendered in the layouts of the published sets."""
